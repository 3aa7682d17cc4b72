"""One request through the door: what it never follows, never waits for, and never shows."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rollouts import exchange
from rollouts.connectors import CONNECTORS, LISTED, ConnectorError, connect, connector_class
from rollouts.exchange import Failed, Peer
from rollouts.outbound import Door
from tests.contracts.worlds import FileMemory
from tests.rollouts.test_outbound import INWARD

PLATFORMS = sorted(set(CONNECTORS) - set(LISTED))
# What a page could be told of each, with an address in it; the rest is as it should be.
TOLD = {
    "webhook": ("url", {"key": "a key that is long enough"}),
    "mendix-cloud": ("base", {"app": "billing", "mode": "Test", "username": "x", "api_key": "y"}),
    "cloud-foundry": ("api", {"app": "7f6c1f0e-3c1d-4a55-9a0e-3f4f7a2c9f10", "username": "x", "password": "y"}),
    "kubernetes": ("api", {"namespace": "prod", "name": "a", "secret_name": "b", "token": "t"}),
    "mendix-operator": ("api", {"namespace": "prod", "name": "a", "token": "t"}),
}


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"connected to {args}")

    monkeypatch.setattr(socket, "create_connection", connect)


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/drips"):
                self.send_response(200)
                self.end_headers()
                for _ in range(30):
                    self.wfile.write(b" ")
                    time.sleep(0.1)
                return
            self.send_response(302 if self.path.endswith("/moved") else 200)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def peer(server: ThreadingHTTPServer, seconds: float = 3) -> Peer:
    door = Door((), {("peer.test", 80): ("127.0.0.1", server.server_port)})
    return Peer("http://peer.test/base", door, seconds=seconds)


def test_every_platform_that_a_page_describes_is_tried_here() -> None:
    assert set(TOLD) >= set(PLATFORMS)


@pytest.mark.parametrize("kind", PLATFORMS)
def test_no_platform_leads_inward(kind: str, no_connection: None, tmp_path: object) -> None:
    """Private networks are normal for platforms; this machine and a cloud's metadata never are."""
    name, rest = TOLD[kind]
    said = set()
    for scheme in ("http", "https"):
        for host in INWARD:
            told = {name: f"{scheme}://{host}/", "door": Door(("public", "private")), "memory": _Nothing(), **rest}
            try:
                seen = connect(kind, told).observe()
            except ConnectorError:
                continue  # not even an address
            assert seen.status == "unreachable"
            if "does not resolve" not in seen.note:
                said.add(seen.note)
    assert len(said) == 1, said


class _Nothing(FileMemory):
    def __init__(self) -> None:
        return

    def recall(self) -> str:
        return ""

    def keep(self, words: str) -> None:
        return


@pytest.mark.parametrize(
    "address",
    [
        "http://user@10.0.0.1/", "http://platform.example.com@127.0.0.1/", "http://127.0.0.1\\@platform.example.com/",
        "http://platform.example.com#@127.0.0.1/", "http://platform.example.com?x=@127.0.0.1/", "file:///etc/passwd",
        "gopher://platform.example.com/", "http:///etc/passwd", "http://platform.example.com/\r\nHost: x", "//host/",
        "http://[::1", "http://platform.example.com:99999/", "ftp://platform.example.com/", "",
    ],
)  # fmt: skip
def test_what_tools_read_differently_is_no_address(address: str, no_connection: None) -> None:
    with pytest.raises(ValueError, match="is not an address like https://host:port/path"):
        exchange.read_address(address)


@pytest.mark.parametrize("kind", [kind for kind in PLATFORMS if kind != "mendix-cloud"])
def test_a_page_is_told_what_is_wrong_with_an_address(kind: str) -> None:
    name, rest = TOLD[kind]
    with pytest.raises(ConnectorError, match="is not an address"):
        connector_class(kind).names({name: "http://platform.example.com@127.0.0.1/", **rest})


def test_a_redirect_is_told_and_not_followed(server: ThreadingHTTPServer) -> None:
    with pytest.raises(Failed, match=r"points elsewhere \(302\), which is not followed"):
        peer(server).ask("GET", "/moved")
    assert peer(server).ask("GET", "/stays").object() == {}


def test_an_answer_that_drips_is_cut_off_and_not_taken_for_a_whole_one(server: ThreadingHTTPServer) -> None:
    began = time.monotonic()
    with pytest.raises(Failed, match="did not answer within 1 seconds"):
        peer(server, seconds=1).ask("GET", "/drips")
    assert time.monotonic() - began < 2.5


def test_the_name_is_asked_for_once(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to something else the second time is never asked a second time."""
    asked = []

    def resolve(host: str, port: int, **_kwargs: object) -> list[object]:
        asked.append(host)
        ip = "93.184.216.34" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))]

    went = []

    def connect(place: tuple[str, int], timeout: float) -> socket.socket:
        went.append(place)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Failed, match="Nothing listens") as refused:
        Peer("https://rebinds.example.com/", Door()).ask("GET", "/")
    assert (asked, went) == (["rebinds.example.com"], [("93.184.216.34", 443)])
    assert refused.value.nobody
