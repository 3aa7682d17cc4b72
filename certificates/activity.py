"""What happened to a certificate, told from the audit log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from audit.models import Event
from certificates.models import ClientCertificate


@dataclass(frozen=True)
class Deed:
    """One line: when, who, what."""

    at: datetime
    actor: str
    sentence: str


WORDS = {
    "certificate.added": lambda d: _("Added"),
    "certificate.renewed": lambda d: (
        _("Version %(version)s uploaded, for the next apply")
        if d.get("with_next_apply")
        else _("Version %(version)s uploaded, kept ready")
    ),
    "certificate.version-chosen": lambda d: _("Version %(version)s chosen for the next apply"),
    "certificate.renamed": lambda d: _("Renamed from “%(before)s” to “%(after)s”"),
    "certificate.described": lambda d: _("What is known of the partner changed"),
    "certificate.enabled": lambda d: _("Enabled"),
    "certificate.disabled": lambda d: _("Disabled"),
    "certificate.moved": lambda d: _("Moved to position %(position)s"),
    "certificate.removed": lambda d: _("Removed"),
    "key.compromised": lambda d: _("Its key was said to be compromised"),
}


def activity(certificate: ClientCertificate, newest: int = 20) -> list[Deed]:
    """The newest events of which this certificate is the subject, newest first. One query."""
    events = Event.objects.filter(subject_id=str(certificate.pk), refused=False).order_by("-id")[:newest]
    return [Deed(e.at, e.actor, _sentence(e.action, json.loads(e.body)["details"])) for e in events]


def _sentence(action: str, details: dict[str, Any]) -> str:
    if action in WORDS:
        return WORDS[action](details) % details
    return action.rpartition(".")[2].replace("-", " ").capitalize()
