"""Taking pins along from one environment of an application to another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from certificates import shared_keys
from certificates.actions.pins import change_pin, pin, read_target
from certificates.models import ClientCertificate, Pin
from certificates.side_by_side import digest, sides
from certificates.targets import Interpretation
from environments.actions import take_turns
from environments.models import Environment
from environments.refusals import Refused


@dataclass(frozen=True)
class Wanted:
    """A pin of one environment as it is to be in the other: its target as text, read as one of the pin's kind, and the
    name of a certificate there, which counts for nothing where the pin says never."""

    pin: Pin
    target: str
    certificate: str = ""

    @property
    def never(self) -> bool:
        return self.pin.certificate_id is None


class NotTaken(Refused):
    """Nothing was taken along. `rows` has a refusal for each pin, by its key, that has to be changed first; its `field`
    is `target` or `certificate`."""

    def __init__(self, rows: Mapping[str, Refused]) -> None:
        super().__init__(_("Nothing was taken along; see what is said in the rows."))
        self.rows = rows


def take_along(
    *,
    source: Environment,
    target: Environment,
    pins: Sequence[Wanted],
    shown: str,
    confirmed: Collection[str],
    by: Any,
) -> list[Pin]:
    """Pins of `source`, each with a certificate of `target`: all of them, or none. No key is copied.

    `shown` is the digest (side_by_side) that the person saw. A pin there with the same key is changed, and keeps its
    note and address to test; a new one takes the note along, and no address, which would be one of the other place.
    `confirmed` are the SHA-256 of the certificates that are wanted in production although their keys are used outside
    it. Raises Refused, or NotTaken.
    """
    with transaction.atomic():
        take_turns(target)
        here, there = sides(source, target)
        if digest(here, there) != shown:
            raise Refused(_("Somebody changed something meanwhile, so nothing was taken along; look at it once more."))
        if not pins:
            raise Refused(_("Tick the pins that are to be taken along."))
        read = _Reading(target, {c.name.casefold(): c for c in there.sendable}, {p.key: p for p in there.pins})
        chosen = [(wanted, *read.each(wanted)) for wanted in pins]
        if read.refused:
            raise NotTaken(read.refused)
        sent = {c.in_use.sha256: c.in_use for _wanted, _goal, c in chosen if c is not None and c.in_use is not None}
        unread = [version for sha256, version in sent.items() if sha256 not in confirmed]
        shared_keys.insist(target, unread, confirmed=False, by=by)
        return [
            _take(source, target, wanted, goal, certificate, read.there, by)
            for wanted, goal, certificate in chosen
            if goal is not None
        ]


class _Reading:
    """Reads what is wanted row by row, and keeps each refusal."""

    def __init__(self, target: Environment, certificates: dict[str, ClientCertificate], there: dict[str, Pin]) -> None:
        self.target, self.certificates, self.there = target, certificates, there
        self.refused: dict[str, Refused] = {}
        self._goals: dict[str, str] = {}

    def each(self, wanted: Wanted) -> tuple[Interpretation | None, ClientCertificate | None]:
        try:
            return self._goal(wanted), None if wanted.never else self._certificate(wanted)
        except Refused as refused:
            self.refused[wanted.pin.key] = refused
            return None, None

    def _goal(self, wanted: Wanted) -> Interpretation:
        goal = read_target(environment=self.target, text=wanted.target, kind=wanted.pin.kind, never=wanted.never)
        if goal.key in self._goals:
            raise Refused(
                _("%(key)s is also what becomes of %(other)s; change one of them.")
                % {"key": goal.key, "other": self._goals[goal.key]},
                field="target",
            )
        other = self.there.get(goal.key)
        if other is not None and goal.key != wanted.pin.key:
            sent = other.certificate.name if other.certificate else _("never send a certificate")
            raise Refused(
                _("%(key)s is already pinned there (%(sent)s); change that pin instead.")
                % {"key": goal.key, "sent": sent},
                field="target",
            )
        self._goals[goal.key] = wanted.pin.key
        return goal

    def _certificate(self, wanted: Wanted) -> ClientCertificate:
        found = self.certificates.get(wanted.certificate.strip().casefold())
        if found is None:
            raise Refused(
                _("Choose a certificate of %(environment)s.") % {"environment": self.target.name}, field="certificate"
            )
        return found


def _take(
    source: Environment,
    target: Environment,
    wanted: Wanted,
    goal: Interpretation,
    certificate: ClientCertificate | None,
    there: Mapping[str, Pin],
    by: Any,
) -> Pin:
    given: dict[str, Any] = {"target": goal, "certificate": certificate, "confirmed": True, "taken_from": source}
    if (other := there.get(goal.key)) is None:
        return pin(environment=target, note=wanted.pin.note, by=by, **given)
    change_pin(pin=other, note=other.note or wanted.pin.note, test_address=other.test_address, by=by, **given)
    return other
