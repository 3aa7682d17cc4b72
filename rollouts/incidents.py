"""What is left to do about a compromised key: place by place, certificate by certificate, as one person may see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from certificates.compromised import look_up
from certificates.models import Announcement, ClientCertificate, Incident, Version
from environments.access import Right, environments_to
from rollouts import reach
from rollouts.reach import Reach, Row
from rollouts.standing import Chip, Standing, standings


@dataclass(frozen=True)
class Place:
    """One slot that holds the key, and what the reader may do there. `seen` says what runs; it is `over` where that is
    known to be without the key, or nothing was ever delivered from here. `instead` is a newer version with another key
    that waits to be used."""

    row: Row
    standing: Standing
    seen: Chip
    says: str
    over: bool
    may_change: bool
    may_apply: bool
    instead: Version | None = None

    @property
    def certificate(self) -> ClientCertificate:
        return self.row.certificate

    @property
    def taken_out(self) -> bool:
        """The next apply goes without the key."""
        return self.row.next is None

    @property
    def apply(self) -> bool:
        """What is left is to apply it."""
        return self.taken_out and not self.over and self.standing.active is None and self.row.running is not None

    @property
    def done(self) -> bool:
        return self.taken_out and self.over


@dataclass(frozen=True)
class Concerned:
    """One certificate over the key: whom to tell of it. `new` is what takes its place where it is known, and `slot`
    one that has it."""

    version: Version
    slots: tuple[ClientCertificate, ...]
    new: Version | None
    told: dict[str, Announcement]
    known: bool
    may_change: bool

    @property
    def slot(self) -> ClientCertificate:
        return self.slots[0]

    @property
    def expired(self) -> bool:
        return self.version.status() == "expired"

    @property
    def revocation(self) -> Announcement | None:
        return self.told.get("revocation")

    @property
    def partner(self) -> Announcement | None:
        return self.told.get("partner")

    @property
    def contacts(self) -> list[str]:
        found = (" ".join(filter(None, (slot.contact, slot.contact_mail))) for slot in self.slots)
        return list(dict.fromkeys(filter(None, found)))

    @property
    def ways(self) -> list[str]:
        return list(dict.fromkeys(filter(None, (slot.how_to_renew for slot in self.slots))))

    @property
    def for_issuer(self) -> str:
        return _(
            "Please revoke this certificate: its private key is compromised (reason code keyCompromise, RFC 5280).\n\n"
            "%(facts)s\n\nPlease confirm the revocation with its date and time."
        ) % {"facts": _facts(self.version)}

    @property
    def for_partner(self) -> str:
        words = _(
            "The private key of this client certificate, with which we call you, is compromised. Please do not accept"
            " it any more once we have confirmed the change. Its revocation is asked for.\n\n%(facts)s"
        ) % {"facts": _facts(self.version)}
        if self.new is None:
            return words
        return _("%(words)s\n\nFrom now on we use this one:\n\n%(facts)s") % {"words": words, "facts": _facts(self.new)}


def _facts(version: Version) -> str:
    lines = (
        (_("Subject"), version.subject),
        (_("Issuer"), version.issuer),
        (_("Serial number"), version.serial),
        ("SHA-256", version.sha256),
        (_("Valid until"), f"{version.not_after:%Y-%m-%d %H:%M} UTC"),
    )
    return "\n".join(f"{name}: {value}" for name, value in lines)


@dataclass(frozen=True)
class Course:
    """An incident as one person may see it."""

    incident: Incident
    reach: Reach
    places: tuple[Place, ...]
    concerned: tuple[Concerned, ...]
    # Whether this person may see where it was opened, and may close it.
    known: bool
    may_close: bool

    @property
    def name(self) -> str:
        return self.incident.certificate.name if self.known else self.places[0].certificate.name

    @property
    def left_to_take_out(self) -> int:
        return sum(not place.taken_out for place in self.places)

    @property
    def left_to_apply(self) -> int:
        return sum(not place.over for place in self.places)

    @property
    def unseen(self) -> int:
        """Places of which nobody here can say what runs."""
        return sum(place.standing.destination is None for place in self.places)

    @property
    def under_way(self) -> bool:
        return any(place.standing.active is not None for place in self.places)

    @property
    def to_apply(self) -> list[UUID]:
        """Environments that this person may apply to in one go."""
        return list({place.row.environment.pk: 1 for place in self.places if place.apply and place.may_apply})

    @property
    def left_to_revoke(self) -> int:
        return sum(one.revocation is None and not one.expired for one in self.concerned)

    @property
    def left_to_tell(self) -> int:
        return sum(one.partner is None for one in self.concerned)

    @property
    def why_not_closed(self) -> str:
        """What has to be done first; "" where nothing is left."""
        if self.left_to_take_out:
            return _("It still goes with the next apply somewhere: replace or disable it there first.")
        if self.left_to_apply:
            return _("Something that runs may still hold it: apply first.")
        if self.left_to_revoke:
            return _("Ask for its revocation first.")
        return ""


def course(incident: Incident, person: Any) -> Course | None:
    """None for a stranger: somebody who may see no place that holds the key. A constant number of queries."""
    found = reach.reach(person, reach.of_key_here(incident.spki_sha256))
    if not found.rows:
        return None
    may = {right: _ids(right, person) for right in (Right.CERTIFICATES, Right.APPLY)}
    # What is only noted can be noted of an archived place, too, and somebody has to be able to.
    may_note = set(found.environments) if person.is_superuser else may[Right.CERTIFICATES]
    stands = standings(found.environments.values())
    newer = _newer(found.rows)
    places = []
    for row in found.rows:
        pk = row.environment.pk
        places.append(
            Place(
                row,
                stands[pk],
                *_seen(row, stands[pk]),
                may_change=pk in may[Right.CERTIFICATES] and row.certificate.removed_at is None,
                may_apply=pk in may[Right.APPLY],
                instead=newer.get(row.certificate.pk),
            )
        )
    here = incident.certificate.environment_id
    known = here in found.environments
    concerned = tuple(_concerned(incident, found.rows, newer, may_note, set(found.environments)))
    return Course(incident, found, tuple(places), concerned, known, here in may_note)


def _ids(right: Right, person: Any) -> set[UUID]:
    return set(environments_to(right, person).order_by().values_list("pk", flat=True))


def _seen(row: Row, stand: Standing) -> tuple[Chip, str, bool]:
    """What is known of the key in what runs there: a chip, the evidence in words, and whether that is the end of it."""
    d = stand.destination
    if d is None:
        return Chip(_("Not seen from here"), "plain", "circle"), _("Exported by hand: see to it there."), True
    if stand.active is not None:
        return Chip(stand.configuration.text, "info", "progress"), _("Something is under way; wait for its end."), False
    if stand.last is not None and stand.last.state == "needs_help":
        return Chip(_("Needs help"), "bad", "alert"), _("What runs is not known: see to the rollout first."), False
    if row.running is not None and row.revision is not None:
        words = _("Version %(v)d is still in what runs (revision %(n)d).")
        said = words % {"v": row.running.number, "n": row.revision.number}
        return Chip(_("Runs with the key"), "bad", "alert"), said, False
    if stand.changed_outside:
        said = _("The app has another configuration than the one applied from here: apply, so that it is known.")
        return Chip(_("Changed outside Countersign"), "bad", "alert"), said, False
    if row.revision is None:
        return Chip(_("Never ran from here"), "plain", "circle"), _("Nothing was applied here yet."), True
    said = _("Revision %(n)d runs without it%(proof)s.") % {"n": row.revision.number, "proof": _proof(d.proof)}
    return Chip(_("Gone from what runs"), "good", "check"), said, True


def _proof(kind: str) -> str:
    match kind:
        case "reported":
            return _(", as the app itself reports")
        case "read-back":
            return _(", as its files read back say")
        case "restarted":
            return _(", restarted with what was delivered")
        case "confirmed":
            return _(", as the operator confirmed")
        case "delivered":
            return _(", delivered; the app is stopped")
        case "imported":
            return _(", as it was imported")
        case _:
            return ""


def _newer(rows: Iterable[Row]) -> dict[UUID, Version]:
    """By slot, the newest version with a key, if that key is another one and good."""
    slots = [row.certificate.pk for row in rows]
    listed = Version.objects.filter(certificate__in=slots, sealed__isnull=False).order_by("number")
    newest = {version.certificate_id: version for version in listed.defer("chain", "warnings", "sought")}
    bad = {version.pk for version in look_up(newest.values())}
    return {slot: version for slot, version in newest.items() if version.pk not in bad}


def _concerned(
    incident: Incident, rows: Iterable[Row], newer: dict[UUID, Version], may_change: set[UUID], seen: set[UUID]
) -> Iterable[Concerned]:
    told: dict[str, dict[str, Announcement]] = {}
    for announcement in incident.announcements.select_related("certificate"):
        told.setdefault(announcement.sha256, {})[announcement.kind] = announcement
    by_certificate: dict[str, tuple[Version, list[ClientCertificate]]] = {}
    for row in rows:
        for one in row.held:
            by_certificate.setdefault(one.version.sha256, (one.version, []))[1].append(row.certificate)
    for sha256, (version, slots) in by_certificate.items():
        # First one where this person may write, so that what is said is said there.
        slots.sort(key=lambda slot: slot.environment_id not in may_change)
        said = told.get(sha256, {})
        yield Concerned(
            version,
            tuple(dict.fromkeys(slots)),
            next((newer[slot.pk] for slot in slots if slot.pk in newer), None),
            said,
            all(one.certificate.environment_id in seen for one in said.values()),
            slots[0].environment_id in may_change,
        )
