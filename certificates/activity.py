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
    "certificate.renewed": lambda d: _renewed(d),
    "draft.discarded": lambda d: _("What the partner sent was discarded: %(reason)s"),
    "draft.expired": lambda d: _("What the partner sent was destroyed, because nobody confirmed it within 14 days"),
    "link.created": lambda d: _("Partner asked for the next one"),
    "link.expired": lambda d: _("Upload link expired unused"),
    "link.limited": lambda d: _("Upload link closed after %(tries)s attempts"),
    "link.mailed": lambda d: _("Upload link mailed to %(to)s"),
    "link.used": lambda d: _("Sent %(file)s"),
    "link.withdrawn": lambda d: _("Upload link withdrawn"),
    "certificate.version-chosen": lambda d: _("Version %(version)s chosen for the next apply"),
    "certificate.renamed": lambda d: _("Renamed from “%(before)s” to “%(after)s”"),
    "certificate.described": lambda d: _("What is known of the partner changed"),
    "certificate.enabled": lambda d: _("Enabled"),
    "certificate.disabled": lambda d: _("Disabled"),
    "certificate.moved": lambda d: _("Moved to position %(position)s"),
    "certificate.removed": lambda d: _("Removed"),
    "key.compromised": lambda d: _("Its key was said to be compromised"),
}


def _renewed(details: dict[str, Any]) -> str:
    if details.get("sent_by_partner"):
        return (
            _("Version %(version)s, sent by the partner, confirmed for the next apply")
            if details.get("with_next_apply")
            else _("Version %(version)s, sent by the partner, confirmed and kept ready")
        )
    return (
        _("Version %(version)s uploaded, for the next apply")
        if details.get("with_next_apply")
        else _("Version %(version)s uploaded, kept ready")
    )


def activity(certificate: ClientCertificate, newest: int = 20) -> list[Deed]:
    """The newest events of which this certificate is the subject, newest first. One query."""
    events = Event.objects.filter(subject_id=str(certificate.pk), refused=False).order_by("-id")[:newest]
    return [Deed(e.at, e.actor, _sentence(e.action, json.loads(e.body)["details"])) for e in events]


def _sentence(action: str, details: dict[str, Any]) -> str:
    if action in WORDS:
        return WORDS[action](details) % details
    return action.rpartition(".")[2].replace("-", " ").capitalize()
