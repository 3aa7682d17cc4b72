"""A page of the app itself that has to answer after a restart: an address, a status, and a text in what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from rollouts import exchange
from rollouts.models import Destination


@dataclass(frozen=True)
class Finding:
    """`sentence` says what was asked and what came."""

    is_well: bool
    sentence: str


def ask(destination: Destination, seconds: float) -> Finding:
    """Never raises: an app that cannot be asked is one that is not well."""
    url = destination.health_url
    try:
        peer = exchange.Peer(_base(url), settings.DOORS["health"], _trusted(destination), seconds)
        answer = peer.ask("GET", _rest(url), headers={"Accept": "*/*"})
    except (exchange.Failed, ValueError) as error:
        return Finding(False, str(error))
    if answer.status != destination.health_status:
        return Finding(False, f"{url} answered {answer.status}; {destination.health_status} was expected.")
    if destination.health_text and destination.health_text.encode() not in answer.body:
        return Finding(False, f"{url} answered {answer.status}, without “{destination.health_text}” in it.")
    return Finding(True, f"{url} answered {answer.status}.")


def _base(url: str) -> str:
    """Scheme, host and port: what follows may have a query, which no platform's address has."""
    scheme, slashes, rest = url.partition("://")
    return scheme + slashes + rest.partition("/")[0]


def _rest(url: str) -> str:
    return "/" + url.partition("://")[2].partition("/")[2]


def check_address(url: str) -> None:
    """Raises ValueError with a sentence."""
    exchange.read_address(_base(url))
    if not _rest(url).isascii() or not _rest(url).isprintable() or " " in url or "#" in url:
        raise ValueError(f"“{url[:100]}” is not an address like https://host:port/path; correct it.")


def _trusted(destination: Destination) -> str:
    """The authorities that the place's settings name, as PEM."""
    path = destination.settings.get("trust")
    if not path:
        return ""
    try:
        return Path(str(path)).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
