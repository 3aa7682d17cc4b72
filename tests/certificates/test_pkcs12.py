"""Reading what partners send, inside limits, and writing what runtimes read."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key

from certificates import chain, one_shot, pkcs12
from certificates.derivation import Work
from certificates.diagnosis import Refusal
from certificates.identities import Identity, pack, unpack
from certificates.outline import MAX_CERTIFICATES, MAX_FILE, outline
from certificates.protection import spellings
from tests import pki
from tests.readers import read_in_child

ROOT = pki.make_authority("Partner Root")
MIDDLE = pki.make_authority("Partner Issuing", authority=ROOT)


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    return bytes([tag]) + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")) + body


def oid(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    body = bytes([first * 40 + second])
    for arc in rest:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        body += bytes(reversed(groups))
    return der(0x06, body)


def number(value: int) -> bytes:
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def slow_file() -> bytes:
    """A .pfx that asks for as much as is allowed: three parts, each under a key of 2,000,000 iterations, in the
    derivation that takes longest. None of them opens, which only shows at the end."""
    scheme = der(0x30, oid("1.2.840.113549.1.12.1.3"), der(0x30, der(0x04, b"s" * 8), number(2_000_000)))
    content = der(0x30, oid("1.2.840.113549.1.7.1"), scheme, der(0x80, bytes(64)))
    safe = der(0x30, oid("1.2.840.113549.1.7.6"), der(0xA0, der(0x30, number(0), content)))
    safes = der(0x30, safe, safe, safe)
    return der(0x30, number(3), der(0x30, oid("1.2.840.113549.1.7.1"), der(0xA0, der(0x04, safes))))


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Reader places of this test alone, so that tests in other processes do not wait for it."""
    return tmp_path / "places"


@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p256", "ec-p384", "ec-p521", "ed25519", "ed448", "dsa-2048"])
def test_a_partners_file_gives_its_key_certificate_and_chain(kind: str, places: Path) -> None:
    issued = pki.issue("client.example.com", key=kind, authority=MIDDLE)

    identity = read_in_child(pki.pfx(issued, "a b,c'\"é"), "a b,c'\"é", places=places)

    assert identity.certificate == issued.certificate_der
    assert identity.chain == (MIDDLE.certificate_der, ROOT.certificate_der)
    assert identity.friendly_name == "client"
    assert load_der_private_key(identity.key, None).public_key() == issued.certificate.public_key()


def test_reading_in_a_child_and_in_this_process_agree(places: Path) -> None:
    file = pki.pfx(pki.issue(authority=MIDDLE))
    assert read_in_child(file, "secret", places=places) == pkcs12.read(file, "secret")


def test_a_file_without_a_password_is_read(places: Path) -> None:
    issued = pki.issue()
    assert read_in_child(pki.pfx(issued, ""), "", places=places).certificate == issued.certificate_der


def test_a_wrong_password_is_refused_beside_the_password_and_shown_nowhere(
    places: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Refusal) as refused:
        read_in_child(pki.pfx(pki.issue()), "hunter2hunter2", places=places)

    assert (refused.value.code, refused.value.field) == ("wrong_password", "password")
    out, err = capfd.readouterr()
    assert "hunter2" not in str(refused.value) + repr(refused.value) + out + err


