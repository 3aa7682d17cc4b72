"""The watch: looks at everything that ends, and writes down each threshold that was crossed, once.

It is due at fixed times of the day. Whoever comes late makes up for it: what was crossed meanwhile is found all the
same, since a threshold lies behind us or does not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from certificates.models import ClientCertificate, TrustedAuthority
from certificates.outlook import TO_DO
from notices.models import Crossing, Lead, Watch
from notices.thresholds import Plan, crossed
from rollouts.models import Destination, RevisionEntry
from rollouts.outlook import outlooks

log = logging.getLogger(__name__)

EVERY = timedelta(hours=6)
# A look that has not ended by then was cut off; another one takes its place.
CUT_OFF = timedelta(minutes=10)
A_PART = 2000
KEPT = timedelta(days=30)
# What has longer to live is not asked about its renewal yet.
AHEAD = timedelta(days=180)
CERTIFICATE, ISSUER, AUTHORITY, RENEWAL = "certificate", "issuer", "authority", "renewal"


@dataclass(frozen=True)
class Life:
    """What is watched: from when until when it is valid, and where it is used."""

    kind: str
    subject: UUID
    environment: UUID
    certificate: UUID | None
    begins: datetime
    ends: datetime


def due_at(now: datetime) -> datetime:
    """The last time at which a look was due: midnight, six, noon and six in the evening."""
    local = timezone.localtime(now)
    slot = local.replace(hour=local.hour - local.hour % 6, minute=0, second=0, microsecond=0)
    return slot.astimezone(now.tzinfo)


def next_due_at(now: datetime) -> datetime:
    return due_at(due_at(now) + EVERY + timedelta(hours=1))


def begin(now: datetime) -> Watch | None:
    """The look that is due and that nobody has made or is making; it is this worker's then."""
    due = due_at(now)
    last = Watch.objects.filter(due_at=due).first()
    if last is None:
        try:
            with transaction.atomic():
                return Watch.objects.create(due_at=due, began_at=now)
        except IntegrityError:
            return None  # somebody was faster
    if last.ended_at is not None or last.began_at > now - CUT_OFF:
        return None
    taken = Watch.objects.filter(pk=last.pk, began_at=last.began_at, ended_at=None).update(began_at=now)
    last.began_at = now
    return last if taken else None


def begin_anew(now: datetime) -> Watch:
    """The look that is due, whether it was made already or not; for whoever asks for it by name."""
    made, _new = Watch.objects.update_or_create(due_at=due_at(now), defaults={"began_at": now, "ended_at": None})
    return made


def look(watch: Watch, now: datetime) -> None:
    """Makes a look that was begun. What it finds is kept part by part, so that one that is cut off was not in vain."""
    plans = {lead.environment_id: lead.plan for lead in Lead.objects.all()}
    horizon = now + timedelta(days=max([Plan.first, *(plan.first for plan in plans.values())]))
    watch.checked = sum(listed.count() for listed in _watched())
    watch.unreadable = watch.crossed = 0
    lives = _lives(horizon)
    while part := list(islice(lives, A_PART)):
        found, unreadable = _crossed(part, plans, now)
        watch.unreadable += unreadable
        watch.crossed += note(found)


def note(found: list[Crossing]) -> int:
    """Writes down those that nobody has written down before; returns their number."""
    known = set(
        Crossing.objects.filter(subject__in={one.subject for one in found}).values_list("kind", "subject", "threshold")
    )
    fresh = [one for one in found if (one.kind, one.subject, one.threshold) not in known]
    Crossing.objects.bulk_create(fresh, ignore_conflicts=True)
    return len(fresh)


def _crossed(lives: Iterable[Life], plans: dict[UUID, Plan], now: datetime) -> tuple[list[Crossing], int]:
    found, unreadable, usual = [], 0, Plan()
    for life in lives:
        try:
            behind = crossed(life.begins, life.ends, plans.get(life.environment, usual), now)
        except (ArithmeticError, TypeError, ValueError):
            log.exception("the dates of %s %s cannot be read", life.kind, life.subject)
            unreadable += 1
            continue
        found += [
            Crossing(
                kind=life.kind, subject=life.subject, threshold=one.name, environment_id=life.environment,
                certificate_id=life.certificate, moment=one.moment, seen_at=now,
            )
            for one in behind
        ]  # fmt: skip
    return found, unreadable


