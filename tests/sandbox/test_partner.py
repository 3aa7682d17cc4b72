"""The partner's two hosts over real TLS, and what its log says that it saw."""

import json
import socket
import ssl
import stat
import subprocess
import urllib.request
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs12

from sandbox.partner import LOG_ENTRIES, CallLog

BANK, OPEN = "bank.sandbox.test", "open.sandbox.test"
BOTH_VERSIONS = pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


@BOTH_VERSIONS
def test_the_bank_names_a_caller_of_its_own_authority(partner, tls):
    answers = []
    (seen,) = partner.new_calls(lambda: answers.append(partner.answer(BANK, present="bank-payments", tls=tls)))

    certificate = partner.certificate("bank-payments")
    (answer,) = answers
    assert answer["caller"] == "CN=Bank payments,O=Sandbox Customer"
    assert answer["issuer"].startswith("CN=Sandbox Partner CA issuing")
    assert int(answer["serial"], 16) == certificate.serial_number
    assert answer["sha256"] == certificate.fingerprint(hashes.SHA256()).hex()
    assert answer["own_authority"] is True
    assert answer["tls"] == ("TLSv1.2" if tls == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
    assert (seen["outcome"], seen["host"]) == ("answered", BANK)
    assert seen["certificate"]["sha256"] == answer["sha256"]


@BOTH_VERSIONS
def test_the_bank_refuses_a_caller_without_certificate(partner, tls):
    def call() -> None:
        with pytest.raises(ssl.SSLError, match="ALERT"):
            partner.answer(BANK, tls=tls)

    (seen,) = partner.new_calls(call)
    assert seen["outcome"] == "refused"
    assert seen["certificate"] is None
    assert seen["words"] == "No client certificate was sent, and this host demands one."


@BOTH_VERSIONS
@pytest.mark.parametrize(
    ("slug", "alert", "words"),
    [("other-authority", "UNKNOWN_CA", "self-signed"), ("archive-expired", "CERTIFICATE_EXPIRED", "expired")],
)
def test_the_bank_refuses_strangers_and_expired_certificates_and_says_which_it_saw(partner, tls, slug, alert, words):
    def call() -> None:
        with pytest.raises(ssl.SSLError, match=alert):
            partner.answer(BANK, present=slug, tls=tls)

    (seen,) = partner.new_calls(call)
    assert seen["outcome"] == "refused"
    assert words in seen["words"]
    assert seen["certificate"]["sha256"] == partner.sample(slug).sha256


@BOTH_VERSIONS
@pytest.mark.parametrize("slug", ["bank-payments", "other-authority", "archive-expired"])
def test_the_open_host_accepts_anybody_and_shows_what_was_sent(partner, tls, slug):
    answer = partner.answer(OPEN, present=slug, tls=tls)

    assert answer["certificate_sent"] is True
    assert answer["sha256"] == partner.sample(slug).sha256
    assert answer["own_authority"] is (slug != "other-authority")


@BOTH_VERSIONS
def test_the_open_host_accepts_callers_without_certificate_and_says_so(partner, tls):
    answer = partner.answer(OPEN, tls=tls)

    assert answer["certificate_sent"] is False
    assert answer["caller"] is None
    assert answer["sentence"] == "You sent no client certificate."


def test_a_stranger_who_called_the_open_host_is_still_a_stranger_to_the_bank(partner):
    partner.answer(OPEN, present="other-authority")
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        partner.answer(BANK, present="other-authority")


@BOTH_VERSIONS
def test_whoever_signed_a_certificate_with_its_own_key_is_a_stranger_to_the_bank(partner, tls, tmp_path):
    file, certificate = tmp_path / "self-signed.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=Payments",
    ]
    subprocess.run([*command, "-keyout", file, "-out", certificate], check=True, capture_output=True, timeout=20)
    file.write_bytes(file.read_bytes() + certificate.read_bytes())

    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        partner.answer(BANK, file=file, tls=tls)
    assert partner.answer(OPEN, file=file, tls=tls)["own_authority"] is False


def test_a_connection_for_one_host_cannot_ask_for_the_other(partner):
    answer = partner.answer(OPEN, named=BANK)
    assert answer == {"sentence": f"This connection is for {OPEN}, not for {BANK}."}


def test_an_unknown_name_is_refused_with_an_alert(partner):
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        partner.answer("shop.sandbox.test")


def test_noise_and_silence_do_not_stop_the_partner(partner):
    with socket.create_connection(("127.0.0.1", partner.tls_port), timeout=10) as noise:
        noise.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with socket.create_connection(("127.0.0.1", partner.tls_port), timeout=10):
            assert partner.answer(OPEN)["host"] == OPEN


def test_a_hello_that_arrives_in_pieces_is_understood(partner):
    context = ssl.create_default_context(cafile=str(partner.world.server_authority_file))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=OPEN)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    with socket.create_connection(("127.0.0.1", partner.tls_port), timeout=10) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (hello[:3], hello[3:50], hello[50:]):
            raw.sendall(piece)
        while True:
            incoming.write(raw.recv(4096))
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
    names = [name for _, name in client.getpeercert()["subjectAltName"]]
    assert OPEN in names


def test_the_desk_offers_each_file_with_its_password(partner):
    page = get(partner.desk).decode()
    assert "<title>Partner&#x27;s desk · Sandbox</title>" in page
    for sample in json.loads(get(partner.desk + "samples.json"))["samples"]:
        assert sample["password"] in page
        content = get(partner.desk.rstrip("/") + sample["path"])
        assert pkcs12.load_pkcs12(content, sample["password"].encode()).key is not None


@pytest.mark.parametrize("path", ["samples/../authority/server.pem", "samples/..%2f.lock", "authority/server.pem", "x"])
def test_the_desk_gives_out_nothing_else(partner, path):
    with socket.create_connection(("127.0.0.1", int(partner.desk.rstrip("/").rpartition(":")[2])), timeout=10) as raw:
        raw.sendall(f"GET /{path} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while part := raw.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.0 404")
    assert b"PRIVATE" not in answer


def test_pages_allow_no_script_and_carry_no_inline_style(partner):
    with urllib.request.urlopen(partner.desk, timeout=10) as answer:
        policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert "default-src 'none'" in policy
    assert "<script" not in page
    assert "style=" not in page
    assert get(partner.desk + "style.css").startswith(b"/*")


def test_the_log_keeps_the_last_thousand_calls_and_survives_a_torn_line(tmp_path: Path):
    path = tmp_path / "partner-log.jsonl"
    log = CallLog(path)
    for number in range(LOG_ENTRIES + 150):
        log.add({"at": f"{number:06}"})
    with path.open("a") as file:
        file.write('{"numb')

    again = CallLog(path).newest_first()

    assert len(again) == LOG_ENTRIES
    assert again[0] == {"at": f"{LOG_ENTRIES + 149:06}"}
    assert len(path.read_text().splitlines()) <= LOG_ENTRIES + 100


def test_the_log_file_says_what_the_page_says(partner):
    partner.new_calls(lambda: partner.answer(OPEN))
    path = partner.world.folder / "partner-log.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(lines, key=lambda entry: entry["at"], reverse=True) == partner.calls()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
