"""What the portal may connect to, out of the server's environment variables (rollouts/outbound.py)."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from rollouts.exchange import read_address
from rollouts.outbound import Door, Network

Places = Mapping[tuple[str, int], tuple[str, int]]


def door(name: str, words: Sequence[str], *, places: Places, proxy: tuple[str, int] | None) -> Door:
    """The door of one purpose, out of what the variable of this name holds. Raises ImproperlyConfigured."""
    reach: list[Network | Literal["public", "private"]] = []
    for word in words:
        if word == "public":
            reach.append("public")
        elif word == "private":
            reach.append("private")
        elif word == "nothing" and len(words) == 1:
            break
        else:
            reach.append(_network(name, word))
    return Door(tuple(reach), dict(places), proxy)


def sandbox_places(tls_port: int) -> Places:
    """Where the sandbox's partner is, by the names that its certificates bear."""
    hosts = ("bank.sandbox.test", "open.sandbox.test")
    return {(host, port): ("127.0.0.1", tls_port) for host in hosts for port in (443, tls_port)}


def own_places(known: Mapping[str, Mapping[str, object]], name: str) -> Places:
    """The ports on this machine that the server's settings name for its apps, under this name: who may write those
    decides what runs."""
    found = {}
    for place in known.values():
        with contextlib.suppress(ValueError):
            _tls, host, port, _path = read_address(str(place.get(name, "")))
            if host in ("127.0.0.1", "localhost", "::1"):
                found[host, port] = (host.replace("localhost", "127.0.0.1"), port)
    return found


def _network(name: str, word: str) -> Network:
    try:
        return ipaddress.ip_network(word)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} holds “{word}”; write public, private, nothing, or a network like 10.20.0.0/16 ({error})."
        ) from None


def proxy(text: str) -> tuple[str, int] | None:
    """Host and port out of COUNTERSIGN_EGRESS_PROXY. Raises ImproperlyConfigured."""
    if not text:
        return None
    try:
        parts = urlsplit(text)
        if parts.scheme == "http" and parts.hostname and parts.port and not parts.username:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise ImproperlyConfigured(f"COUNTERSIGN_EGRESS_PROXY is “{text}”; write http://host:port.")
