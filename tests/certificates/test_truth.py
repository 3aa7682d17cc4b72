"""Whether what is said of a file is true: a wrong password is called one, a changed file is not, and none is accepted
that is not what somebody wrote; and whether what is read goes out so that others open it. (In one file, because every
file that there is takes a minute to read.) What can be known at all is computed by tests/certificates/walker.py.
"""

from __future__ import annotations

import collections
import json
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from certificates import pkcs12
from certificates.diagnosis import Refusal
from certificates.facts import facts
from certificates.identities import Identity
from tests.certificates import walker
from tests.certificates.beside import compare_with_the_library
from tests.certificates.made import all_made
from tests.certificates.test_corpus import FOLDER, REFUSED, ROWS, password_of

pytestmark = [pytest.mark.corpus, pytest.mark.timeout(600)]
# Files whose keys take longer to derive are left out where a file is read hundreds of times.
QUICK = 20_000
FLIPS = 2_000


@dataclass(frozen=True)
class Case:
    name: str
    file: bytes
    password: str


@cache
def readable() -> tuple[tuple[Case, Identity], ...]:
    """Files that are read: those that the tests make, and of the corpus, where it is here, those whose key is quickly
    derived, with six of the others, which differ in nothing else."""
    cases = [Case(made.name, made.file, made.password) for made in all_made()]
    corpus = [
        Case(row["file"], (FOLDER / row["file"]).read_bytes(), password_of(row))
        for row in ROWS
        if row["expected"].startswith("ok") and row["file"] not in REFUSED
    ]
    slow = [case for case in corpus if not is_quick(case)]
    cases += [case for case in corpus if is_quick(case)] + random.Random(7).sample(slow, min(6, len(slow)))
    return tuple((case, outcome) for case in cases if isinstance(outcome := known(case), Identity))


@cache
def known(case: Case) -> Identity | str:
    return read(case.file, case.password)


def read(file: bytes, password: str) -> Identity | str:
    """The identity, or the code of the refusal."""
    try:
        return pkcs12.read(file, password)
    except Refusal as refusal:
        return refusal.code


def is_quick(case: Case) -> bool:
    from certificates.outline import outline

    return max(outline(case.file).work.announced, default=0) <= QUICK


def test_a_wrong_password_is_called_one_and_the_file_never_damaged():
    said: collections.Counter[str] = collections.Counter()
    cases = [case for case, _identity in readable() if walker.shape(case.file).tells_a_wrong_password]
    for number, case in enumerate(cases):
        wrong = (f"{case.password} ", case.password.swapcase() + "x", "wrong")[number % 3]
        outcome = read(case.file, wrong)
        assert isinstance(outcome, str), f"{case.name} was opened with {wrong!r}"
        said[outcome] += 1
    print(dict(said))
    assert said["damaged"] == 0
    assert said["wrong_password"] >= 0.99 * said.total()
    assert said.total() > 20


