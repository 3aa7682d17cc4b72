"""How environments stand: the two chips, the changes, the evidence. A constant number of queries for any number of
environments, and for any number of certificates in them (rollouts.comparisons)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models import Exists, Max, OuterRef, Q, Subquery
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certificates.content import Content
from certificates.models import Comparison
from environments.models import Environment
from rollouts import authors, due
from rollouts.changes import Change, changes
from rollouts.comparisons import Compared, compared, comparisons, keep, keep_since
from rollouts.connections import TurnedAway, turned_away
from rollouts.models import Destination, Pulse, Rollout
from rollouts.states import ACTIVE

WORKER_SILENT = timedelta(seconds=20)
# What a change can be of (rollouts.changes), in the order in which a banner names them.
WORTH_NAMING = ("certificate", "order", "pin", "setting", "authority")


@dataclass(frozen=True)
class Chip:
    """Icon, word and colour: `tone` is good, warn, bad, info or plain; `icon` names a symbol of the page."""

    text: str
    tone: str
    icon: str


@dataclass
class Standing:
    """Everything that the frame around an environment's pages shows."""

    environment: Environment
    comparison: Comparison
    destination: Destination | None
    active: Rollout | None = None
    last: Rollout | None = None
    # Certificates that a server turned away when they were last tested, and which server.
    turned_away: dict[UUID, TurnedAway] = field(default_factory=dict)
    # What is to begin later, and what was to and could not, while nothing was applied since.
    scheduled: Rollout | None = None
    missed: Rollout | None = None

    @property
    def count(self) -> int:
        """The number of changes that are not running."""
        return self.comparison.changes

    @cached_property
    def whole(self) -> Compared:
        """Both contents and every change, read from the rows: for pages that list them. Takes as long as there are
        certificates."""
        return compared(self.environment, self.destination.running if self.destination else None)

    @property
    def wanted(self) -> Content:
        return self.whole.wanted

    @property
    def running(self) -> Content:
        return self.whole.running

    @property
    def changes(self) -> tuple[Change, ...]:
        return self.whole.changes

    def mark(self, what: str, key: str) -> str:
        """`new`, `changed`, `gone`, `out` (left out) of one slug, pin, setting; "" for what is no change."""
        return str(self.marked.marks.get(what, {}).get(key, ""))

    @cached_property
    def marked(self) -> Comparison:
        """The comparison with what names each change, which only some pages need."""
        if deferred := self.comparison.get_deferred_fields():
            self.comparison.refresh_from_db(fields=deferred)
        return self.comparison

    def named(self, reader: Any) -> list[tuple[str, str, str, int]]:
        """The changes by kind, mark and who made them, as (what, mark, author or "", number)."""
        if self.comparison.named is None:
            self.comparison.named = self._named()
            keep([self.comparison], ["named"])
        named = self.comparison.named
        return [(what, mark, authors.for_reader(who, pk, reader), n) for what, mark, who, pk, n in named]

    def _named(self) -> list[tuple[str, str, str, str, int]]:
        who = authors.known(self.environment, self.destination)
        counted: Counter[tuple[str, str, str, str]] = Counter()
        for what in WORTH_NAMING:
            # In an order of our own: PostgreSQL keeps none in what it stores as JSON.
            for key, mark in sorted(self.marked.marks.get(what, {}).items()):
                sent = self.marked.gone_pins[key][1] if (what, mark) in (("pin", "gone"), ("pin", "out")) else None
                author = authors.of(what, key, sent, who)
                counted[what, mark, author.name if author else "", author.person if author else ""] += 1
        return [(*key, n) for key, n in counted.items()]

    @cached_property
    def since_scheduled(self) -> int:
        """The number of changes that were made since something was scheduled, and are no part of it."""
        rollout, digest = self.scheduled, self.comparison.digest
        if rollout is None or rollout.revision is None or rollout.revision.digest == digest:
            return 0
        if rollout.since_digest != digest:
            # As long as there are certificates; counted once for each content.
            rollout.since, rollout.since_digest = len(changes(rollout.revision.frozen, self.wanted)), digest
            keep_since(rollout)
        return rollout.since

    @property
    def all_scheduled(self) -> bool:
        """Whether what is scheduled makes run everything that does not run."""
        return self.scheduled is not None and not self.since_scheduled

    @property
    def can_apply(self) -> bool:
        return self.destination is not None

    @property
    def stopped(self) -> bool:
        return self.destination is not None and not self.destination.wanted_running

    @property
    def restarts(self) -> bool:
        """Whether an apply stops the app and starts it."""
        return not self.stopped and not (self.destination is not None and self.destination.able.reloads)

    @property
    def seen_running(self) -> bool:
        """The app was seen running, and our own stop did not come after that look."""
        d, last = self.destination, self.last
        if d is None or d.observed_status != "running":
            return False
        stopped_since = last is not None and last.kind == "stop" and last.state == "verified" and last.finished_at
        return not (stopped_since and (d.observed_at is None or d.observed_at < stopped_since))

    @property
    def seen_stopped(self) -> bool:
        """The app is to be stopped and was seen so, or our own stop came after it was last seen running."""
        d = self.destination
        return self.stopped and d is not None and d.observed_status in ("stopped", "running") and not self.seen_running

    @property
    def blocked(self) -> bool:
        return self.destination is not None and self.destination.blocked_digest == self.comparison.digest

    @property
    def changed_outside(self) -> bool:
        """The running app reports another configuration than the one that was proved to run."""
        return self.destination is not None and self.destination.has_drifted

    @property
    def configuration(self) -> Chip:
        d, count = self.destination, self.count
        if self.active is not None:
            return Chip(WORDS_OF_KIND[self.active.kind](), "info", "progress")
        if d is None:
            return Chip(_("Export only"), "plain", "circle")
        if d.is_away:
            return Chip(_("Can’t reach app"), "bad", "alert")
        if self.changed_outside:
            return Chip(_("Changed outside Countersign"), "bad", "alert")
        if self.last is not None and self.last.state == "needs_help":
            return Chip(_("Needs help"), "bad", "alert")
        if self.last is not None and self.last.state == "rolled_back" and (self.blocked or self.last.kind != "apply"):
            if self.last.previous:
                return Chip(_("Rolled back, %(n)d is running") % {"n": self.last.previous.number}, "bad", "alert")
            return Chip(_("Rolled back"), "bad", "alert")
        if count and self.scheduled is not None and self.scheduled.due_at is not None and self.all_scheduled:
            return Chip(
                _("Scheduled for %(when)s") % {"when": due.day_and_time(self.scheduled.due_at)}, "info", "clock"
            )
        if count:
            return Chip(
                ngettext("%(n)d change not running", "%(n)d changes not running", count) % {"n": count}, "warn", "clock"
            )
        if d.running is None:
            return Chip(_("Nothing applied yet"), "plain", "circle")
        if d.proof == "imported":
            return self.stop_chip or Chip(_("Imported, not yet restarted by us"), "plain", "circle")
        return self.stop_chip or Chip(_("Up to date"), "good", "check")

    @property
    def stop_chip(self) -> Chip | None:
        """“Stopped” where the app is; a list shows it beside a configuration that says something else."""
        return Chip(_("Stopped"), "plain", "pause") if self.seen_stopped else None

    @property
    def also_stopped(self) -> Chip | None:
        """“Stopped”, where the chip of the configuration does not say so already."""
        return self.stop_chip if self.stop_chip != self.configuration else None

    @property
    def certificates(self) -> Chip:
        counted = {**self.comparison.statuses, "refused": len(self.turned_away)}
        for status, words in CERTIFICATE_WORDS.items():
            if n := counted.get(status):
                tone = "warn" if status == "expiring" else "bad"
                return Chip(words(n), tone, "alert" if tone == "bad" else "clock")
        if not self.comparison.statuses:
            return Chip(_("No certificates"), "plain", "circle")
        return Chip(_("Certificates OK"), "good", "check")


