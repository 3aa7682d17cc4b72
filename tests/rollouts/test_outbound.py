"""The one door to the outside: what it never reaches, however it is written or resolved."""

from __future__ import annotations

import ipaddress
import itertools
import socket
import time

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from certificates.addresses import SCHEMES, AddressError, read
from portal import doors
from rollouts import outbound
from rollouts.outbound import Door, NotAllowed, Unreachable, reach
from tests.rollouts import partners

WIDE = Door(("public", "private", *(ipaddress.ip_network(n) for n in ("0.0.0.0/0", "::/0"))))
INWARD = [
    "127.0.0.1", "127.1", "127.255.255.254", "0", "0.0.0.0", "0x7f000001", "0177.0.0.1", "017700000001", "2130706433",
    "localhost", "LOCALHOST.", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "169.254.169.254", "2852039166", "0xa9fea9fe",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[fd00:ec2::254]", "[fe80::1]", "[fe80::1%1]", "100.100.100.200",
    "192.0.0.192", "168.63.129.16", "224.0.0.1", "255.255.255.255", "[ff02::1]",
]  # fmt: skip


def until(seconds: float = 3.0) -> float:
    return time.monotonic() + seconds


@pytest.fixture
def no_connection(monkeypatch):
    """Whoever connects anywhere fails the test."""

    def connect(*args, **kwargs):
        raise AssertionError(f"connected to {args}")

    monkeypatch.setattr(socket, "create_connection", connect)


@pytest.mark.parametrize("host", INWARD)
def test_nothing_leads_inward_even_where_every_network_is_allowed(host, no_connection):
    with pytest.raises((NotAllowed, Unreachable)) as refused:
        reach(host, 80, door=WIDE, until=until())
    if isinstance(refused.value, Unreachable):
        assert refused.value.step == "name", "only what no resolver knows is told apart"


def test_the_answers_for_what_is_not_allowed_are_all_the_same(no_connection):
    said = set()
    for host, port in itertools.product(
        ("10.0.0.1", "127.0.0.1", "169.254.169.254", "[::1]", "192.168.1.1"), (22, 443)
    ):
        with pytest.raises(NotAllowed) as refused:
            reach(host, port, door=Door(), until=until())
        said.add(str(refused.value))
    assert len(said) == 1
    assert "10.0" not in said.pop()


def test_a_door_to_nothing_does_not_even_resolve(monkeypatch, no_connection):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: pytest.fail("it asked a name server"))
    with pytest.raises(NotAllowed):
        reach("partner.example.com", 443, door=Door(()), until=until())


def test_a_name_is_resolved_once_and_the_judged_address_is_what_is_connected_to(monkeypatch):
    """Rebinding: the second answer would be loopback."""
    asked, went = [], []
    answers = iter([["198.51.100.7"], ["127.0.0.1"]])

    def resolve(host, port, **kwargs):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in next(answers)]

    def connect(place, timeout):
        went.append(place)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    door = Door((ipaddress.ip_network("198.51.100.0/24"),))
    with pytest.raises(Unreachable, match=r"198\.51\.100\.7"):
        reach("rebinds.example.com", 443, door=door, until=until())
    assert (asked, went) == (["rebinds.example.com"], [("198.51.100.7", 443)])


