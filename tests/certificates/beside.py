"""The library's own reader, beside ours: the same key and certificate wherever both read."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization import pkcs12 as library

from certificates.identities import Identity


def explained() -> dict[str, str]:
    """Each file that only one of the two reads; the reason stands beside it in the table."""
    with Path(__file__).with_name("one_of_two.tsv").open(newline="", encoding="utf-8") as lines:
        return {row["file"]: row["who"] for row in csv.DictReader(lines, delimiter="\t")}


EXPLAINED = explained()


def compare_with_the_library(name: str, file: bytes, password: str, ours: Identity | str) -> None:
    """`ours` is what we read, or the code of our refusal."""
    theirs = by_the_library(file, password)
    if isinstance(ours, Identity) and theirs is not None:
        assert (ours.key, ours.certificate) == theirs
        said = None
    elif isinstance(ours, Identity):
        said = "only here"
    else:
        said = None if theirs is None else f"only the library: {ours}"
    assert said == EXPLAINED.get(name), name


def by_the_library(file: bytes, password: str) -> tuple[bytes, bytes] | None:
    """Key and certificate as the library reads them; None where it does not, or finds only one of them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = library.load_pkcs12(file, password.encode())
    except (ValueError, UnsupportedAlgorithm, TypeError):
        return None
    if loaded.key is None or loaded.cert is None:
        return None
    key = loaded.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return key, loaded.cert.certificate.public_bytes(Encoding.DER)