WORDS_OF_KIND = {
    "apply": lambda: _("Applying"),
    "roll-back": lambda: _("Rolling back"),
    "restart": lambda: _("Restarting"),
    "stop": lambda: _("Stopping"),
    "start": lambda: _("Starting"),
}

CERTIFICATE_WORDS = {
    "expired": lambda n: ngettext("%(n)d expired", "%(n)d expired", n) % {"n": n},
    "refused": lambda n: ngettext("%(n)d refused in test", "%(n)d refused in test", n) % {"n": n},
    "not-yet-valid": lambda n: ngettext("%(n)d not yet valid", "%(n)d not yet valid", n) % {"n": n},
    "expiring": lambda n: ngettext("%(n)d expiring", "%(n)d expiring", n) % {"n": n},
}


def standing(environment: Environment) -> Standing:
    return standings([environment])[environment.pk]


def standings(environments: Iterable[Environment]) -> dict[UUID, Standing]:
    """The standing of each environment, by its id, in six queries, and a few more where something has changed, or where
    a certificate was turned away."""
    environments = list(environments)
    # The content of a revision is as long as there are certificates; who needs it, loads it.
    destinations = {
        d.environment_id: d
        for d in Destination.objects.filter(environment__in=environments)
        .select_related("running", "bundle")
        .defer("running__content")
    }
    newest = (
        Rollout.objects.filter(environment=OuterRef("environment"))
        .exclude(state__in=("cancelled", "waiting", "scheduled"))
        .order_by("-created_at")
    )
    last = {
        r.environment_id: r
        for r in Rollout.objects.filter(environment__in=environments, pk=Subquery(newest.values("pk")[:1]))
        .select_related("previous", "revision")
        .defer("previous__content", "revision__content")
    }
    unfinished = _unfinished(environments)
    active = {r.environment_id: r for r in unfinished if r.state in ACTIVE}
    scheduled = {r.environment_id: r for r in unfinished if r.state == "scheduled"}
    missed = {r.environment_id: r for r in unfinished if r.missed}
    found = comparisons(environments, {pk: destination.running_id for pk, destination in destinations.items()})
    away = turned_away({environment.pk: destinations.get(environment.pk) for environment in environments})
    stands = {}
    for environment in environments:
        pk = environment.pk
        stand = Standing(environment, found[pk], destinations.get(pk), active.get(pk), last.get(pk), away.get(pk, {}))
        stands[pk] = stand
        stand.scheduled, stand.missed = scheduled.get(pk), missed.get(pk)
        for known in (stand.destination, stand.active, stand.last, stand.scheduled, stand.missed):
            if known is not None:
                known.environment = environment
    return stands


