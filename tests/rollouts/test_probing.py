"""Each verdict from a partner that gives cause for it, and never a good one for a refusal."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from datetime import timedelta

import pytest

from rollouts import outbound, probing
from tests import pki
from tests.rollouts import partners
from tests.rollouts.partners import CLIENT, EXPIRED, HOST, OF_STRANGER, ROOT, STRANGER, Files, tried

VERSIONS = ("-tls1_2", "-tls1_3")
SSL_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


# --- OpenSSL's own server ---


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_accepts_the_certificate(files, version):
    with partners.s_server(files, version, "-Verify", "3", "-verify_return_error") as port:
        found = tried(port)
    assert found.verdict == "accepted", found
    assert found.sentence == "The server accepted CN=client.example.com,O=Example Partner. It answered 200."
    assert found.caution == ""
    assert (found.asked, found.among, found.status) == (True, True, 200)
    assert found.accepts == ("CN=Partner Root,O=Example Partner",)
    assert found.tls == version.replace("-tls1_", "TLS 1.")
    assert found.server is not None
    assert (found.server.names, found.server.issuer_common_name) == ((HOST,), "Partner Issuing")
    assert found.address == "127.0.0.1"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("issued", "chain", "alert", "words"),
    [
        (OF_STRANGER, True, "unknown_ca", "does not know the authority that issued it"),
        (CLIENT, False, "unknown_ca", "an intermediate certificate is missing"),
        (EXPIRED, True, "certificate_expired", "it has expired"),
    ],
)
def test_a_refusal_is_told_by_its_alert(files, version, issued, chain, alert, words):
    with partners.s_server(files, version, "-Verify", "3", "-verify_return_error") as port:
        found = tried(port, issued, chain=chain)
    assert (found.verdict, found.alert) == ("refused", alert), found
    assert words in found.sentence
    assert found.asked is True
    assert found.stands_in_the_way


@pytest.mark.parametrize("version", VERSIONS)
def test_no_certificate_where_one_is_demanded(files, version):
    with partners.s_server(files, version, "-Verify", "3", "-verify_return_error") as port:
        found = tried(port, None)
    assert found.verdict == "refused"
    assert found.alert == ("certificate_required" if version == "-tls1_3" else "handshake_failure")
    assert "refused a connection without a certificate" in found.sentence


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_does_not_ask(files, version):
    with partners.s_server(files, version) as port:
        found = tried(port)
    assert found.verdict == "not-asked"
    assert "did not ask" in found.sentence
    assert (found.asked, found.sent) == (False, "")


@pytest.mark.parametrize("version", VERSIONS)
def test_never_a_certificate_where_one_is_only_asked_for(files, version):
    with partners.s_server(files, version, "-verify", "3") as port:
        found = tried(port, None)
    assert found.verdict == "accepted"
    assert "goes on without a certificate" in found.sentence


def test_a_server_of_an_authority_that_is_not_trusted(files):
    with partners.s_server(files, "-Verify", "3") as port:
        found = tried(port, authorities=())
    assert found.verdict == "untrusted"
    assert "is from “Partner Root”, which is not trusted here; add that authority" in found.sentence or (
        "is from “Partner Issuing”" in found.sentence
    )
    assert found.stands_in_the_way
    assert found.sent == "", "nothing of ours was sent to a stranger"


def test_an_intermediate_authority_may_be_what_is_trusted(files):
    with partners.s_server(files, "-Verify", "3", "-verify_return_error") as port:
        assert tried(port, authorities=(partners.ISSUING,)).verdict == "accepted"


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (pki.issue(HOST, authority=partners.ISSUING, sans=["other.example.com"], eku=("serverAuth",)), "not for"),
        (
            pki.issue(
                HOST, authority=partners.ISSUING, sans=[HOST], eku=("serverAuth",),
                not_before=partners.A_WEEK_AGO, not_after=partners.YESTERDAY,
            ),
            "has expired on",
        ),
        (
            pki.issue(
                HOST, authority=partners.ISSUING, sans=[HOST], eku=("serverAuth",),
                not_before=pki.NOW + timedelta(days=1), not_after=pki.NOW + timedelta(days=9),
            ),
            "is not valid yet",
        ),
        (pki.issue(HOST, authority=partners.ISSUING, sans=[HOST], eku=("clientAuth",)), "not meant for servers"),
        (pki.issue(HOST, sans=[HOST], eku=("serverAuth",)), "is not trusted here"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_servers_own_certificate(tmp_path, server, words):
    with partners.s_server(Files(tmp_path, server=server), "-Verify", "3") as port:
        found = tried(port)
    assert found.verdict == "untrusted", found
    assert words in found.sentence


def test_a_wildcard_counts_for_one_label(tmp_path):
    server = pki.issue("*.example.com", authority=partners.ISSUING, sans=["*.example.com"], eku=("serverAuth",))
    with partners.s_server(Files(tmp_path, server=server), "-Verify", "3", "-verify_return_error") as port:
        assert tried(port).verdict == "accepted"
        assert tried(port, host="a.b.example.com").verdict == "untrusted"


def test_a_server_that_names_other_authorities_gets_a_caution(tmp_path):
    # It asks for the stranger's, and takes what comes: an app in Java would send nothing.
    files = Files(tmp_path, clients=STRANGER)
    with partners.s_server(files, "-verify", "3") as port:
        found = tried(port)
    assert found.verdict == "accepted"
    assert found.among is False
    assert "an app in Java may send none" in found.caution


# --- nginx, which shakes hands with everybody ---


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_nginx_refuses_after_the_handshake_and_is_never_taken_at_its_word(files, version):
    with partners.nginx(files, versions=version) as port:
        assert tried(port).verdict == "accepted"
        for issued in (OF_STRANGER, EXPIRED):
            found = tried(port, issued)
            assert found.verdict == "refused", found
            assert "it does not accept this one (400)" in found.sentence
        found = tried(port, None)
        assert found.verdict == "refused"
        assert "demands one and got none" in found.sentence or "demands a certificate and got none" in found.sentence


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [("/forbidden", 403, "may not call"), ("/who", 401, "who calls"), ("/broken", 503, "trouble of its own")],
)
def test_a_status_that_is_no_welcome_is_a_caution(files, path, status, words):
    with partners.nginx(files) as port:
        found = tried(port, path=path)
    assert (found.verdict, found.status) == ("accepted", status)
    assert words in found.caution


def test_a_redirect_is_told_and_not_followed(files):
    with partners.nginx(files) as port:
        began = time.monotonic()
        found = tried(port, path="/moved")
    assert (found.verdict, found.status) == ("accepted", 302)
    assert time.monotonic() - began < 3


# --- Greetings in the clear ---


@pytest.mark.parametrize("version", SSL_VERSIONS)
@pytest.mark.parametrize(
    ("scheme", "hello"), [("smtp", partners.smtp), ("imap", partners.imap), ("ldap", partners.ldap)]
)
def test_starttls(files, scheme, hello, version):
    made = partners.context(files, version=SSL_VERSIONS[version])
    with partners.listening(partners.with_tls(made, b"250 OK\r\n", hello=hello)) as port:
        assert tried(port, scheme=scheme).verdict == "accepted"
        refused = tried(port, OF_STRANGER, scheme=scheme)
    assert (refused.verdict, refused.alert) == ("refused", "unknown_ca"), refused


@pytest.mark.parametrize("scheme", ["smtps", "imaps", "ldaps", "tls"])
@pytest.mark.parametrize("version", SSL_VERSIONS)
def test_tls_from_the_first_byte(files, scheme, version):
    made = partners.context(files, version=SSL_VERSIONS[version])
    with partners.listening(partners.with_tls(made, b"250 OK\r\n")) as port:
        assert tried(port, scheme=scheme).verdict == "accepted"
        assert tried(port, OF_STRANGER, scheme=scheme).verdict == "refused"


def test_a_mail_server_without_starttls(files):
    with partners.listening(partners.with_tls(partners.context(files), hello=partners.smtp_without)) as port:
        found = tried(port, scheme="smtp")
    assert found.verdict == "unreachable"
    assert found.sentence == "The mail server does not offer STARTTLS."


# --- What is no server at all ---


def reset(connection: socket.socket) -> None:
    connection.recv(10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def silence(connection: socket.socket) -> None:
    time.sleep(3)


def plain(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def drip(connection: socket.socket) -> None:
    for byte in b"\x16\x03\x03\x40\x00" + b"\0" * 100:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def garbage(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(bytes(range(256)) * 40)


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (reset, "broke off"),
        (silence, "did not finish the handshake in time"),
        (plain, "does not speak TLS"),
        (drip, "in time"),
        (garbage, "TLS"),
    ],
)
def test_what_does_not_come_about_is_unreachable_and_in_time(serve, words):
    with partners.listening(serve) as port:
        began = time.monotonic()
        found = tried(port, seconds=1.0)
    assert found.verdict == "unreachable", found
    assert words in found.sentence
    assert time.monotonic() - began < 2.5


@pytest.mark.parametrize("version", SSL_VERSIONS)
@pytest.mark.parametrize("scheme", ["https", "tls"])
def test_who_hangs_up_over_the_certificate_refuses(files, version, scheme):
    """As servers do that look at the certificate themselves, after the handshake."""
    made = partners.context(files, version=SSL_VERSIONS[version])
    made.num_tickets = 0

    def hang_up(connection: socket.socket) -> None:
        with made.wrap_socket(connection, server_side=True):
            pass

    with partners.listening(hang_up) as port:
        found = tried(port, scheme=scheme)
    assert found.verdict == "refused", found
    assert "hung up" in found.sentence


@pytest.mark.parametrize("version", SSL_VERSIONS)
def test_a_server_that_says_nothing_more_is_not_taken_for_content(files, version):
    """In TLS 1.3 it may still be judging the certificate."""
    made = partners.context(files, version=SSL_VERSIONS[version])
    made.num_tickets = 0

    def keep_silent(connection: socket.socket) -> None:
        with made.wrap_socket(connection, server_side=True):
            time.sleep(4)

    with partners.listening(keep_silent) as port:
        found = tried(port, scheme="tls")
    assert found.verdict == "accepted"
    assert ("may still refuse" in found.caution) == (version == "1.3"), found


def test_nobody_listens():
    port = partners.free_port()
    found = tried(port)
    assert found.verdict == "unreachable"
    assert f"Nothing listens at 127.0.0.1:{port}" in found.sentence


def test_a_name_that_does_not_resolve():
    trial = probing.Trial(partners.read("nowhere.invalid"), None)
    found = probing.probe(trial, door=outbound.Door())
    assert found.verdict == "unreachable"
    assert "does not resolve" in found.sentence


def test_an_old_version_of_tls_is_told(files):
    with partners.s_server(files, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0") as port:
        found = tried(port)
    assert found.verdict == "unreachable"
    assert "no version of TLS that today's runtimes speak" in found.sentence


def test_no_key_is_in_any_text_of_a_trial():
    trial = probing.Trial(partners.read("a.example.com"), partners.identity(CLIENT))
    assert "identity" not in repr(trial)
    assert ROOT.certificate_der
