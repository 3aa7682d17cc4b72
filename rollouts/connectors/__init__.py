"""Who delivers a bundle, and stops, starts and observes the app. One file each; a new one is one line in CONNECTORS.

A connector sees values, never a row and never the vault. Every call is bounded by CALL_LIMIT seconds, may be repeated
after a crash without harm (delivering twice, stopping what is stopped and starting what runs change nothing), and
either returns or raises ConnectorError with one sentence for the operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol

from certificates.content import Bundle

# Below half of a rollout's lease (rollouts/moves.py), so that a call never outlives the right to make it.
CALL_LIMIT = 25.0

AppStatus = Literal["running", "starting", "stopped", "unreachable"]


class ConnectorError(Exception):
    """One sentence for the operator: what is wrong on the platform's side, and what to do."""


class OutOfOrder(ConnectorError):
    """The platform has carried out a later order already, so this one was not carried out."""


@dataclass(frozen=True)
class Observation:
    """What the platform says about the app now.

    `incarnation` identifies this start of the app and is "" while it does not run. `digest` is the digest of the
    configuration that the app itself reports (certificates.content.digest_of_files), or None where it reports none.
    `ended` is the incarnation of a start that came to its end by itself, "" where a stop ended it or nobody knows.
    """

    status: AppStatus
    incarnation: str = ""
    digest: str | None = None
    note: str = ""
    ended: str = ""


class Connector(Protocol):
    """The calls that a rollout makes. Constructed with the settings of one environment's destination.

    `order` is the fencing number of whoever gives the orders, 0 for none. It grows with each worker that takes over, so
    a platform that can remember the highest one raises OutOfOrder instead of carrying out what a worker that was held
    up still wanted to do. What a platform cannot refuse is made good afterwards (rollouts.actions.make_good).
    """

    def __init__(self, settings: Mapping[str, Any], order: int = 0) -> None: ...

    def check(self) -> str:
        """Reaches the platform without changing anything; returns one sentence that says what was found."""

    def deliver(self, bundle: Bundle) -> None:
        """Puts the bundle where the next start of the app reads it: all of it or nothing, switched at once."""

    def delivered_digest(self) -> str:
        """Reads the delivered files back and returns their digest (that of no files where there are none)."""

    def stop(self) -> None:
        """Returns when the app does not run."""

    def start(self) -> None:
        """Returns when the platform has taken the start; whether the app came up is for `observe` to say."""

    @property
    def reloads(self) -> bool:
        """Whether a running app reads what is delivered without being stopped."""

    def reload(self) -> None:
        """Returns when the platform has taken it. Called only where it `reloads`; an app that does not run is
        started. What runs afterwards counts as another start: its incarnation is another one."""

    def observe(self) -> Observation:
        """Says what runs now. Never raises for an app that is down: that is an observation."""


# kind (stored, never changes) -> dotted path of the class
CONNECTORS: dict[str, str] = {
    "directory": "rollouts.connectors.directory.Directory",
    "local-process": "rollouts.connectors.local_process.LocalProcess",
}


def connect(kind: str, settings: Mapping[str, Any], order: int = 0) -> Connector:
    """The connector of this kind, ready to be called. Raises ConnectorError for a kind that is not installed."""
    try:
        module, _, name = CONNECTORS[kind].rpartition(".")
    except KeyError:
        raise ConnectorError(f"No connector “{kind}” is installed; choose another one under Settings.") from None
    connector: Connector = getattr(import_module(module), name)(settings, order)
    return connector
