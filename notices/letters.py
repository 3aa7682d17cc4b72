"""What messages say: in plain words, what, where, until when, who at the partner, how to renew, and where to do it.

A message is read by people of one application; nothing here names another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format

from certificates.models import ClientCertificate, TrustedAuthority, Version
from environments.models import Application, Environment
from notices.models import Snooze, Watch
from notices.thresholds import DAY, ENDED, FIRST, SECOND, WEEK
from notices.watching import ISSUER, RENEWAL, next_due_at
from rollouts import due, scheduled
from rollouts.models import Rollout

PINS_NAMED = 6
SIGNATURE = "-- \nCountersign"


@dataclass
class Item:
    """One thing that a notice tells of: its worst threshold, and those that were crossed with it."""

    kind: str
    threshold: str
    environment: Environment
    ends: datetime
    name: str
    certificate: ClientCertificate | None = None
    version: Version | None = None
    authority: TrustedAuthority | None = None
    also: list[str] = field(default_factory=list)
    pins: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)


def link(path: str) -> str:
    """The whole address of a page; "" where the portal does not know its own."""
    return f"{settings.ADDRESS}{path}" if settings.ADDRESS else ""


def day(when: datetime) -> str:
    local = timezone.localtime(when)
    return f"{date_format(local, 'j M Y H:i')} {local.tzname()}"


def span(left: timedelta) -> str:
    """“12 days”, “5 hours”, “3 weeks”: in the unit that matters, rounded down."""
    hours = int(left.total_seconds() // 3600)
    if hours < 1:
        return "less than an hour"
    count, unit = (hours, "hour") if hours < 48 else (hours // 24, "day")
    return f"{count} {unit}{'' if count == 1 else 's'}"


def ending(ends: datetime, now: datetime) -> str:
    """“expires on 5 Dec 2026 09:00 UTC, in 7 days” or “expired on …, 3 days ago”."""
    if ends <= now:
        return f"expired on {day(ends)}, {span(now - ends)} ago"
    return f"expires on {day(ends)}, in {span(ends - now)}"


def headline(application: Application, items: Sequence[Item], now: datetime) -> str:
    """“Invoicing: Bank payments expires in 7 days (and 2 more)”: the worst first."""
    worst = items[0]
    if worst.kind == RENEWAL:
        said = f"the next renewal of {worst.name} may fail"
    elif worst.ends <= now:
        said = f"{_subject(worst)} has expired"
    else:
        said = f"{_subject(worst)} expires in {span(worst.ends - now)}"
    more = f" (and {len(items) - 1} more)" if len(items) > 1 else ""
    return f"{application.name}: {said}{more}"


def notice(application: Application, items: Sequence[Item], now: datetime) -> str:
    parts = [_paragraph(item, now) for item in items]
    address = link(reverse("notices", args=[application.slug]))
    parts.append(f"Who is told, and when: {address}" if address else "Who is told, and when, is on the page Notices.")
    return "\n\n".join([*parts, SIGNATURE]) + "\n"


def _subject(item: Item) -> str:
    return f"the issuer of {item.name}" if item.kind == ISSUER else item.name


def _paragraph(item: Item, now: datetime) -> str:
    place = f"{item.environment}{' [production]' if item.environment.production else ''}"
    lines = [f"{item.name}, in {place}"]
    match item.kind:
        case "renewal":
            lines.append(f"  What speaks against its next renewal ({ending(item.ends, now)}):")
        case "issuer":
            lines.append(f"  A certificate in its chain {ending(item.ends, now)}, before the certificate itself does.")
        case "authority":
            lines.append(f"  This trusted authority {ending(item.ends, now)}; servers that it vouches for fail then.")
        case _:
            lines.append(f"  It {ending(item.ends, now)}.")
    lines += [f"  Mind: {sentence}" for sentence in item.sentences]
    if item.pins:
        more = len(item.pins) - PINS_NAMED
        named = ", ".join(item.pins[:PINS_NAMED])
        lines.append(f"  Sent to: {named}{f' and {more} more' if more > 0 else ''}")
    if item.version is not None:
        lines.append(f"  Issued by {item.version.issuer_common_name or item.version.issuer}")
        lines.append(f"  Serial number {item.version.serial}, SHA-256 {item.version.sha256}")
    certificate = item.certificate
    if certificate is not None:
        ask = " ".join(filter(None, [certificate.contact, certificate.contact_mail]))
        lines += [f"  Ask: {ask}"] if ask else []
        lines += [f"  Queue: {certificate.ticket_queue}"] if certificate.ticket_queue else []
        if certificate.how_to_renew:
            how = certificate.how_to_renew.strip().splitlines()
            lines += ["  How to renew:", *(f"    {line}" for line in how[:20])]
        page = item.environment.url("certificate-renew", certificate.pk)
        lines += [f"  Upload renewal: {link(page)}"] if link(page) else []
    elif item.authority is not None and link(item.authority.get_absolute_url()):
        lines.append(f"  See: {link(item.authority.get_absolute_url())}")
    if item.kind != RENEWAL:
        lines.append(f"  You are told now because {WHY[item.threshold]}.{_also(item.also)}")
    return "\n".join(lines)


def _also(also: Sequence[str]) -> str:
    return " Earlier notices were due while nobody could send them, and are part of this one." if also else ""


WHY = {
    FIRST: "it is time to ask for the next one",
    SECOND: "a third of the time that was left at the first notice is over",
    WEEK: "it ends within a week",
    DAY: "it ends within a day",
    ENDED: "it has ended",
}


# --- Scheduled applies ------------------------------------------------------------------------------------------------


def of_scheduled(kind: str, rollout: Rollout) -> tuple[str, str]:
    """Title and text of a `reminder` or a `result`."""
    place, number = rollout.environment, rollout.revision.number if rollout.revision else 0
    if kind == "reminder":
        assert rollout.due_at is not None
        title = f"{place}: revision {number} is applied at {due.clock(rollout.due_at)}"
        said = f"{scheduled.in_words(rollout)} Until then it can be cancelled, or put off, on its page."
    elif rollout.state == "verified":
        title, said = f"{place}: revision {number} was applied as scheduled", rollout.sentence
    else:
        title = f"{place}: revision {number} was not applied as scheduled"
        said = " ".join(filter(None, [rollout.failure, rollout.sentence])) or "It was cancelled."
    lines = [said, f"Why: {rollout.reason}", *([f"Ticket: {rollout.ticket}"] if rollout.ticket else [])]
    address = link(rollout.get_absolute_url())
    return title, "\n\n".join(["\n".join(lines), *([f"See {address}"] if address else []), SIGNATURE]) + "\n"


# --- The weekly digest ------------------------------------------------------------------------------------------------


@dataclass
class Digest:
    """What an application's week looks like, each list with the next to end first."""

    application: Application
    watched: int
    expired: list[Item]
    soon: list[Item]
    snoozed: list[Snooze]
    refused: list[str]
    pending: list[str]


