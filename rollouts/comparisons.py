"""What should run beside what runs, counted once and kept, so that a page costs the same for ten certificates and for
ten thousand.

A kept comparison is believed only while all that it follows from is as it was: the content (its serial, which triggers
of the database raise with every write), the running revision, and the time (a certificate that expires is no write).
Otherwise it is counted anew from the rows. A kept row that nobody believes does no harm, so two who count at once, or
a database that cannot be written now, do none either.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import DatabaseError, connection, transaction
from django.db.models import prefetch_related_objects
from django.utils import timezone

from certificates import current
from certificates.content import Content
from certificates.models import ClientCertificate, Comparison, Serial, TrustedAuthority, expiring_from, status_at
from environments.models import Environment
from rollouts.changes import Change, changes, nothing
from rollouts.differences import left_out
from rollouts.models import Revision, Rollout

log = logging.getLogger(__name__)

KEPT = [f.name for f in Comparison._meta.concrete_fields if not f.primary_key]


@dataclass(frozen=True)
class Compared:
    """The wanted and the running content, whole, and the changes from the one to the other."""

    wanted: Content
    running: Content
    changes: tuple[Change, ...]


def compared(environment: Environment, running: Revision | None) -> Compared:
    """Read from the rows, whatever is kept."""
    wanted = current.content(environment)
    return _compared(wanted, running.frozen if running is not None else nothing(wanted))


def _compared(wanted: Content, running: Content) -> Compared:
    return Compared(wanted, running, changes(running, wanted))


def comparisons(environments: Iterable[Environment], running: Mapping[UUID, UUID | None]) -> dict[UUID, Comparison]:
    """A comparison that holds now for each environment, by its id: two queries, and a few more where some are counted.

    `running` names the running revision of each; what is missing there runs nothing.
    """
    places = {environment.pk: environment for environment in environments}
    now = timezone.now()
    # The serials first: what is counted below is at least as new as they are.
    serials = dict(Serial.objects.filter(pk__in=list(places)).values_list("pk", "number"))
    kept = Comparison.objects.filter(pk__in=list(places)).defer("marks", "gone_pins")
    found = {
        comparison.pk: comparison
        for comparison in kept.select_related("next_to_expire")
        if comparison.serial == serials.get(comparison.pk)
        and comparison.running == running.get(comparison.pk)
        and comparison.counted_at <= now
        and (comparison.holds_until is None or now < comparison.holds_until)
    }
    missing = [environment for pk, environment in places.items() if pk not in found]
    if missing:
        counted = _count(missing, running, serials, now)
        prefetch_related_objects(counted, "next_to_expire")
        keep([comparison for comparison in counted if comparison.pk in serials], KEPT)
        found |= {comparison.pk: comparison for comparison in counted}
    return found


def keep(comparisons: list[Comparison], columns: list[str]) -> None:
    """Keeps what was counted, if that can be done at once; a page does not wait for it and does not fail with it."""
    if not comparisons:
        return
    try:
        with _impatient(), transaction.atomic():
            Comparison.objects.bulk_create(
                comparisons, update_conflicts=True, unique_fields=["environment"], update_fields=columns
            )
    except DatabaseError as error:
        log.info("a comparison was not kept: %s", error)


def keep_since(rollout: Rollout) -> None:
    """The same for how many changes were made since this one was scheduled."""
    try:
        with _impatient(), transaction.atomic():
            Rollout.objects.filter(pk=rollout.pk).update(since=rollout.since, since_digest=rollout.since_digest)
    except DatabaseError as error:
        log.info("what was changed since rollout %s was scheduled was not kept: %s", rollout.pk, error)


@contextmanager
def _impatient() -> Iterator[None]:
    """SQLite has one writer at a time; this does not queue behind a long one."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    timeout = int(float(connection.settings_dict["OPTIONS"].get("timeout", 5)) * 1000)
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 250")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {timeout}")


def _count(
    environments: list[Environment], running: Mapping[UUID, UUID | None], serials: Mapping[UUID, int], now: datetime
) -> list[Comparison]:
    wanted = current.contents(environments)
    revisions = Revision.objects.in_bulk([pk for e in environments if (pk := running.get(e.pk)) is not None])
    out = left_out(environments)
    lives = _lives(environments)
    counted = []
    for environment in environments:
        pk = environment.pk
        revision = revisions.get(running.get(pk))
        both = _compared(wanted[pk], revision.frozen if revision else nothing(wanted[pk]))
        marks: dict[str, dict[str, str]] = defaultdict(dict)
        for change in both.changes:
            marks[change.what][change.key] = mark_of(change, out[pk])
        ran = {pin.key: pin for pin in both.running.pins}
        gone = [change.key for change in both.changes if (change.what, change.mark) == ("pin", "gone")]
        moments = {moment for life in lives[pk] for moment in life.boundaries if moment > now}
        comparison = Comparison(
            environment=environment,
            serial=serials.get(pk, 0),
            running=running.get(pk),
            digest=both.wanted.digest,
            sendable=len(both.wanted.slots),
            running_certificates=len(both.running.slots),
            running_pins=len(both.running.pins),
            changes=len(both.changes),
            marks=marks,
            gone_pins={key: [ran[key].kind, ran[key].slug] for key in gone},
            statuses=Counter(status_at(now, life.not_before, life.not_after) for life in lives[pk]),
            counted_at=now,
            holds_until=min(moments, default=None),
            next_to_expire_id=_next_to_expire(lives[pk]),
        )
        counted.append(comparison)
    return counted


def mark_of(change: Change, out: set[tuple[str, str]]) -> str:
    """`new`, `changed` or `gone`; or `out` for what is gone from what runs next and still on the list."""
    return "out" if change.mark == "gone" and (change.what, change.key) in out else change.mark


def _next_to_expire(lives: list[_Life]) -> UUID | None:
    """Of the versions; authorities are counted and not named."""
    versions = [life for life in lives if life.version is not None]
    return min(versions, key=lambda life: life.not_after).version if versions else None


@dataclass(frozen=True)
class _Life:
    version: UUID | None
    not_before: datetime
    not_after: datetime

    @property
    def boundaries(self) -> tuple[datetime, ...]:
        """When its status changes by itself (certificates.models.status_at)."""
        return self.not_before, expiring_from(self.not_before, self.not_after), self.not_after


def _lives(environments: list[Environment]) -> dict[UUID, list[_Life]]:
    """The versions in use of the enabled certificates of each, and its trusted authorities."""
    found: dict[UUID, list[_Life]] = defaultdict(list)
    enabled = ClientCertificate.objects.filter(
        environment__in=environments, enabled=True, removed_at=None, in_use__isnull=False
    ).order_by()
    for row in enabled.values_list("environment", "in_use", "in_use__not_before", "in_use__not_after"):
        found[row[0]].append(_Life(*row[1:]))
    trusted = TrustedAuthority.objects.filter(environment__in=environments, removed_at=None).order_by()
    for environment, not_before, not_after in trusted.values_list("environment", "not_before", "not_after"):
        found[environment].append(_Life(None, not_before, not_after))
    return found