def _unfinished(environments: list[Environment]) -> list[Rollout]:
    """What is under way, what is scheduled, and what was and could not begin, the newest last; one query."""
    applied = Rollout.objects.filter(
        environment=OuterRef("environment"), kind__in=("apply", "roll-back"), created_at__gt=OuterRef("finished_at")
    )
    missed = Q(state="cancelled") & ~Q(failure="") & ~Exists(applied)
    listed = (
        Rollout.objects.filter(environment__in=environments)
        .filter(Q(state__in=ACTIVE) | Q(due_at__isnull=False) & (Q(state="scheduled") | missed))
        .select_related("revision")
        .defer("revision__content")
    )
    return list(listed.order_by("created_at"))


def why_blocked(stand: Standing) -> Rollout | None:
    """The last rollout that failed with what is wanted now, where that blocks it."""
    if not stand.blocked:
        return None
    failed = stand.environment.rollouts.filter(state__in=("rolled_back", "needs_help"))
    rollout = failed.filter(revision__digest=stand.comparison.digest).first()
    if rollout is not None:
        rollout.environment = stand.environment
    return rollout


def worker_is_silent() -> bool:
    """No worker has shown itself lately, so that what was asked for waits for one."""
    return silent_since(Pulse.objects.filter(kind="worker").aggregate(last=Max("at"))["last"])


def silent_since(seen: datetime | None) -> bool:
    """Whether this is too long ago for the last that was seen of any worker."""
    return seen is None or timezone.now() - seen > WORKER_SILENT


def usual_downtime(environment: Environment) -> list[int]:
    """Seconds of the last three downtimes by our hand, newest first."""
    rollouts = Rollout.objects.filter(
        environment=environment, stopped_at__isnull=False, running_at__isnull=False, state="verified"
    ).exclude(kind="stop")[:3]
    return [max(1, round(r.downtime.total_seconds())) for r in rollouts if r.downtime is not None]


def downtime_in_words(environment: Environment) -> str:
    """“The last restarts took about 38 to 41 s.”; "" where none was seen."""
    spans = usual_downtime(environment)
    if not spans:
        return ""
    shortest, longest = min(spans), max(spans)
    if shortest == longest:
        return ngettext("The last restart took about %(s)d s.", "The last restarts took about %(s)d s.", len(spans)) % {
            "s": longest
        }
    return _("The last restarts took about %(from)d to %(to)d s.") % {"from": shortest, "to": longest}
