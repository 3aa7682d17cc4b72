"""Who made the changes that are not running, read from the audit log in one query."""

from __future__ import annotations

import json
from typing import Any

from django.utils.translation import gettext as _

from audit.models import Event
from environments.models import Environment
from rollouts.models import Destination

# Which detail of an event names what a change is about.
ABOUT = {
    "certificate.added": ("certificate", "slot"),
    "certificate.renewed": ("certificate", "slot"),
    "certificate.version-chosen": ("certificate", "slot"),
    "certificate.enabled": ("certificate", "slot"),
    "certificate.disabled": ("certificate", "slot"),
    "certificate.removed": ("certificate", "slot"),
    "pin.added": ("pin", "target"),
    "pin.changed": ("pin", "target"),
    "pin.removed": ("pin", "target"),
    "certificate.moved": ("order", ""),
}


def of_changes(environment: Environment, destination: Destination | None, reader: Any) -> dict[tuple[str, str], str]:
    """(what, key) of a change → who did it last, “you” for the reader. Events since the running revision was frozen."""
    events = Event.objects.filter(environment_id=str(environment.pk), action__in=ABOUT, refused=False)
    if destination is not None and destination.running is not None:
        events = events.filter(at__gte=destination.running.created_at)
    who: dict[tuple[str, str], str] = {}
    for event in events.order_by("-id")[:500].values("action", "actor", "actor_id", "body"):
        what, detail = ABOUT[event["action"]]
        details = json.loads(event["body"])["details"]
        name = _("you") if event["actor_id"] == str(reader.pk) else event["actor"]
        who.setdefault((what, details.get(detail, "") if detail else ""), name)
        if event["action"] in ("certificate.removed", "certificate.disabled"):
            who.setdefault(("order", ""), name)
    return who
