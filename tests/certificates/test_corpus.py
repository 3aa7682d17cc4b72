"""Files that other programs wrote, with known outcomes: the folder that PFX_CORPUS names, and its manifest.

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
from certificates.identities import Identity
from tests.certificates.beside import compare_with_the_library
from tests.conftest import CORPUS
from tests.readers import read_in_child

FOLDER = CORPUS

pytestmark = pytest.mark.corpus

# Two passwords whose JSON was escaped twice on its way into the manifest.
PASSWORDS = {"openssl30/pw_quotes.p12": "\"'`$(id)\\", "synth/nul_in_pw.p12": "Passw0rd!\0tail"}

# What each kind of failure may be called.
FAILURES = {
    "fail:password": {"wrong_password", "password_not_expressible"},
    "fail:corrupt": {"damaged", "truncated", "not_pkcs12", "limit_exceeded"},
    "fail:mac": {"damaged"},
    "fail:limit": {"limit_exceeded"},
    "fail:format-hint": {"not_pkcs12"},
    "fail:key-password-differs": {"entry_password_differs"},
    "fail:corrupt-or-unsupported": {"damaged", "unsupported_algorithm"},
}


def refused() -> dict[str, str]:
    """File by file, what is said of it, from the table beside this file; every other one is read."""
    with Path(__file__).with_name("refused.tsv").open(newline="", encoding="utf-8") as lines:
        return {row["file"]: row["code"] for row in csv.DictReader(lines, delimiter="\t")}


REFUSED = refused()


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


def outcome_of(read: Callable[[bytes, str], Identity], file: bytes, password: str) -> Identity | Refusal:
    try:
        return read(file, password)
    except Refusal as refusal:
        return refusal


def check_identity(identity: Identity, row: dict[str, str]) -> None:
    found = facts(identity.certificate, identity.chain)
    family, _, rest = row["key"].partition("/")
    if row["has_certificate"] != "yes":
        return  # what the table's reader could not join, it does not tell
    assert found.key_kind.split()[0].rstrip(",") == family.removesuffix("PrivateKey").replace("EllipticCurve", "EC")
    if rest:
        assert found.key_bits == int(rest.split("/")[0])
    assert len(identity.chain) <= int(row["extra_certificates"] or 0)


def test_the_whole_corpus_is_here() -> None:
    assert len(ROWS) == 325
    assert all((FOLDER / row["file"]).is_file() for row in ROWS)


def test_the_table_knows_no_other_files_and_calls_each_failure_by_its_kind() -> None:
    expected = {row["file"]: row["expected"] for row in ROWS}
    assert REFUSED.keys() <= expected.keys()
    for file, code in REFUSED.items():
        if expected[file].startswith("fail:"):
            assert code in FAILURES[expected[file]], file
    assert all(file in REFUSED for file, kind in expected.items() if kind.startswith("fail:"))


@pytest.mark.parametrize("row", rows("ok"))
def test_a_well_formed_file_is_read_or_the_table_says_why_not(row: dict[str, str]) -> None:
    file, password = (FOLDER / row["file"]).read_bytes(), password_of(row)
    outcome = outcome_of(pkcs12.read, file, password)
    if isinstance(outcome, Identity):
        assert row["file"] not in REFUSED, "this file can be read now: take it off the table"
        check_identity(outcome, row)
    else:
        assert outcome.code == REFUSED.get(row["file"]), outcome
    ours = outcome if isinstance(outcome, Identity) else outcome.code
    compare_with_the_library(row["file"], file, password, ours)


@pytest.mark.parametrize("row", rows("fail", "password-unknown", "unspecified", "policy"))
def test_a_file_that_should_fail_is_refused_inside_the_limits(row: dict[str, str], tmp_path: Path) -> None:
    file, password = (FOLDER / row["file"]).read_bytes(), password_of(row)
    started = time.monotonic()
    read = partial(read_in_child, places=tmp_path / "places")
    # As a .pfx; uploads of these other formats are read (tests/certificates/test_intake.py).
    outcome = outcome_of(pkcs12.read if row["expected"] == "fail:format-hint" else read, file, password)
    assert ("ok" if isinstance(outcome, Identity) else outcome.code) == REFUSED.get(row["file"], "ok")
    if not row["file"].startswith("dos/") and "\0" not in password:
        compare_with_the_library(
            row["file"], file, password, outcome if isinstance(outcome, Identity) else outcome.code
        )
    if row["expected"] == "fail:limit":
        assert time.monotonic() - started < 2, "refused, but only after the work was done"


def one_of_each_producer() -> list[object]:
    chosen: dict[str, dict[str, str]] = {}
    for row in ROWS:
        if row["expected"] == "ok" and row["has_certificate"] == "yes" and row["file"] not in REFUSED:
            chosen.setdefault(row["file"].split("/")[0], row)
    return [pytest.param(row, id=row["file"]) for row in chosen.values()]


@pytest.mark.parametrize("row", one_of_each_producer())
def test_the_child_reads_files_of_every_producer(row: dict[str, str], tmp_path: Path) -> None:
    file, password = (FOLDER / row["file"]).read_bytes(), password_of(row)
    assert read_in_child(file, password, places=tmp_path / "places") == pkcs12.read(file, password)


@pytest.mark.parametrize("name", ["dos/key_rsa16384.p12", "synth/mixed_pw.p12", "synth/trunc_90.p12"])
def test_a_refusal_says_the_same_from_a_child_as_from_here(name: str, tmp_path: Path) -> None:
    file = (FOLDER / name).read_bytes()
    said = []
    for read in (pkcs12.read, lambda *args: read_in_child(*args, places=tmp_path / "places")):
        with pytest.raises(Refusal) as refused:
            read(file, "Passw0rd!")
        said.append(str(refused.value))
    assert said[0] == said[1]