@pytest.mark.parametrize(
    "password", ["hunter2\0tail", "hunter2\udc80", "hunter2" * 200, "é" * 513], ids=["nul", "surrogate", "long", "wide"]
)
def test_what_cannot_be_a_password_derives_no_key(
    password: str, places: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = pki.pfx(pki.issue())
    monkeypatch.setattr(Work, "spend", lambda *_: pytest.fail("a key was derived"))

    for read in (pkcs12.read, lambda *given: read_in_child(*given, places=places)):
        with pytest.raises(Refusal) as refused:
            read(file, password)
        assert (refused.value.code, refused.value.field) == ("password_not_expressible", "password")
        assert "hunter2" not in repr(refused.value)
    assert "hunter2" not in "".join(capfd.readouterr())


def test_a_password_of_1024_bytes_is_a_password() -> None:
    issued = pki.issue()
    assert pkcs12.read(pki.pfx(issued, "é" * 512), "é" * 512).certificate == issued.certificate_der


def test_certificates_without_a_key_are_refused(places: Path) -> None:
    file = pki.pfx(pki.issue(authority=MIDDLE), key=False)
    with pytest.raises(Refusal, match=r"no private key \(certificates in it: 3\)") as refused:
        read_in_child(file, "secret", places=places)
    assert refused.value.code == "no_private_key"


def test_a_key_without_a_certificate_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        pkcs12.read(pki.pfx(pki.issue(), certificate=False), "secret")
    assert refused.value.code == "no_certificate"


def test_a_key_beside_someone_elses_certificate_is_refused() -> None:
    other = pki.issue("other.example.com")
    with pytest.raises(Refusal) as refused:
        pkcs12.read(pki.pfx(pki.issue(), certificate=False, certificates=[other.certificate]), "secret")
    assert refused.value.code == "key_certificate_mismatch"


def test_more_than_a_hundred_certificates_are_refused_even_inside_an_encrypted_safe() -> None:
    key = pki.make_key()
    others = [pki.issue(f"n{n}.example.com", key=key).certificate for n in range(MAX_CERTIFICATES)]
    with pytest.raises(Refusal) as refused:
        pkcs12.read(pki.pfx(pki.issue(), certificates=others), "secret")
    assert refused.value.code == "limit_exceeded"
    assert refused.value.details["figure"] == MAX_CERTIFICATES + 1


def test_a_certificate_that_would_fill_the_pages_is_refused() -> None:
    wide = pki.issue(sans=[f"name-number-{number}.example.com" for number in range(2000)])
    with pytest.raises(Refusal, match="the size of a certificate in bytes is") as refused:
        pkcs12.read(pki.pfx(wide), "secret")
    assert refused.value.details["limit"] == "32,768"


def test_a_file_of_one_mebibyte_and_a_byte_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Refusal) as refused:
        outline(b"\x30" * (MAX_FILE + 1))
    assert refused.value.code == "limit_exceeded"


@pytest.mark.parametrize("kept", [1, 20, 200, -100, -1])
def test_a_file_that_stops_too_early_is_called_truncated(kept: int) -> None:
    with pytest.raises(Refusal) as refused:
        outline(pki.pfx(pki.issue())[:kept])
    assert refused.value.code == "truncated"


@pytest.mark.filterwarnings("ignore:PKCS#12 bundle could not be parsed as DER")
def test_bytes_after_the_file_do_no_harm() -> None:
    issued = pki.issue()
    assert pkcs12.read(pki.pfx(issued) + b"\r\n", "secret").certificate == issued.certificate_der


def test_any_flipped_byte_ends_in_an_identity_or_a_refusal() -> None:
    file = pki.pfx(pki.issue(authority=MIDDLE))
    for position in range(0, len(file), 7):
        damaged = bytearray(file)
        damaged[position] ^= 0x41
        with contextlib.suppress(Refusal):
            assert pkcs12.read(bytes(damaged), "secret").key


def test_work_that_only_shows_once_the_file_is_open_is_stopped_by_its_cpu_limit(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_shot, "CPU_SECONDS", 1)
    file = slow_file()
    assert outline(file).work.announced == [2_000_000] * 3
    started = time.monotonic()
    with pytest.raises(Refusal) as refused:
        read_in_child(file, "secret", places=places)
    assert (refused.value.code, refused.value.details) == ("too_slow", {"seconds": 1})
    assert time.monotonic() - started < 9


