"""What pages of lower layers say about notices; they cannot ask for it themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.translation import gettext as _

from certificates.models import ClientCertificate
from notices import letters, watching
from notices.models import Crossing, Lead, Snooze
from notices.thresholds import Plan, Threshold, following

register = template.Library()


@dataclass(frozen=True)
class Notices:
    """Of one certificate: when the next comes, what was told, and whether it is snoozed."""

    following: Threshold | None
    crossed: list[Crossing]
    snooze: Snooze | None
    ends: datetime | None

    @property
    def left(self) -> str:
        """“7 days”: how long before the end the next notice comes."""
        return letters.span(self.ends - self.following.moment) if self.ends and self.following else ""


@register.simple_tag
def notices_of(certificate: ClientCertificate) -> Notices:
    """Three queries."""
    version, now = certificate.in_use, timezone.now()
    lead = Lead.objects.filter(environment=certificate.environment).first()
    plan = lead.plan if lead is not None else Plan()
    crossed = (
        Crossing.objects.filter(certificate=certificate, subject=version.pk) if version else Crossing.objects.none()
    )
    return Notices(
        following(version.not_before, version.not_after, plan, now) if version else None,
        list(crossed.order_by("-moment")[:6]),
        certificate.snoozes.filter(ended_at=None, until__gt=now).first(),
        version.not_after if version else None,
    )


WORDS = {
    "first": lambda: _("First notice"),
    "second": lambda: _("Second notice"),
    "week": lambda: _("It ends within a week"),
    "day": lambda: _("It ends within a day"),
    "ended": lambda: _("It has ended"),
}


@register.filter
def threshold_words(name: str) -> str:
    return str(WORDS[name]()) if name in WORDS else name


@register.simple_tag
def watch_silence() -> str:
    """One sentence on every page, where nobody has looked at what expires for two periods; else "". One query, as long
    as all is well."""
    since: datetime | None = watching.overdue_since(timezone.now())
    if since is None:
        return ""
    return _("Nobody has looked at what expires since %(when)s, so nobody is told.") % {"when": letters.day(since)}
