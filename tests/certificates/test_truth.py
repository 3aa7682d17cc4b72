"""Whether what is said of a file is true: a wrong password is called one, a changed file is not, and none is accepted
that is not what somebody wrote; and whether what is read goes out so that others open it. (In one file, because every
file that there is takes a minute to read.) What can be known at all is computed by tests/certificates/walker.py.
"""

from __future__ import annotations

import collections
import csv
import json
import os
import random
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization import pkcs12 as library

from certificates import pkcs12
from certificates.diagnosis import Refusal
from certificates.facts import facts
from certificates.identities import Identity
from tests.certificates import walker
from tests.certificates.made import all_made
from tests.certificates.test_corpus import FOLDER, ROWS, password_of

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
    """Every file that is read: those that the tests make, and the corpus where it is here."""
    cases = [Case(made.name, made.file, made.password) for made in all_made()]
    cases += [
        Case(row["file"], (FOLDER / row["file"]).read_bytes(), password_of(row))
        for row in ROWS
        if row["expected"].startswith("ok")
    ]
    found = []
    for case in cases:
        if isinstance(outcome := known(case), Identity):
            found.append((case, outcome))
    return tuple(found)


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
    # Those whose key takes a second to derive differ from the others in nothing else: a few of them are enough.
    slow = [case for case in cases if not is_quick(case)]
    for case in [case for case in cases if is_quick(case)] + random.Random(7).sample(slow, min(6, len(slow))):
        wrongs = [f"{case.password} ", case.password.swapcase() + "x", "wrong"]
        for wrong in wrongs if is_quick(case) else wrongs[:1]:
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


def by_the_library(case: Case) -> tuple[bytes, bytes] | None:
    """Key and certificate as the library reads them; None where it does not, or finds only one of them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = library.load_pkcs12(case.file, case.password.encode())
    except (ValueError, UnsupportedAlgorithm, TypeError):
        return None
    if loaded.key is None or loaded.cert is None:
        return None
    key = loaded.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return key, loaded.cert.certificate.public_bytes(Encoding.DER)


def test_the_library_finds_the_same_key_and_certificate_wherever_both_read():
    differs: dict[str, str] = {}
    cases = [Case(made.name, made.file, made.password) for made in all_made()]
    cases += [
        Case(row["file"], (FOLDER / row["file"]).read_bytes(), password_of(row))
        for row in ROWS
        if not row["file"].startswith("dos/") and "\0" not in password_of(row)
    ]
    for case in cases:
        ours, theirs = known(case), by_the_library(case)
        if isinstance(ours, Identity) and theirs is not None:
            assert (ours.key, ours.certificate) == theirs, case.name
        elif isinstance(ours, Identity):
            differs[case.name] = "only here"
        elif theirs is not None:
            differs[case.name] = f"only the library: {ours}"
    assert differs == explained(), differs


def explained() -> dict[str, str]:
    """Each file that only one of the two reads, with the reason beside it in the table."""
    lines = (Path(__file__).with_name("one_of_two.tsv")).read_text().splitlines()[1:]
    found = {name: who for name, who, _why in csv.reader(lines, delimiter="\t")}
    return {name: who for name, who in found.items() if ROWS or "/" not in name}


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
    file.write_bytes(pkcs12.write(identity, password=EXPORT_PASSWORD, friendly_name="bank", profile=profile))
    links = 1 + len(identity.chain)
    kind = facts(identity.certificate).key_kind
    found = []
    if not UNKNOWN_TO_JAVA.search(kind):
        java = ["-J-XX:TieredStopAtLevel=1", "-J-Duser.language=en"]
        said = run("keytool", *java, "-list", "-v", "-keystore", file, "-storepass", EXPORT_PASSWORD)
        if "PrivateKeyEntry" not in said or f"Certificate chain length: {links}\n" not in said:
            found.append(f"OpenJDK, {profile}, {kind}: {said[:400]}")
    said = run("openssl", "pkcs12", "-in", file, "-nodes", "-passin", f"pass:{EXPORT_PASSWORD}")
    if "PRIVATE KEY-----" not in said or said.count("-----BEGIN CERTIFICATE-----") != links:
        found.append(f"OpenSSL, {profile}, {kind}: {said[:400]}")
    if not UNKNOWN_TO_GNUTLS.search(kind):
        said = run("certtool", "--p12-info", "--inder", "--infile", file, "--password", EXPORT_PASSWORD)
        if "PRIVATE KEY" not in said or said.count("-----BEGIN CERTIFICATE-----") != links:
            found.append(f"GnuTLS, {profile}, {kind}: {said[:400]}")
    return found


@pytest.mark.parametrize("profile", pkcs12.PROFILES)
def test_what_is_read_goes_out_so_that_others_open_it(profile: str, tmp_path: Path):
    every = identities()
    assert len(every) > 10
    # A profile changes the encryption, and that has nothing to do with what is encrypted.
    chosen = every if profile == "modern" else one_of_each_kind(every)
    with ThreadPoolExecutor(2) as at_once:
        jobs = [at_once.submit(problems, one, profile, tmp_path / f"{n}.p12") for n, one in enumerate(chosen)]
        found = [problem for job in jobs for problem in job.result()]
    assert not found, "\n".join(found)
