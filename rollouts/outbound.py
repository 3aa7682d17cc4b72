"""The one door through which the portal connects to anything that is not a part of it. No Django here.

A name is resolved once, each address is judged by what the server's settings allow for the purpose, and the connection
goes to an address that was judged: a name that resolves differently the second time is never asked a second time.
Whatever may not be reached gets one and the same answer, so that nobody learns from it what is there.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Of the addresses of one name, as many are tried.
TRIED = 4
# RFC 9110 §9.3.6: the answer of a proxy to CONNECT is a status line and fields; no proxy needs more for them.
PROXY_ANSWER = 16 * 1024

PRIVATE: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
# Where clouds hand the machine's own credentials to whoever asks, and what else is never a partner: not even where a
# list of the settings holds it.
NEVER: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.192/32",  # Oracle
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's wire server
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "fe80::/10",
        "fd00:ec2::254/128",  # Amazon
        "fd20:ce::254/128",  # Google
        "ff00::/8",
    )
)
# An IPv4 address inside an IPv6 one is judged as what it is (RFC 6052 §2.1, RFC 3056 §2, RFC 4291 §2.5.5).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


class Unreachable(Exception):
    """One sentence: what could not be reached, and at which step (`name`, `connect`, `proxy` or `time`)."""

    def __init__(self, step: str, sentence: str) -> None:
        super().__init__(sentence)
        self.step = step


class NotAllowed(Exception):
    """The server's settings do not let this purpose connect there. The same sentence for every address."""


@dataclass(frozen=True)
class Door:
    """What one purpose may reach.

    `reach` holds networks, and the words `public` and `private`. `places` says of names that are not in any directory
    where they are, as (name, port) → (address, port): the sandbox's own, which alone are on loopback. `proxy` is
    (host, port) of an HTTP proxy that carries every other connection.
    """

    reach: tuple[Network | Literal["public", "private"], ...] = ("public",)
    places: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    proxy: tuple[str, int] | None = None

    def allows(self, address: Address) -> bool:
        judged = embedded(address)
        if any(judged in network for network in NEVER if network.version == judged.version):
            return False
        for allowed in self.reach:
            match allowed:
                case "public":
                    if judged.is_global and not any(judged in n for n in PRIVATE if n.version == judged.version):
                        return True
                case "private":
                    if any(judged in network for network in PRIVATE if network.version == judged.version):
                        return True
                case network if network.version == judged.version and judged in network:
                    return True
        return False


@dataclass(frozen=True)
class Reached:
    """An open connection, and the address that it goes to; `found` are all that the name stands for."""

    connection: socket.socket
    address: str
    found: tuple[str, ...]


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one carries, or the address itself. Of a zone nothing is left."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    address = ipaddress.IPv6Address(int(address))
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 0xFFFF):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def reach(host: str, port: int, *, door: Door, until: float) -> Reached:
    """Connects to one of the host's addresses that the door allows. `until` is a moment of time.monotonic().

    Raises NotAllowed, before anything is sent, and Unreachable.
    """
    host = host.strip("[]").rstrip(".").lower()
    if place := door.places.get((host, port)):
        return Reached(_connect([place[0]], place[1], until), place[0], (place[0],))
    found = _resolved(host, port, until) if door.reach else ()
    allowed = [str(address) for address in found if door.allows(address)]
    if not allowed:
        raise NotAllowed(
            "This server is not allowed to connect there; whoever runs it can allow the network in its settings."
        )
    names = tuple(str(address) for address in found)
    if door.proxy:
        return Reached(_through_proxy(door.proxy, allowed[0], port, until), allowed[0], names)
    connection = _connect(allowed[:TRIED], port, until)
    return Reached(connection, connection.getpeername()[0], names)


def _resolved(host: str, port: int, until: float) -> Sequence[Address]:
    """Every address of the name, in the order in which the system would try them."""
    found: list[Address] = []
    failed: list[OSError | UnicodeError] = []

    def ask() -> None:
        try:
            for *_rest, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                address = ipaddress.ip_address(str(place[0]).partition("%")[0])
                if address not in found:
                    found.append(address)
        except (OSError, UnicodeError) as error:
            failed.append(error)

    # The system's resolver keeps to no time limit of ours, so it is left alone when ours is over.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(max(0.0, until - time.monotonic()))
    if asking.is_alive():
        raise Unreachable("time", f"The name {host} was not resolved in time; look at the name servers.")
    if failed or not found:
        raise Unreachable("name", f"The name {host} does not resolve here; correct it, or look at the name servers.")
    return found


def _connect(addresses: Sequence[str], port: int, until: float) -> socket.socket:
    last: OSError = TimeoutError()
    for number, address in enumerate(addresses):
        left = until - time.monotonic()
        if left <= 0:
            break
        try:
            # Each gets its share of the time, so that one that swallows everything leaves some for the next.
            return socket.create_connection((address, port), timeout=left / (len(addresses) - number))
        except OSError as error:
            last = error
    where = f"{addresses[0]}:{port}" if ":" not in addresses[0] else f"[{addresses[0]}]:{port}"
    if isinstance(last, TimeoutError):
        raise Unreachable("time", f"Nothing answered at {where} in time; a firewall may swallow it.")
    if isinstance(last, ConnectionRefusedError):
        raise Unreachable("connect", f"Nothing listens at {where}; correct the address or port.")
    raise Unreachable("connect", f"{where} cannot be reached ({last.strerror or 'no reason given'}).")


def _through_proxy(proxy: tuple[str, int], address: str, port: int, until: float) -> socket.socket:
    """RFC 9110 §9.3.6, to the address that was judged, so that the proxy resolves nothing."""
    try:
        connection = socket.create_connection(proxy, timeout=max(0.1, until - time.monotonic()))
    except OSError as error:
        reason = error.strerror or "no reason given"
        raise Unreachable("proxy", f"The proxy {proxy[0]}:{proxy[1]} cannot be reached ({reason}).") from None
    try:
        target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            connection.settimeout(max(0.1, until - time.monotonic()))
            # A byte at a time at the end: what follows the answer belongs to the connection behind it.
            piece = connection.recv(1)
            answer += piece
            if not piece or len(answer) > PROXY_ANSWER:
                raise OSError
        status = answer.split(b"\r\n", 1)[0].decode("ascii", "replace")
    except OSError:
        connection.close()
        raise Unreachable("proxy", f"The proxy {proxy[0]}:{proxy[1]} gave no answer to CONNECT.") from None
    if status.split(" ")[1:2] != ["200"]:
        with contextlib.suppress(OSError):
            connection.close()
        raise Unreachable("proxy", f"The proxy {proxy[0]}:{proxy[1]} did not let us through ({status[:80]}).")
    return connection