def test_a_flipped_bit_is_seldom_called_a_wrong_password_and_never_accepted_with_other_contents():
    chance = random.Random(20261123)
    cases = [
        (case, identity)
        for case, identity in readable()
        if walker.shape(case.file).has_mac and is_quick(case) and case.password
    ]
    said: collections.Counter[str] = collections.Counter()
    for _ in range(FLIPS):
        case, identity = chance.choice(cases)
        bit = chance.randrange(8 * len(case.file))
        changed = bytearray(case.file)
        changed[bit // 8] ^= 1 << bit % 8
        outcome = read(bytes(changed), case.password)
        if isinstance(outcome, Identity):
            assert outcome == identity, f"{case.name}, bit {bit}"
            outcome = "ok"
        said[outcome] += 1
    print(dict(said))
    assert said["wrong_password"] <= 0.02 * FLIPS, said


def test_no_beginning_of_a_file_is_accepted():
    cases = [case for case, _identity in readable() if is_quick(case)]
    chosen = random.Random(10).sample(cases, 10)
    for case in chosen:
        # What follows the outermost value is no part of the file.
        whole = next(walker.values(case.file))[2]
        for kept in range(whole):
            outcome = read(case.file[:kept], case.password)
            assert isinstance(outcome, str), f"{case.name}, {kept} of {whole} bytes"


# --- Beside the library's own reader ----------------------------------------------------------------------------------


def test_the_library_finds_the_same_key_and_certificate_wherever_both_read():
    """Of the files that the tests make; those of the corpus are compared where they are read (test_corpus)."""
    for made in all_made():
        ours = known(Case(made.name, made.file, made.password))
        compare_with_the_library(made.name, made.file, made.password, ours)


def test_without_the_librarys_old_ciphers_the_same_files_are_read(tmp_path: Path):
    """A library that drops them must not shrink what we read."""
    given = tmp_path / "files.json"
    cases = [(case, identity) for case, identity in readable() if is_quick(case)]
    given.write_text(json.dumps([[case.name, case.file.hex(), case.password] for case, _identity in cases]))
    program = (
        "import json, sys; from cryptography.hazmat.bindings._rust import openssl\n"
        "from certificates import pkcs12\n"
        "assert not openssl._legacy_provider_loaded\n"
        "for name, file, password in json.load(open(sys.argv[1])):\n"
        "    identity = pkcs12.read(bytes.fromhex(file), password)\n"
        "    print(json.dumps([name, identity.key.hex(), identity.certificate.hex()]))\n"
    )
    environ = os.environ | {"CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1", "PYTHONWARNINGS": "ignore"}
    told = subprocess.run(
        [sys.executable, "-c", program, str(given)],
        cwd=Path(__file__).parents[2], env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [json.loads(line) for line in told.stdout.splitlines()]
    assert found == [[case.name, identity.key.hex(), identity.certificate.hex()] for case, identity in cases]


# --- The way out ------------------------------------------------------------------------------------------------------

# Run against the real programs as the system has them (OpenJDK 17, OpenSSL 3.0, GnuTLS 3.7 on Debian 12). A Java 8
# before 8u301, for which the profile `java8` is there, is not to be had here.
EXPORT_PASSWORD = "Export1Password"
# GnuTLS 3.7 and OpenJDK 17 do not know these keys, whatever the file is encrypted with; a warning says so of the last.
UNKNOWN_TO_GNUTLS = re.compile(r"brainpool|secp256k1|secp224r1|P-224|P-192|secp192r1")
UNKNOWN_TO_JAVA = re.compile(r"brainpool|P-192|secp192r1|explicit curve")


def identities() -> list[Identity]:
    """One of each key and chain."""
    return list({(one.key, one.certificate, one.chain): one for _case, one in readable()}.values())


def one_of_each_kind(every: list[Identity]) -> list[Identity]:
    return list({(facts(one.certificate).key_kind, len(one.chain)): one for one in every}.values())


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace", timeout=60)
    return done.stdout if done.returncode == 0 else f"failed: {done.stdout}{done.stderr}"


def problems(identity: Identity, profile: str, file: Path) -> list[str]:
    links = 1 + len(identity.chain)
    kind = facts(identity.certificate).key_kind
    found = []
    said = run("openssl", "pkcs12", "-in", file, "-nodes", "-passin", f"pass:{EXPORT_PASSWORD}")
    if "PRIVATE KEY-----" not in said or said.count("-----BEGIN CERTIFICATE-----") != links:
        found.append(f"OpenSSL, {profile}, {kind}: {said[:400]}")
    if not UNKNOWN_TO_GNUTLS.search(kind):
        said = run("certtool", "--p12-info", "--inder", "--infile", file, "--password", EXPORT_PASSWORD)
        if "PRIVATE KEY" not in said or said.count("-----BEGIN CERTIFICATE-----") != links:
            found.append(f"GnuTLS, {profile}, {kind}: {said[:400]}")
    return found


def problems_of_java(files: dict[Path, Identity], folder: Path) -> list[str]:
    """One Java for all of them."""
    given = folder / "files.tsv"
    given.write_text("".join(f"{file}\t{EXPORT_PASSWORD}\t{1 + len(one.chain)}\n" for file, one in files.items()))
    said = run("java", "-XX:TieredStopAtLevel=1", Path(__file__).with_name("Opens.java"), given)
    outcomes = dict(line.split("\t") for line in said.splitlines() if "\t" in line)
    assert outcomes.keys() == {str(file) for file in files}, said[:2000]
    kinds = {str(file): facts(one.certificate).key_kind for file, one in files.items()}
    return [f"OpenJDK, {kinds[file]}: {what}" for file, what in outcomes.items() if what != "ok"]


@pytest.mark.parametrize("profile", pkcs12.PROFILES)
def test_what_is_read_goes_out_so_that_others_open_it(profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    every = identities()
    assert len(every) > 10
    kinds = one_of_each_kind(every)
    files: dict[Path, Identity] = {}
    for one in [*kinds, *(one for one in every if one not in kinds)]:
        if len(files) == len(kinds):
            # How often a key is derived has nothing to do with what it locks: one of each kind is enough for that.
            monkeypatch.setattr(pkcs12, "WRITTEN_ROUNDS", 1000)
        files[file := tmp_path / f"{len(files)}.p12"] = one
        file.write_bytes(pkcs12.write(one, password=EXPORT_PASSWORD, friendly_name="bank", profile=profile))
    with ThreadPoolExecutor(2) as at_once:
        jobs = [at_once.submit(problems, one, profile, file) for file, one in files.items()]
        found = [problem for job in jobs for problem in job.result()]
    known_to_java = {f: one for f, one in files.items() if not UNKNOWN_TO_JAVA.search(facts(one.certificate).key_kind)}
    found += problems_of_java(known_to_java, tmp_path)
    assert not found, "\n".join(found)
