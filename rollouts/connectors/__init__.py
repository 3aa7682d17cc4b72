"""Who delivers a bundle, and stops, starts and observes the app. One file each; a new one is one line in CONNECTORS.

A connector sees values, never a row and never the vault. Every call is bounded by CALL_LIMIT seconds, may be repeated
after a crash without harm (delivering twice, stopping what is stopped and starting what runs change nothing), and
either returns or raises ConnectorError with one sentence for the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol

from certificates.content import Bundle

# Below half of a rollout's lease (rollouts/moves.py), so that a call never outlives the right to make it.
CALL_LIMIT = 25.0

AppStatus = Literal["running", "starting", "stopped", "unreachable"]


class ConnectorError(Exception):
    """One sentence for the operator: what is wrong on the platform's side, and what to do."""


class NotYet(ConnectorError):
    """The platform is still at it, and the same call is to be made again in a moment. One sentence: what it is at."""


class OutOfOrder(ConnectorError):
    """The platform has carried out a later order already, so this one was not carried out."""


@dataclass(frozen=True)
class Abilities:
    """What a platform can do and prove, as far as a rollout and its pages have to know.

    `proves`: one sentence on the strongest proof that it can give. `stops`: an app can be stopped, and stays so.
    `reloads`: a running app reads what is delivered without being stopped. `restarts`: one order restarts the app, and
    the platform sees to it that it comes back. `delivery_restarts`: it restarts the app by itself for a delivery.
    `hands_over`: people deliver, the portal does the rest. `keeps_what_was`: what others had put there before the first
    delivery comes back when that one fails.
    """

    proves: str
    stops: bool = True
    reloads: bool = False
    restarts: bool = False
    delivery_restarts: bool = False
    hands_over: bool = False
    keeps_what_was: bool = False


@dataclass(frozen=True)
class Setting:
    """One thing that a page asks for, to reach a platform. A secret is sealed, and never shown again."""

    name: str
    label: str
    kind: Literal["text", "address", "secret", "secret-text", "long", "choice"] = "text"
    help: str = ""
    required: bool = True
    choices: tuple[tuple[str, str], ...] = ()

    @property
    def is_secret(self) -> bool:
        return self.kind in ("secret", "secret-text")


@dataclass(frozen=True)
class Tick:
    """One step of a look at a platform that changes nothing: reach, sign in, read its status, may restart."""

    title: str
    outcome: Literal["ok", "warn", "failed"]
    result: str = ""


def gettext_noop(text: str) -> str:
    """Marks a text for translators; who shows it translates it."""
    return text


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


class Memory(Protocol):
    """A few words that a connector may keep between calls, where its platform keeps none for it."""

    def recall(self) -> str: ...

    def keep(self, words: str) -> None: ...


class Connector(Protocol):
    """The calls that a rollout makes. Constructed with the settings of one environment's destination, among them its
    secrets, `door` (rollouts.outbound.Door) and `memory` (Memory).

    `order` is the fencing number of whoever gives the orders, 0 for none. It grows with each worker that takes over, so
    a platform that can remember the highest one raises OutOfOrder instead of carrying out what a worker that was held
    up still wanted to do. What a platform cannot refuse is made good afterwards (rollouts.actions.make_good).
    """

    # For a page: its name, what it has to be told (none where the server's settings say everything), and the exports
    # that it can deliver (none: any).
    title: str
    asks: tuple[Setting, ...]
    exporters: tuple[str, ...]

    def __init__(self, settings: Mapping[str, Any], order: int = 0) -> None: ...

    @staticmethod
    def able(settings: Mapping[str, Any]) -> Abilities:
        """What it can do with these settings, secrets aside."""

    @staticmethod
    def names(settings: Mapping[str, Any]) -> tuple[str, str]:
        """What tells this app from every other one on platforms of this kind, and its name for people. Raises
        ConnectorError for settings that name none."""

    def check(self) -> str:
        """Reaches the platform without changing anything; returns one sentence that says what was found."""

    def ticks(self) -> Iterator[Tick]:
        """The same step by step; it ends with the first one that fails."""

    def deliver(self, bundle: Bundle) -> None:
        """Puts the bundle where the next start of the app reads it: all of it or nothing, switched at once."""

    def delivered_digest(self) -> str:
        """Reads the delivered files back and returns their digest (that of no files where there are none)."""

    def stop(self) -> None:
        """Returns when the app does not run."""

    def start(self) -> None:
        """Returns when the platform has taken the start; whether the app came up is for `observe` to say."""

    def reload(self) -> None:
        """Returns when the platform has taken it. Called only where it `reloads`; an app that does not run is
        started. What runs afterwards counts as another start: its incarnation is another one."""

    def restart(self) -> None:
        """Returns when the platform has taken it. Called only where it `restarts`; as `reload` otherwise."""

    def observe(self) -> Observation:
        """Says what runs now. Never raises for an app that is down: that is an observation."""


# These stand in the server's settings (portal/places.py): a command, a folder or a port of this machine is never typed
# on a page.
LISTED = ("directory", "local-process", "m2ee")

# kind (stored, never changes) -> dotted path of the class
CONNECTORS: dict[str, str] = {
    "cloud-foundry": "rollouts.connectors.cloud_foundry.CloudFoundry",
    "directory": "rollouts.connectors.directory.Directory",
    "kubernetes": "rollouts.connectors.kubernetes.Kubernetes",
    "local-process": "rollouts.connectors.local_process.LocalProcess",
    "m2ee": "rollouts.connectors.m2ee.M2ee",
    "mendix-cloud": "rollouts.connectors.mendix_cloud.MendixCloud",
    "mendix-operator": "rollouts.connectors.mendix_operator.MendixOperator",
    "webhook": "rollouts.connectors.webhook.Webhook",
}


def connector_class(kind: str) -> type[Connector]:
    """Raises ConnectorError for a kind that is not installed."""
    try:
        module, _, name = CONNECTORS[kind].rpartition(".")
    except KeyError:
        raise ConnectorError(f"No connector “{kind}” is installed; choose another one under Settings.") from None
    found: type[Connector] = getattr(import_module(module), name)
    return found


def connect(kind: str, settings: Mapping[str, Any], order: int = 0) -> Connector:
    """The connector of this kind, ready to be called. Raises ConnectorError for a kind that is not installed."""
    return connector_class(kind)(settings, order)


def stepwise(*steps: tuple[str, Callable[[], str]]) -> Iterator[Tick]:
    """Each step's title and what it finds, up to the first one that raises ConnectorError."""
    for title, step in steps:
        try:
            yield Tick(title, "ok", step())
        except ConnectorError as error:
            yield Tick(title, "failed", str(error))
            return


def all_right(ticks: Iterator[Tick]) -> list[Tick]:
    """All of them, none of which failed. Raises ConnectorError with the sentence of the one that did."""
    found = []
    for tick in ticks:
        if tick.outcome == "failed":
            raise ConnectorError(tick.result)
        found.append(tick)
    return found