def _watched() -> tuple[QuerySet[Any], QuerySet[Any], QuerySet[Any]]:
    """What goes with the next apply, what runs and is not among it, and the trusted authorities."""
    here: dict[str, Any] = {"environment__archived_at": None, "environment__application__archived_at": None}
    wanted = ClientCertificate.objects.filter(**here, enabled=True, removed_at=None, in_use__isnull=False)
    running = RevisionEntry.objects.filter(
        revision__in=Destination.objects.filter(**here, running__isnull=False).values("running")
    ).exclude(
        version__certificate__in_use=F("version"),
        version__certificate__enabled=True,
        version__certificate__removed_at=None,
    )
    trusted = TrustedAuthority.objects.filter(**here, removed_at=None)
    return wanted.order_by(), running.order_by(), trusted.order_by()


def _lives(horizon: datetime) -> Iterator[Life]:
    """Those that end before the horizon, or whose chain does; read as they are asked for, however many there are."""
    wanted, running, trusted = _watched()
    version = ("not_before", "not_after", "chain_ends_at")
    wanted = wanted.filter(Q(expires_at__lte=horizon) | Q(in_use__chain_ends_at__lte=horizon)).values_list(
        "in_use", "environment", "pk", *(f"in_use__{column}" for column in version)
    )
    running = running.filter(Q(version__not_after__lte=horizon) | Q(version__chain_ends_at__lte=horizon)).values_list(
        "version", "version__certificate__environment", "version__certificate",
        *(f"version__{column}" for column in version),
    )  # fmt: skip
    for subject, environment, certificate, begins, ends, chain_ends in chain(
        wanted.iterator(A_PART), running.iterator(A_PART)
    ):
        if ends <= horizon:
            yield Life(CERTIFICATE, subject, environment, certificate, begins, ends)
        if chain_ends is not None and chain_ends < ends and chain_ends <= horizon:
            yield Life(ISSUER, subject, environment, certificate, begins, chain_ends)
    columns = ("pk", "environment", "not_before", "not_after")
    for subject, environment, begins, ends in trusted.filter(not_after__lte=horizon).values_list(*columns):
        yield Life(AUTHORITY, subject, environment, None, begins, ends)


def look_ahead(now: datetime) -> int:
    """Writes down what speaks against the next renewal of those that have to be renewed within half a year, as far as
    nobody had to confirm it at the upload; returns how much of it is new."""
    concerned = _watched()[0].filter(expires_at__lte=now + AHEAD).order_by("pk")
    fresh, last = 0, None
    while True:
        part = concerned.filter(pk__gt=last) if last else concerned
        rows = dict(part.values_list("pk", "in_use")[:A_PART])
        if not rows:
            return fresh
        places = dict(ClientCertificate.objects.filter(pk__in=rows).values_list("pk", "environment"))
        found = outlooks(ClientCertificate.objects.filter(pk__in=rows))
        fresh += note(
            [
                Crossing(
                    kind=RENEWAL, subject=rows[pk], threshold=code, environment_id=places[pk], certificate_id=pk,
                    moment=now, seen_at=now,
                )
                for pk, concerns in found.items()
                for code in dict.fromkeys(concern.code for concern in concerns)
                if is_news(code)
            ]
        )  # fmt: skip
        last = max(rows)


def is_news(code: str) -> bool:
    """Whether somebody is told of it by itself. Warnings of an upload were confirmed, and that a partner has to be
    told of every renewal is said with its notice."""
    return code not in TO_DO and code != "every-renewal-to-tell"


def still_watched(found: Iterable[Crossing]) -> set[UUID]:
    """The subjects among these that are still used: what was renewed, taken out or distrusted is no news."""
    subjects: dict[str, set[UUID]] = {"versions": set(), "authorities": set()}
    for one in found:
        subjects["authorities" if one.kind == AUTHORITY else "versions"].add(one.subject)
    wanted, running, trusted = _watched()
    return {
        *wanted.filter(in_use__in=subjects["versions"]).values_list("in_use", flat=True),
        *running.filter(version__in=subjects["versions"]).values_list("version", flat=True),
        *trusted.filter(pk__in=subjects["authorities"]).values_list("pk", flat=True),
    }


def end(watch: Watch, messages: int) -> None:
    watch.ended_at, watch.messages = timezone.now(), messages
    watch.save(update_fields=["ended_at", "checked", "unreadable", "crossed", "messages"])
    Watch.objects.filter(due_at__lt=watch.due_at - KEPT).delete()


def last() -> Watch | None:
    """The last look that was made to its end."""
    return Watch.objects.filter(ended_at__isnull=False).first()


def overdue_since(now: datetime) -> datetime | None:
    """When the last look was made, if two have been left out since; None while all is as it should be. One query."""
    made = Watch.objects.filter(ended_at__isnull=False).values_list("ended_at", flat=True).first()
    return made if made is not None and now - made > 2 * EVERY else None