def test_a_reader_is_stopped_at_its_wall_time_and_gives_its_place_back(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_shot, "WALL_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(Refusal) as refused:
        read_in_child(slow_file(), "secret", places=places)
    assert refused.value.code == "too_slow"
    assert time.monotonic() - started < 5
    monkeypatch.setattr(one_shot, "WALL_SECONDS", 10)
    assert read_in_child(pki.pfx(pki.issue()), "secret", places=places)


def test_readers_wait_for_a_place_and_say_so_when_none_comes_free(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pki.pfx(pki.issue())
    monkeypatch.setattr(one_shot, "WAIT_SECONDS", 0.1)
    places.mkdir(mode=0o700)
    held = [(places / str(number)).open("w") for number in range(os.cpu_count() or 1)]
    for lock in held:
        fcntl.flock(lock, fcntl.LOCK_EX)

    with pytest.raises(Refusal) as refused:
        read_in_child(file, "secret", places=places)
    assert refused.value.code == "busy"

    monkeypatch.setattr(one_shot, "WAIT_SECONDS", 30)
    opened = threading.Timer(0.2, lambda: [lock.close() for lock in held])
    opened.start()
    assert read_in_child(file, "secret", places=places)
    opened.join()


def test_two_readers_do_not_share_the_one_place_of_a_machine_with_two_cores(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr(one_shot, "WALL_SECONDS", 1)
    monkeypatch.setattr(one_shot, "WAIT_SECONDS", 0.1)
    said: list[str] = []

    def read_for_long() -> None:
        with pytest.raises(Refusal) as refused:
            read_in_child(slow_file(), "secret", places=places)
        said.append(refused.value.code)

    first = threading.Thread(target=read_for_long)
    first.start()
    deadline = time.monotonic() + 2
    while not (places / "0").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(Refusal) as refused:
        read_in_child(pki.pfx(pki.issue()), "secret", places=places)
    first.join()
    assert (said, refused.value.code) == (["too_slow"], "busy")


def test_a_folder_of_places_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PermissionError):
        read_in_child(pki.pfx(pki.issue()), "secret", places=tmp_path / "link")


def test_the_child_has_its_limits_and_no_django() -> None:
    program = (
        "import sys; sys.path.extend(sys.argv[1:])\n"
        "from certificates import reader_child\n"
        "reader_child.limit(8)\n"
        "import json, resource as r, ctypes\n"
        "print(json.dumps([r.getrlimit(x)[0] for x in (r.RLIMIT_CPU, r.RLIMIT_AS, r.RLIMIT_CORE, r.RLIMIT_NOFILE,\n"
        "    r.RLIMIT_FSIZE)] + [ctypes.CDLL(None).prctl(3), [m for m in sys.modules if m.startswith('django')]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *one_shot._FOLDERS], capture_output=True, env={}, check=True
    )
    assert json.loads(done.stdout) == [8, 512 * 1024 * 1024, 0, 16, 0, 0, []]


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Iterator[one_shot.Nursery]:
    """A nursery of this test alone."""
    own = one_shot.Nursery()
    monkeypatch.setattr(one_shot, "_nursery", own)
    yield own
    own.close()


@pytest.mark.parametrize(
    "answer",
    ["os._exit(3)", "os.kill(os.getpid(), 11)", "b'+{}'", "b'-[]'", 'b\'-{"code": "x"}\'', "b''", "b'+' * 5_000_000"],
)
def test_a_child_that_dies_or_talks_nonsense_is_a_refusal(
    answer: str, places: Path, nursery: one_shot.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        start = one_shot._START.replace("import serve;", "import serve, os; from certificates import reader_child;")
        patched.setattr(
            one_shot, "_START", start.replace("serve()", f"reader_child.read = lambda _question: {answer}; serve()")
        )
        with pytest.raises(Refusal) as refused:
            read_in_child(pki.pfx(pki.issue()), "secret", places=places)
        assert refused.value.code == "reader_stopped"
    nursery.close()
    assert read_in_child(pki.pfx(pki.issue()), "secret", places=places)


def test_a_nursery_that_is_gone_is_started_again(places: Path, nursery: one_shot.Nursery) -> None:
    for _time in range(2):
        assert read_in_child(pki.pfx(pki.issue()), "secret", places=places)
        assert nursery._process is not None
        nursery._process.kill()
        nursery._process.wait()


def test_after_a_crash_the_next_file_meets_a_new_process(places: Path, nursery: one_shot.Nursery) -> None:
    assert read_in_child(pki.pfx(pki.issue()), "secret", places=places)
    first = nursery._process
    assert first is not None
    answers: list[str] = []
    reading = threading.Thread(target=lambda: answers.append(refusal_of(slow_file(), places)))
    reading.start()
    os.kill(eventually(lambda: next(iter(children_of(first.pid)), 0)), signal.SIGSEGV)
    reading.join()
    assert answers == ["reader_stopped"]
    assert read_in_child(pki.pfx(pki.issue()), "secret", places=places)
    assert nursery._process is not first
    assert first.wait(5) is not None


def test_when_who_asks_is_gone_so_are_its_readers(places: Path, tmp_path: Path) -> None:
    file = tmp_path / "bomb.pfx"
    file.write_bytes(slow_file())
    program = (
        "import sys; from pathlib import Path; from tests.readers import read_in_child\n"
        "read_in_child(Path(sys.argv[1]).read_bytes(), 'secret', places=Path(sys.argv[2]))"
    )
    asker = subprocess.Popen([sys.executable, "-c", program, str(file), str(places)], cwd=one_shot._PROJECT)
    nursery = eventually(lambda: next(iter(children_of(asker.pid)), 0))
    reader = eventually(lambda: next(iter(children_of(nursery)), 0))
    asker.kill()
    asker.wait()
    # Sooner than the limits of the reader itself would end it.
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (nursery, reader)), seconds=5)


def children_of(pid: int) -> list[int]:
    """Of all its threads: a child belongs to the one that started it."""
    return [int(word) for task in Path(f"/proc/{pid}/task").glob("*/children") for word in task.read_text().split()]


def eventually(true: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def refusal_of(file: bytes, places: Path) -> str:
    with pytest.raises(Refusal) as refused:
        read_in_child(file, "secret", places=places)
    return refused.value.code


def test_the_integrity_check_knows_the_password() -> None:
    for password in ("secret", "пароль", "🔐"):
        written = pkcs12.library.serialize_key_and_certificates(
            b"x",
            pki.make_key(),
            None,
            None,
            pkcs12.PrivateFormat.PKCS12.encryption_builder().hmac_hash(pkcs12.hashes.SHA512()).build(password.encode()),
        )
        mac = outline(written).mac
        assert mac is not None
        assert mac.verifies(spellings(password)[0], Work())
        assert not mac.verifies(spellings(password + "!")[0], Work())


# Chains


def test_a_chain_is_ordered_from_the_leaf_and_strangers_are_dropped() -> None:
    leaf = pki.issue(authority=MIDDLE)
    stranger = pki.make_authority("Stranger")
    namesake = pki.make_authority("Partner Issuing", authority=pki.make_authority("Another Root"))
    mixed = [ROOT.certificate, stranger.certificate, namesake.certificate, MIDDLE.certificate, ROOT.certificate]

    identity = pkcs12.read(pki.pfx(leaf, certificates=mixed), "secret")

    assert identity.chain == (MIDDLE.certificate_der, ROOT.certificate_der)


def test_a_namesake_that_did_not_sign_is_no_issuer() -> None:
    leaf = pki.issue(authority=MIDDLE)
    assert chain.ordered(leaf.certificate, [pki.make_authority("Partner Issuing").certificate]) == ()


def test_a_cross_signed_root_leads_on_to_the_root_above_it() -> None:
    old = pki.make_authority("Old Root")
    crossed = pki.make_authority("Partner Root", authority=old, key=ROOT.key)
    leaf = pki.issue(authority=MIDDLE)
    pool = [ROOT.certificate, old.certificate, crossed.certificate, MIDDLE.certificate]

    path = chain.ordered(leaf.certificate, pool)
    without_old = chain.ordered(leaf.certificate, [one for one in pool if one != old.certificate])

    assert path == (MIDDLE.certificate, crossed.certificate, old.certificate)
    assert without_old == (MIDDLE.certificate, ROOT.certificate)


def test_two_certificates_that_signed_each_other_end_the_chain() -> None:
    a_key, b_key = pki.make_key(), pki.make_key()
    a = pki.make_authority("A", authority=pki.make_authority("B", key=b_key), key=a_key)
    b = pki.make_authority("B", authority=pki.make_authority("A", key=a_key), key=b_key)
    leaf = pki.issue(authority=a)
    assert chain.ordered(leaf.certificate, [a.certificate, b.certificate]) == (a.certificate, b.certificate)


# Writing


def identity_of(kind: str, links: int) -> Identity:
    authority = ROOT
    for number_of in range(links - 1):
        authority = pki.make_authority(f"Issuing {number_of}", authority=authority)
    return pki.issue("client.example.com", key=kind, authority=authority if links else None).identity


WRITTEN = [("rsa-2048", 0), ("rsa-2048", 1), ("rsa-3072", 3), ("ec-p256", 2), ("ec-p384", 5), ("ed25519", 1)]


@pytest.mark.parametrize(("kind", "links"), WRITTEN)
def test_a_written_file_is_read_back_whole(kind: str, links: int) -> None:
    identity, password = identity_of(kind, links), pkcs12.new_password()

    back = pkcs12.read(pkcs12.write(identity, password=password, friendly_name="partner-api"), password)

    assert (back.key, back.certificate, back.chain) == (identity.key, identity.certificate, identity.chain)
    assert back.friendly_name == "partner-api"


@pytest.mark.parametrize(("kind", "links"), WRITTEN)
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
def test_openssl_reads_a_written_file(kind: str, links: int, tmp_path: Path) -> None:
    identity, password = identity_of(kind, links), pkcs12.new_password()
    (tmp_path / "out.pfx").write_bytes(pkcs12.write(identity, password=password, friendly_name="partner-api"))

    done = subprocess.run(
        ["openssl", "pkcs12", "-in", str(tmp_path / "out.pfx"), "-passin", "stdin", "-nodes", "-info"],
        input=password.encode(),
        capture_output=True,
        check=True,
    )

    certificates = [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(done.stdout)]
    assert sorted(certificates) == sorted((identity.certificate, *identity.chain))
    assert certificates[0] == identity.certificate
    key = b"".join(done.stdout.split(b"-----BEGIN PRIVATE KEY-----")[1].split(b"-----END")[0].split())
    assert base64.b64decode(key) == identity.key
    # One for the key and one for its certificate: it is how Java finds the chain.
    assert done.stdout.count(b"localKeyID") == 2
    assert b"AES-256-CBC, Iteration 50000, PRF hmacWithSHA256" in done.stderr
    assert b"MAC: sha256" in done.stderr


@pytest.mark.parametrize(("kind", "links"), WRITTEN)
@pytest.mark.skipif(shutil.which("keytool") is None, reason="needs a Java runtime's keytool")
def test_java_finds_the_key_and_the_whole_chain_in_a_written_file(kind: str, links: int, tmp_path: Path) -> None:
    identity, password = identity_of(kind, links), pkcs12.new_password()
    (tmp_path / "out.pfx").write_bytes(pkcs12.write(identity, password=password, friendly_name="partner-api"))

    done = subprocess.run(
        ["keytool", "-J-Duser.language=en", "-list", "-v", "-keystore", "out.pfx", "-storepass:env", "STORE_PASSWORD"],
        cwd=tmp_path,
        env={**os.environ, "STORE_PASSWORD": password},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "Entry type: PrivateKeyEntry" in done.stdout
    assert f"Certificate chain length: {links + 1}" in done.stdout


@pytest.mark.parametrize("name", ["", "café", "two\nlines", "nul\0"])
def test_a_name_that_runtimes_read_in_their_own_ways_is_not_written(name: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        pkcs12.write(pki.issue().identity, password=pkcs12.new_password(), friendly_name=name)


@pytest.mark.parametrize("password", ["", "hunter2,hunter2", "hünter2", "hunter2 "])
def test_a_password_that_a_configuration_could_trip_over_is_not_written_nor_shown(password: str) -> None:
    with pytest.raises(ValueError, match="letters and digits") as refused:
        pkcs12.write(pki.issue().identity, password=password, friendly_name="x")
    assert "nter2" not in str(refused.value)


def test_new_passwords_are_24_letters_and_digits_and_never_twice_the_same() -> None:
    passwords = {pkcs12.new_password() for _ in range(200)}
    assert len(passwords) == 200
    assert all(len(one) == 24 and one.isascii() and one.isalnum() for one in passwords)


# Packing


def test_packing_is_canonical_and_comes_back_the_same() -> None:
    issued = pki.issue(authority=MIDDLE, not_after=pki.NOW + timedelta(days=2))
    identity = Identity(issued.key_der, issued.certificate_der, issued.chain_der, "Имя")

    assert unpack(pack(identity)) == identity
    assert pack(identity) == pack(unpack(pack(identity)))


@pytest.mark.parametrize("packed", [b"", b"{}", b"[]", b'{"format":2}', b'{"format":1,"key":5}', b"\xff", b"null"])
def test_what_was_not_packed_here_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="not an identity"):
        unpack(packed)


def test_the_repr_of_an_identity_does_not_show_its_key() -> None:
    identity = pki.issue().identity
    assert repr(identity.key)[10:40] not in repr(identity)
    assert "key=" not in repr(identity)
