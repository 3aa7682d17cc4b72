"""What is left to do of a renewal that was brought to several places: one line a place, with its evidence once it
runs. A constant number of queries, for any number of places."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from certificates.models import Renewal, Version
from environments.access import Right, environments_to, visible_environments, who_may_in, whom_to_ask
from environments.models import Environment
from rollouts import due
from rollouts.models import RevisionEntry, Rollout
from rollouts.stages import EVIDENCE
from rollouts.standing import Chip, Standing, standings
from rollouts.states import Proof


@dataclass(frozen=True)
class Line:
    """One place. `applied` says whether the renewed version is in the revision that was last proved there, `of_it` how
    many changes of this renewal the environment has to apply."""

    version: Version
    standing: Standing
    applied: bool
    waits: bool
    # Whether the revision that is scheduled here, if there is one, has it.
    scheduled: bool
    of_it: int
    may_apply: bool
    may_change: bool

    @property
    def environment(self) -> Environment:
        return self.standing.environment

    @property
    def state(self) -> str:
        """`gone` (its certificate was removed), `ready`, `other` (a newer version is used), `off` (disabled),
        `applied`, or `chosen`."""
        certificate = self.version.certificate
        used = certificate.in_use
        if certificate.removed_at is not None:
            return "gone"
        if used is None or used.pk != self.version.pk:
            return "other" if used is not None and used.number > self.version.number else "ready"
        if not certificate.enabled:
            return "off"
        return "applied" if self.applied else "chosen"

    @property
    def chip(self) -> Chip:
        match self.state:
            case "applied" if self.standing.seen_running and not self.standing.changed_outside:
                return Chip(_("Running"), "good", "check")
            case "applied":
                return Chip(_("Applied"), "good", "check")
            case "chosen" if self.standing.destination is None:
                return Chip(_("To be exported"), "plain", "circle")
            case "chosen":
                return Chip(_("Not running yet"), "warn", "clock")
            case "ready":
                return Chip(_("Ready"), "plain", "circle")
            case "off":
                return Chip(_("Disabled"), "plain", "pause")
            case "other":
                return Chip(_("A newer version is used"), "plain", "circle")
        return Chip(_("Removed"), "plain", "circle")

    @property
    def evidence(self) -> str:
        """Which proof there is that it runs, in words."""
        where = self.standing.destination
        if not self.applied or where is None or where.proof not in list(Proof):
            return ""
        return str(EVIDENCE[Proof(where.proof)])

    @property
    def schedule(self) -> str:
        """What a revision that is scheduled here means for it, "" where none is."""
        rollout = self.standing.scheduled
        if self.state != "chosen" or rollout is None or rollout.revision is None or rollout.due_at is None:
            return ""
        known = {"n": rollout.revision.number, "when": due.day_and_time(rollout.due_at)}
        if self.scheduled:
            return _("Goes with revision %(n)d, scheduled for %(when)s.") % known
        words = _("Revision %(n)d, scheduled for %(when)s, was frozen before this; an apply takes its place.")
        return words % known

    @property
    def others(self) -> int:
        """Changes that wait in this environment beside this one."""
        return max(0, self.standing.count - self.of_it)

    @property
    def trouble(self) -> str:
        """How the last attempt went wrong, while that is how the environment stands."""
        last, chip = self.standing.last, self.standing.configuration
        return (last.failure or last.sentence) if last is not None and chip.tone == "bad" and not self.applied else ""

    @property
    def is_under_way(self) -> bool:
        return self.waits or self.standing.active is not None

    @property
    def can_apply(self) -> bool:
        return self.waits_for_apply and not self.is_under_way and self.environment.archived_at is None

    @property
    def waits_for_apply(self) -> bool:
        return self.state == "chosen" and self.standing.destination is not None

    @property
    def can_use(self) -> bool:
        return self.state == "ready" and self.may_change and self.environment.archived_at is None


@dataclass(frozen=True)
class Worklist:
    renewal: Renewal
    lines: tuple[Line, ...]

    @property
    def applied(self) -> int:
        return sum(line.state == "applied" for line in self.lines)

    @property
    def under_way(self) -> bool:
        return any(line.is_under_way for line in self.lines)

    @property
    def to_apply(self) -> int:
        """Environments in which this person may apply it now."""
        return len({line.environment.pk for line in self.lines if line.can_apply and line.may_apply})

    @property
    def to_use(self) -> list[Line]:
        return [line for line in self.lines if line.can_use]

    @property
    def who_may(self) -> str:
        """Whom to ask where this person may not apply what waits; "" where there is no such place. One query."""
        closed = {line.environment.pk: line.environment for line in self.lines if line.can_apply and not line.may_apply}
        if not closed:
            return ""
        return _("Where you may not apply, ask %(people)s.") % {
            "people": whom_to_ask(who_may_in(Right.APPLY, list(closed.values())))
        }


def worklist(renewal: Renewal, person: Any) -> Worklist:
    """The places of a renewal that this person may see."""
    versions = list(
        renewal.versions.filter(certificate__environment__in=visible_environments(person).order_by().values("pk"))
        .select_related("certificate__in_use", "certificate__environment__application")
        .order_by(
            "certificate__environment__application__name",
            "certificate__environment__position",
            "certificate__position",
        )
    )
    places = {version.environment.pk: version.environment for version in versions}
    stands = standings(places.values())
    proved = {stand.destination.running_id for stand in stands.values() if stand.destination}
    to_come = {stand.scheduled.revision_id for stand in stands.values() if stand.scheduled}
    entries = RevisionEntry.objects.filter(revision__in=(proved | to_come) - {None}, version__in=versions)
    having = list(entries.values_list("version", "revision"))
    applied = {version for version, revision in having if revision in proved}
    scheduled = {version for version, revision in having if revision in to_come}
    waiting = set(Rollout.objects.filter(environment__in=places, state="waiting").values_list("environment", flat=True))
    may_apply = set(environments_to(Right.APPLY, person).values_list("pk", flat=True))
    may_change = set(environments_to(Right.CERTIFICATES, person).values_list("pk", flat=True))
    lines = []
    for version in versions:
        stand = stands[version.environment.pk]
        here = stand.environment.pk
        lines.append(
            Line(
                version,
                stand,
                applied=version.pk in applied,
                waits=here in waiting,
                scheduled=version.pk in scheduled,
                of_it=0,
                may_apply=here in may_apply,
                may_change=here in may_change,
            )
        )
    of_it = Counter(line.environment.pk for line in lines if line.waits_for_apply)
    return Worklist(renewal, tuple(replace(line, of_it=of_it[line.environment.pk]) for line in lines))
