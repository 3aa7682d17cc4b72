"""Who made the changes that are not running, and when, read from the audit log in one query."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from audit.models import Event
from environments.models import Environment
from rollouts.changes import SETTINGS, Change
from rollouts.models import Destination

# Which detail of an event names what a change is about.
ABOUT = {
    "certificate.added": ("certificate", "slot"),
    "certificate.renewed": ("certificate", "slot"),
    "certificate.version-chosen": ("certificate", "slot"),
    "certificate.enabled": ("certificate", "slot"),
    "certificate.disabled": ("certificate", "slot"),
    "certificate.removed": ("certificate", "slot"),
    "certificate.moved": ("order", ""),
    "pin.added": ("pin", "target"),
    "pin.changed": ("pin", "target"),
    "pin.removed": ("pin", "target"),
    "trust.added": ("authority", "sha256"),
    "trust.removed": ("authority", "sha256"),
}
# Taking one of these in or out also moves the others.
REORDERS = ("certificate.removed", "certificate.disabled", "certificate.enabled")
OTHERS = ("environment.changed", "environment.placed", "changes.undone")


@dataclass(frozen=True)
class Author:
    """Who did it last; `name` is “you” for the reader."""

    name: str
    at: datetime
    person: str = ""  # their id, where it was a person


def for_reader(name: str, person: str, reader: Any) -> str:
    return _("you") if person and person == str(reader.pk) else name


def of_changes(environment: Environment, destination: Destination | None, reader: Any) -> dict[tuple[str, str], Author]:
    """(what, key) of a change → who did it last, as the reader reads it. One query."""
    who = known(environment, destination)
    return {
        about: replace(author, name=for_reader(author.name, author.person, reader)) for about, author in who.items()
    }


def known(environment: Environment, destination: Destination | None) -> dict[tuple[str, str], Author]:
    """(what, key) of a change → who did it last. Events since the running revision was frozen, newest first."""
    events = Event.objects.filter(environment_id=str(environment.pk), action__in=[*ABOUT, *OTHERS], refused=False)
    if destination is not None and destination.running is not None:
        events = events.filter(at__gte=destination.running.created_at)
    who: dict[tuple[str, str], Author] = {}
    for event in events.order_by("-id")[:500].values("action", "actor", "actor_id", "at", "body"):
        if event["action"] == "changes.undone":
            break  # nothing that differs now is older
        for about in _about(event["action"], json.loads(event["body"])["details"]):
            who.setdefault(about, Author(event["actor"], event["at"], event["actor_id"]))
    return who


def of_change(change: Change, who: dict[tuple[str, str], Author]) -> Author | None:
    return of(change.what, change.key, change.before if change.what == "pin" else None, who)


def of(what: str, key: str, sent: str | None, who: dict[tuple[str, str], Author]) -> Author | None:
    """A pin that went because the certificate that it sent was disabled or removed is the deed of whoever did that."""
    return who.get((what, key)) or (who.get(("certificate", sent)) if sent else None)


def _about(action: str, details: dict[str, Any]) -> Iterator[tuple[str, str]]:
    match action:
        case "environment.changed":
            yield from (("setting", name) for name in details.get("changed", {}) if name in SETTINGS)
        case "environment.placed":
            yield "setting", "base_folder"
        case "certificate.renewed" if not details.get("with_next_apply", True):
            return  # kept ready: nothing differs by it
        case _:
            what, detail = ABOUT[action]
            yield what, details.get(detail, "") if detail else ""
            if action == "pin.changed":
                yield "pin", details.get("before", {}).get("target", "")
            if action in REORDERS:
                yield "order", ""