def digest_title(digest: Digest) -> str:
    said = []
    if digest.expired:
        said.append(f"{len(digest.expired)} expired")
    if digest.soon:
        said.append(f"{len(digest.soon)} expiring")
    return f"{digest.application.name}, this week: {', '.join(said) or 'nothing expires soon'}"


def digest_text(digest: Digest, last: Watch | None, now: datetime) -> str:
    parts = []
    for title, items in (("Expired", digest.expired), ("Expiring", digest.soon)):
        if items:
            lines = [f"  {item.name}, in {item.environment}: {ending(item.ends, now)}" for item in items]
            parts.append("\n".join([f"{title}:", *_some(lines)]))
    if digest.refused:
        parts.append("\n".join(["Refused when last tested:", *_some([f"  {line}" for line in digest.refused])]))
    if digest.pending:
        parts.append("\n".join(["Changes not running:", *_some([f"  {line}" for line in digest.pending])]))
    if digest.snoozed:
        lines = [
            f"  {one.certificate.name}, in {one.certificate.environment}, until {day(one.until)}, by {one.created_by}: "
            f"{one.reason}"
            for one in digest.snoozed
        ]
        parts.append("\n".join(["Snoozed, so nobody is told:", *_some(lines)]))
    if not parts:
        parts.append("Nothing needs you: nothing has expired, and nothing ends within its first notice.")
    address = link(digest.application.get_absolute_url())
    pulse = pulse_line(last, now, digest.watched)
    return "\n\n".join([*parts, *([f"See {address}"] if address else []), pulse, SIGNATURE]) + "\n"


def _some(lines: list[str], at_most: int = 40) -> list[str]:
    more = len(lines) - at_most
    return lines if more <= 0 else [*lines[:at_most], f"  and {more} more"]


def pulse_line(last: Watch | None, now: datetime, watched: int) -> str:
    """The watcher's own pulse: without it, silence could mean that all is well, or that nobody looked."""
    following = timezone.localtime(next_due_at(now))
    if last is None or last.ended_at is None:
        return f"{watched} watched here; nobody has looked yet, next {following:%H:%M}."
    return (
        f"{watched} watched here; the last look was {day(last.ended_at)} ({last.checked} in all, "
        f"{last.unreadable} unreadable), next {following:%H:%M}."
    )


def test_text(title: str, by: str) -> str:
    address = link("/")
    where = f" at {address}" if address else ""
    return f"This is a test of the channel “{title}”, sent by {by}{where}. Nothing has happened.\n\n{SIGNATURE}\n"
