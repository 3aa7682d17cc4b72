"""How far something reaches: where a certificate, a key, an issuer or somebody's work is in use, and what depends on
it.

Told of what the reader may see, and nothing of the rest. Seven queries, for any number of environments.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models import F, Q, QuerySet, TextField, Window
from django.db.models.functions import Cast, RowNumber
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from audit.models import Event
from certificates.content import Content
from certificates.listing import neutral
from certificates.models import ClientCertificate, Pin, Version
from environments.access import visible_environments
from environments.models import Environment, Person
from rollouts import connections
from rollouts.models import ConnectionTest, Destination, Revision, RevisionEntry

# What a place keeps a version as, whether or not it also runs.
NEXT, READY, PREVIOUS, LEFT_OUT, TRACKED = "next", "ready", "previous", "left-out", "tracked"
# How rows are told apart that concern a person.
WHY: dict[str, str | Promise] = {
    "responsible": gettext_lazy("responsible"),
    "uploaded": gettext_lazy("uploaded"),
    "pinned": gettext_lazy("pinned"),
    "exported": gettext_lazy("took its key out"),
}

# What is read of a version and its slot; the rest of them is long.
SHOWN = (
    *("certificate", "number", "sealed", "sha256", "spki_sha256", "subject", "common_name", "issuer", "serial"),
    *("not_before", "not_after", "key_kind", "key_bits"),
    *(f"certificate__{column}" for column in ("environment", "name", "slug", "enabled", "in_use", "removed_at")),
    *(f"certificate__{column}" for column in ("contact", "contact_mail", "how_to_renew")),
)


@dataclass(frozen=True)
class Held:
    """One version in its slot; `how` is NEXT and the like, and it can run besides."""

    version: Version
    how: str
    runs: bool

    @property
    def in_use(self) -> bool:
        return self.how == NEXT or self.runs


@dataclass(frozen=True)
class Target:
    """What a pin names, with the last test of its connection that sent one of these versions."""

    kind: str
    key: str
    next: bool
    runs: bool
    test: connections.Told | None = None


@dataclass(frozen=True)
class Row:
    """One slot that has some of these versions, newest first; `revision` is the one that runs there, with them or
    without, and `placed` whether anything is applied there from here. Targets are those that depend on them: now, or
    after the next apply."""

    certificate: ClientCertificate
    held: tuple[Held, ...]
    placed: bool = False
    revision: Revision | None = None
    targets: tuple[Target, ...] = ()
    why: tuple[str, ...] = ()

    @property
    def environment(self) -> Environment:
        return self.certificate.environment

    @cached_property
    def in_use(self) -> bool:
        return any(one.in_use for one in self.held)

    @property
    def next(self) -> Version | None:
        return next((one.version for one in self.held if one.how == NEXT), None)

    @property
    def running(self) -> Version | None:
        return next((one.version for one in self.held if one.runs), None)

    @property
    def others(self) -> dict[str, list[Version]]:
        """What is kept and neither runs nor goes with the next apply, by how."""
        found: dict[str, list[Version]] = {}
        for one in self.held:
            if not one.in_use:
                found.setdefault(one.how, []).append(one.version)
        return found

    @cached_property
    def ends(self) -> Version:
        """The version whose end matters: the first of those in use, or of all."""
        counted = [one.version for one in self.held if one.in_use] or [one.version for one in self.held]
        return min(counted, key=lambda version: version.not_after)

    @property
    def reasons(self) -> str:
        return ", ".join(str(WHY[why]) for why in self.why)


@dataclass(frozen=True)
class Reach:
    """Production first, then what is in use, then what ends first."""

    rows: tuple[Row, ...] = ()

    @cached_property
    def in_use(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.in_use)

    @property
    def environments(self) -> dict[UUID, Environment]:
        return {row.environment.pk: row.environment for row in self.rows}

    @property
    def versions(self) -> list[Version]:
        return [one.version for row in self.rows for one in row.held]

    @property
    def summary(self) -> str:
        """“3 environments, 7 pins, 2 in production; the first ends in 12 days”."""
        if not self.in_use:
            return _("In use nowhere that you may see.") if self.rows else ""
        places = {row.environment.pk: row.environment for row in self.in_use}
        pins = sum(len(row.targets) for row in self.in_use)
        words = [
            ngettext("%(n)d environment", "%(n)d environments", len(places)) % {"n": len(places)},
            ngettext("%(n)d pin", "%(n)d pins", pins) % {"n": pins},
        ]
        if production := sum(place.production for place in places.values()):
            words.append(_("%(n)d in production") % {"n": production})
        first = min(row.ends.not_after for row in self.in_use)
        return _("%(counted)s; the first ends %(when)s") % {"counted": ", ".join(words), "when": _in_days(first)}


def _in_days(end: datetime) -> str:
    """“in 12 days”, “within a day”, “has ended already”; rounded as the bars of a list are."""
    left = end - timezone.now()
    if left.total_seconds() < 0:
        return _("has ended already")
    if not (days := round(left.total_seconds() / 86_400)):
        return _("within a day")
    return ngettext("in %(n)d day", "in %(n)d days", days) % {"n": days}


# --- Of what ---


def of_certificate(sha256: str) -> Q:
    return Q(sha256=sha256)


def of_key(spki_sha256: str) -> Q:
    return Q(spki_sha256=spki_sha256)


def of_key_here(spki_sha256: str) -> Q:
    """Only where the key itself is, not of who tracks a certificate over it."""
    return Q(spki_sha256=spki_sha256, sealed__isnull=False)


def of_slots(slots: Collection[UUID]) -> Q:
    return Q(certificate__in=slots)


def of_issuer(person: Any, name: str) -> Reach:
    """Of every certificate that this issuer signed, or stands above; `name` as it is stored (RFC 4514)."""
    # No two databases look into JSON alike; this finds the text, and what is found is read.
    spelled = {json.dumps(name, ensure_ascii=escaped)[1:-1] for escaped in (True, False)}
    above = Q(missing_issuer=name)
    for text in spelled:
        above |= Q(chain_text__contains=text)

    def fits(version: Version) -> bool:
        links = (value for link in version.chain for value in (link["subject"], link["issuer"]))
        return name in (version.issuer, version.missing_issuer, *links)

    return reach(person, Q(issuer=name) | above, fits)


# --- The rows ---


def reach(person: Any, of: Q, fits: Callable[[Version], bool] | None = None) -> Reach:
    """Where the versions that `of` describes are, in what this person may see, archived environments too: what runs
    there goes on running. `fits` decides where `of` finds too many."""
    seen = visible_environments(person).order_by().values("pk")
    asked = Version.objects.annotate(chain_text=Cast("chain", TextField())).filter(
        of, certificate__environment__in=seen
    )
    # A partner's authority may stand above thousands: what is long is read only where it decides.
    found = asked.only(*SHOWN, *(("chain", "missing_issuer") if fits else ())).select_related("certificate")
    slots: dict[UUID, list[Version]] = {}
    for version in found.annotate(in_use_number=F("certificate__in_use__number")).order_by("certificate", "-number"):
        if fits is None or fits(version):
            slots.setdefault(version.certificate_id, []).append(version)
    if not slots:
        return Reach()
    places = {versions[0].certificate.environment_id for versions in slots.values()}
    environments = Environment.objects.select_related("application").in_bulk(places)
    running, revisions = _running(asked)
    rows = []
    for versions in slots.values():
        certificate = versions[0].certificate
        certificate.environment = environments[certificate.environment_id]
        for one in versions:
            one.certificate = certificate
        held = tuple(Held(one, _how(one, certificate), one.pk in running) for one in versions)
        place = certificate.environment_id
        rows.append(Row(certificate, held, place in revisions, revisions.get(place)))
    return Reach(tuple(sorted(_with_targets(rows, asked), key=_order)))


def _order(row: Row) -> tuple[Any, ...]:
    place = row.environment
    return (not row.in_use, not place.production, row.ends.not_after, str(place), row.certificate.name)


def _how(version: Any, certificate: ClientCertificate) -> str:
    if version.is_tracked_only:
        return TRACKED
    if certificate.in_use_id == version.pk:
        return NEXT if certificate.enabled and certificate.removed_at is None else LEFT_OUT
    newer = version.in_use_number is None or version.number > version.in_use_number
    return READY if newer and certificate.removed_at is None else PREVIOUS


def _running(asked: QuerySet[Version]) -> tuple[set[UUID], dict[UUID, Revision | None]]:
    """Which of these versions run; and the revision, or None, that runs in each environment which has any of them and
    is applied to from here."""
    environments = asked.order_by().values("certificate__environment")
    here = Destination.objects.filter(environment__in=environments)
    revisions = {d.environment_id: d.running for d in here.select_related("running").defer("running__content")}
    entries = RevisionEntry.objects.filter(
        revision__in=here.filter(running__isnull=False).order_by().values("running"),
        version__in=asked.order_by().values("pk"),
    )
    return set(entries.order_by().values_list("version", flat=True)), revisions


def _with_targets(rows: list[Row], asked: QuerySet[Version]) -> Iterator[Row]:
    frozen = {row.revision.pk for row in rows if row.running is not None and row.revision is not None}
    contents = dict(Revision.objects.filter(pk__in=frozen).values_list("pk", "content")) if frozen else {}
    run: dict[tuple[UUID, str], dict[str, str]] = {}
    for row in rows:
        place = row.environment.pk
        if row.revision is not None and row.revision.pk in contents:
            for pin in Content.from_canonical(contents.pop(row.revision.pk)).pins:
                if pin.slug is not None:
                    run.setdefault((place, pin.slug), {})[pin.key] = pin.kind
    wanted: dict[UUID, dict[str, str]] = {}
    pinned = Pin.objects.filter(certificate__in=[row.certificate.pk for row in rows if row.next is not None])
    for slot, kind, key in pinned.values_list("certificate", "kind", "key"):
        wanted.setdefault(slot, {})[key] = kind
    tests = _tests(asked)
    for row in rows:
        here = run.get((row.environment.pk, row.certificate.slug), {}) if row.running is not None else {}
        then = wanted.get(row.certificate.pk, {})
        yield replace(
            row,
            targets=tuple(
                Target(kind, key, key in then, key in here, tests.get((row.environment.pk, key)))
                for key, kind in sorted({**here, **then}.items())
            ),
        )


def _tests(asked: QuerySet[Version]) -> Mapping[tuple[UUID, str], connections.Told]:
    """The last test of each target in each environment that sent one of these versions."""
    sent = ConnectionTest.objects.filter(version__in=asked.order_by().values("pk"))
    nth = Window(RowNumber(), partition_by=[F("environment"), F("key")], order_by="-tested_at")
    last = sent.order_by().annotate(nth=nth).filter(nth=1).defer("facts")
    return {(test.environment_id, test.key): connections.told(test) for test in last}


# --- Of a person ---


def of_person(reader: Any, person: Person) -> Reach:
    """What depends on somebody: slots that they are responsible for, uploaded or pinned, as far as these are in use;
    and every version whose key they took out of the portal, in use or not. Five queries more."""
    why: dict[UUID, set[str]] = {}
    for pk in ClientCertificate.objects.filter(responsible=person).values_list("pk", flat=True):
        why.setdefault(pk, set()).add("responsible")
    done = Event.objects.filter(actor_id=str(person.pk), refused=False).order_by()
    added = done.filter(action__in=("certificate.added", "certificate.renewed"))
    for text in added.values_list("subject_id", flat=True):
        why.setdefault(UUID(text), set()).add("uploaded")
    pins = done.filter(action__in=("pin.added", "pin.changed")).values_list("subject_id", flat=True)
    for pk in Pin.objects.filter(pk__in=set(pins), certificate__isnull=False).values_list("certificate", flat=True):
        why.setdefault(pk, set()).add("pinned")
    taken = _taken_out(done)
    whole = reach(reader, of_slots(why) | Q(pk__in=taken))
    rows = []
    for row in whole.rows:
        kept = tuple(one for one in row.held if one.in_use or one.version.pk in taken)
        reasons = why.get(row.certificate.pk, set()) | (
            {"exported"} if any(v.version.pk in taken for v in kept) else set()
        )
        if kept:
            rows.append(replace(row, held=kept, why=tuple(reason for reason in WHY if reason in reasons)))
    return Reach(tuple(rows))


def _taken_out(done: QuerySet[Event]) -> set[UUID]:
    """The versions whose keys left the portal with this person: in an export, or for an upload by hand."""
    # As canonical JSON spells it (audit.trail); a test of a connection opens a key, too, which stays here.
    exports = done.filter(action="key.opened", body__contains='"reason":"export ')
    found = {UUID(text) for text in exports.values_list("subject_id", flat=True)}
    handed = {UUID(text) for text in done.filter(action="handover.downloaded").values_list("subject_id", flat=True)}
    entries = RevisionEntry.objects.filter(revision__rollouts__in=handed) if handed else RevisionEntry.objects.none()
    return found | set(entries.values_list("version", flat=True))


# --- For a spreadsheet ---


def as_csv(found: Reach) -> Iterator[bytes]:
    """The rows, as certificates.listing.as_csv writes its own."""
    out = io.StringIO()
    write = csv.writer(out).writerow
    out.write("\ufeff")
    write([
        _("Application"), _("Environment"), _("Production"), _("Certificate"), _("Goes with the next apply"),
        _("Runs"), _("Revision that runs"), _("Kept"), _("Pinned to"), _("Last tests"), _("Expires"), _("Days left"),
        _("SHA-256"), _("Because"),
    ])  # fmt: skip
    for row in found.rows:
        write([neutral(str(cell)) for cell in _cells(row)])
    yield out.getvalue().encode()


def _cells(row: Row) -> Iterable[object]:
    place, ends = row.environment, row.ends
    yield from (place.application.name, place.name, _("yes") if place.production else "", row.certificate.name)
    yield row.next.number if row.next else ""
    yield row.running.number if row.running else ""
    yield row.revision.number if row.revision else ""
    yield "; ".join(f"{how}: {', '.join(str(v.number) for v in kept)}" for how, kept in row.others.items())
    yield " ".join(target.key for target in row.targets)
    tested = ((target.key, target.test) for target in row.targets if target.test)
    yield "; ".join(f"{key}: {test.chip[0]} {test.test.tested_at:%Y-%m-%d %H:%M:%SZ}" for key, test in tested)
    yield from (f"{ends.not_after:%Y-%m-%d %H:%M:%SZ}", (ends.not_after - timezone.now()).days, ends.sha256)
    yield row.reasons
