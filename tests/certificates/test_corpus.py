"""Files that other programs wrote, with known outcomes: ../shared/pfx and its manifest.

The manifest's words are explained in the README beside it. Files that are read run in this process, as the child
would read them; files that must be refused, and one of each producer, run in a child, inside its limits.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from certificates import pkcs12
from certificates.diagnosis import Refusal
from certificates.facts import facts

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "pfx"

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.filterwarnings("ignore:PKCS#12 bundle could not be parsed as DER"),
]

# Two passwords whose JSON was escaped twice on its way into the manifest.
PASSWORDS = {"openssl30/pw_quotes.p12": "\"'`$(id)\\", "synth/nul_in_pw.p12": "Passw0rd!\0tail"}

# Well-formed files with one key and one certificate that are refused all the same: what is said, and why.
NOT_READ = {
    "spring-boot/chains.p12": ("several_keys", "five keys"),
    "spring-boot/chains2.p12": ("several_keys", "two keys"),
    "openssl/nomac_parse.p12": ("unsupported_protection", "a safe encrypted to a public key"),
    "openssl/v3-certs-RC2.p12": ("unreadable_certificate", "a certificate that is not strict DER"),
    "openssl/v3-certs-TDES.p12": ("unreadable_certificate", "a certificate that is not strict DER"),
}

# What each kind of failure may be called.
FAILURES = {
    "fail:password": {"wrong_password_or_damaged", "password_not_expressible"},
    "fail:corrupt": {
        "damaged",
        "truncated",
        "not_pkcs12",
        "contents_not_readable",
        "wrong_password_or_damaged",
        "limit_exceeded",
    },
    "fail:mac": {"wrong_password_or_damaged", "damaged"},
    "fail:limit": {"limit_exceeded"},
    "fail:format-hint": {"not_pkcs12"},
    "fail:key-password-differs": {"contents_not_readable"},
}

# What is said of a well-formed file that lacks something, or that a reader may refuse.
REASONS = {
    "ok-certs-only": "no_private_key",
    "ok-key-only": "no_certificate",
    "ok-multikey": "several_keys",
    "ok-or-corrupt": "contents_not_readable",
    "ok-or-limit": "limit_exceeded",
    "ok-or-unsupported": "unsupported_protection",
}


def manifest() -> list[dict[str, str]]:
    if not FOLDER.is_dir():
        return []
    with (FOLDER / "manifest.tsv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


ROWS = manifest()


def password_of(row: dict[str, str]) -> str:
    return PASSWORDS.get(row["file"]) or json.loads(row["password_json"]) or ""


def rows(*prefixes: str) -> list[object]:
    return [pytest.param(row, id=row["file"]) for row in ROWS if row["expected"].startswith(prefixes)]


def outcome_of(read: Callable[[bytes, str], pkcs12.Identity], file: bytes, password: str) -> pkcs12.Identity | Refusal:
    try:
        return read(file, password)
    except Refusal as refusal:
        return refusal


def check_identity(identity: pkcs12.Identity, row: dict[str, str]) -> None:
    found = facts(identity.certificate, identity.chain)
    family, _, rest = row["key"].partition("/")
    assert found.key_kind.split()[0] == family.removesuffix("PrivateKey").replace("EllipticCurve", "EC")
    if rest:
        assert found.key_bits == int(rest.split("/")[0])
    assert len(identity.chain) <= int(row["extra_certificates"] or 0)


def test_the_whole_corpus_is_here() -> None:
    assert len(ROWS) == 325
    assert all((FOLDER / row["file"]).is_file() for row in ROWS)


@pytest.mark.parametrize("row", rows("ok"))
def test_a_well_formed_file_is_read_or_the_reason_is_said(row: dict[str, str]) -> None:
    file, password = (FOLDER / row["file"]).read_bytes(), password_of(row)
    complete = row["expected"] == "ok" and row["key"] and row["has_certificate"] == "yes"
    outcome = outcome_of(pkcs12.read, file, password)
    if isinstance(outcome, pkcs12.Identity):
        assert row["file"] not in NOT_READ, "this file can be read now: take it off the list"
        check_identity(outcome, row)
    elif row["file"] in NOT_READ:
        assert outcome.code == NOT_READ[row["file"]][0]
    elif row["expected"] == "ok":
        assert not complete, outcome
        assert outcome.code == ("no_certificate" if row["key"] else "no_private_key")
    else:
        assert outcome.code == REASONS[row["expected"]], outcome


@pytest.mark.parametrize("row", rows("fail", "password-unknown", "unspecified", "policy"))
def test_a_file_that_should_fail_is_refused_inside_the_limits(row: dict[str, str], tmp_path: Path) -> None:
    file, password = (FOLDER / row["file"]).read_bytes(), password_of(row)
    started = time.monotonic()
    outcome = outcome_of(partial(pkcs12.read_in_child, places=tmp_path / "places"), file, password)
    if isinstance(outcome, pkcs12.Identity):
        assert not row["expected"].startswith("fail"), "a file that must be refused was read"
    elif row["expected"] in FAILURES:
        assert outcome.code in FAILURES[row["expected"]], outcome
    if row["expected"] == "fail:limit":
        assert time.monotonic() - started < 2, "refused, but only after the work was done"


def one_of_each_producer() -> list[object]:
    chosen: dict[str, dict[str, str]] = {}
    for row in ROWS:
        if row["expected"] == "ok" and row["has_certificate"] == "yes" and row["file"] not in NOT_READ:
            chosen.setdefault(row["file"].split("/")[0], row)
    return [pytest.param(row, id=row["file"]) for row in chosen.values()]


@pytest.mark.parametrize("row", one_of_each_producer())
def test_the_child_reads_files_of_every_producer(row: dict[str, str], tmp_path: Path) -> None:
    file, password = (FOLDER / row["file"]).read_bytes(), password_of(row)
    assert pkcs12.read_in_child(file, password, places=tmp_path / "places") == pkcs12.read(file, password)


@pytest.mark.parametrize("name", ["dos/key_rsa16384.p12", "synth/mixed_pw.p12", "synth/trunc_90.p12"])
def test_a_refusal_says_the_same_from_a_child_as_from_here(name: str, tmp_path: Path) -> None:
    file = (FOLDER / name).read_bytes()
    said = []
    for read in (pkcs12.read, lambda *args: pkcs12.read_in_child(*args, places=tmp_path / "places")):
        with pytest.raises(Refusal) as refused:
            read(file, "Passw0rd!")
        said.append(str(refused.value))
    assert said[0] == said[1]