def test_of_a_name_with_a_public_and_an_inward_address_only_the_public_one_is_tried(monkeypatch):
    went = []

    def resolve(host, port, **kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.1", "8.8.8.8", "10.0.0.1")]

    def connect(place, timeout):
        went.append(place[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Unreachable):
        reach("mixed.example.com", 443, door=Door(), until=until())
    assert went == ["8.8.8.8"]


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(3) or [])
    began = time.monotonic()
    with pytest.raises(Unreachable, match="not resolved in time"):
        reach("slow.example.com", 443, door=Door(), until=until(0.3))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888"])
def test_public_addresses_are_allowed_by_default_and_private_ones_where_they_are_named(address):
    assert Door().allows(ipaddress.ip_address(address))
    assert not Door(("private",)).allows(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["10.1.2.3", "172.16.0.1", "192.168.0.1", "100.64.0.1", "fd12::1"])
def test_private_networks_are_a_choice(address):
    found = ipaddress.ip_address(address)
    assert not Door().allows(found)
    assert Door(("private",)).allows(found)
    assert Door((ipaddress.ip_network(address),)).allows(found)


@given(st.ip_addresses())
def test_no_list_of_networks_opens_what_is_never_reached(address):
    judged = outbound.embedded(address)
    if judged.is_loopback or judged.is_link_local or judged.is_multicast or judged.is_unspecified:
        assert not WIDE.allows(address)


def test_only_the_exact_name_and_port_of_a_place_is_on_loopback():
    with partners.listening(lambda connection: None) as port:
        door = Door(places={("bank.sandbox.test", 443): ("127.0.0.1", port)})
        with reach("Bank.Sandbox.Test.", 443, door=door, until=until()).connection:
            pass
        for host, other in (("bank.sandbox.test", 80), ("open.sandbox.test", 443), ("127.0.0.1", port)):
            with pytest.raises((NotAllowed, Unreachable)):
                reach(host, other, door=door, until=until())


def test_what_swallows_everything_is_left_in_time():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _one in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        door = Door(places={("full.example.com", 443): ("127.0.0.1", port)})
        began = time.monotonic()
        with pytest.raises(Unreachable, match="in time"):
            reach("full.example.com", 443, door=door, until=until(0.5))
        assert time.monotonic() - began < 2
        for one in waiting:
            one.close()


# --- Through a proxy ---


def proxy(answer: bytes, asked: list[bytes]):
    def serve(connection: socket.socket) -> None:
        asked.append(connection.recv(4096))
        connection.sendall(answer)
        time.sleep(0.2)

    return partners.listening(serve)


def test_a_proxy_is_given_the_address_that_was_judged(monkeypatch):
    def resolve(host, port, **kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]

    asked: list[bytes] = []
    with proxy(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n\x16\x03", asked) as port:
        real = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *a, **k: real(host, *a, **k) if host == "127.0.0.1" else resolve(host, *a, **k),
        )
        found = reach("partner.example.com", 443, door=Door(proxy=("127.0.0.1", port)), until=until())
        with found.connection:
            assert found.connection.recv(2) == b"\x16\x03", "what follows the answer was left for TLS"
    assert asked[0].startswith(b"CONNECT 8.8.8.8:443 HTTP/1.1\r\n")
    assert found.address == "8.8.8.8"


@pytest.mark.parametrize(
    ("answer", "words"),
    [(b"HTTP/1.1 403 Forbidden\r\n\r\n", "did not let us through"), (b"", "no answer"), (b"x" * 20_000, "no answer")],
)
def test_a_proxy_that_does_not_let_us_through_is_named(answer, words):
    asked: list[bytes] = []
    with proxy(answer, asked) as port, pytest.raises(Unreachable, match=words) as refused:
        reach("8.8.8.8", 443, door=Door(proxy=("127.0.0.1", port)), until=until())
    assert refused.value.step == "proxy"


def test_through_a_proxy_nothing_leads_inward_either(no_connection):
    with pytest.raises(NotAllowed):
        reach("169.254.169.254", 80, door=Door(proxy=("proxy.example.com", 3128)), until=until())


# --- As the server's settings say it ---


def test_the_settings_in_words():
    proxy = doors.proxy("http://proxy.example.com:3128")
    door = doors.door("REACH", ["public", "10.20.0.0/16"], places={}, proxy=proxy)
    assert door.reach == ("public", ipaddress.ip_network("10.20.0.0/16"))
    assert door.proxy == ("proxy.example.com", 3128)
    assert doors.door("REACH", ["nothing"], places={}, proxy=doors.proxy("")) == Door(())


@pytest.mark.parametrize("words", [["10.0.0.1/8"], ["everything"], ["public", "nothing"]])
def test_a_network_that_cannot_be_meant_ends_the_start_with_a_sentence(words):
    with pytest.raises(ImproperlyConfigured, match="REACH holds"):
        doors.door("REACH", words, places={}, proxy=None)


@pytest.mark.parametrize("text", ["proxy:3128", "http://u:p@proxy:1", "http://proxy:99999", "http://proxy"])
def test_a_proxy_that_cannot_be_meant_ends_the_start_with_a_sentence(text):
    with pytest.raises(ImproperlyConfigured, match="COUNTERSIGN_EGRESS_PROXY is"):
        doors.proxy(text)


# --- Addresses to test ---


@given(
    st.sampled_from(sorted(SCHEMES)),
    st.from_regex(r"[a-z0-9]{1,20}(\.[a-z0-9]{1,20}){0,3}", fullmatch=True)
    | st.ip_addresses(v=6).map(lambda a: f"[{a}]"),
    st.integers(1, 65535),
)
def test_an_address_reads_as_what_it_says(scheme, host, port):
    if "%" in host:
        return
    address = read(f"{scheme}://{host}:{port}")
    assert (address.scheme, address.port) == (scheme, port)
    assert read(str(address)) == address


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused_and_never_breaks_a_request_line(text):
    try:
        address = read(text)
    except AddressError:
        return
    assert address.host
    assert not set(f"{address.host}{address.path}") & set(" \r\n\t#@\\")
