"""What needs a person, worst first: certificates that end, apps that do not run what they should, changes that wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from certificates.actions import arrived
from certificates.models import EXPIRES_SOON, ClientCertificate, Draft, Incident, Version
from environments.access import Right, rights_of
from environments.models import Environment, Membership
from portal.templatetags.page import ago, left, moment
from rollouts import scheduled
from rollouts.connections import TurnedAway
from rollouts.standing import Chip, Standing

# Certificates that the page names; the list of all certificates, sorted by their end, has the rest.
AT_MOST = 200
# What is read of each; the rest of a version is long.
NAMED = ("environment", "name", "in_use__number", "in_use__not_before", "in_use__not_after")
# Lower is worse.
COMPROMISED, EXPIRED, FAILED, NOT_RUNNING, TURNED_AWAY, NOT_YET_VALID, STOPPED, SENT, EXPIRING, WAITING = range(10)


@dataclass(frozen=True)
class Need:
    """One line: a chip, what it concerns, a clause about it, and where to act; sorted by `rank`, then by `when`."""

    rank: int
    when: datetime
    chip: Chip
    what: str
    environment: Environment
    clause: str
    address: str
    button: str
    certificate: ClientCertificate | None = None

    @property
    def page(self) -> str:
        """The page of what it concerns, behind its name."""
        if self.certificate is not None:
            return self.environment.url("certificate", self.certificate.pk)
        return self.environment.get_absolute_url()


class Needs(list[Need]):
    """Worst first; `cut` says that more certificates end soon than are named here."""

    cut = False


def needs(person: Any, stands: Mapping[UUID, Standing]) -> Needs:
    """What needs this person in these environments: five queries, for any number of them."""
    if not stands:
        return Needs()
    rights = _rights(person, [stand.environment for stand in stands.values()])
    found = [need for stand in stands.values() if (need := _of_app(stand, rights[stand.environment.pk]))]
    found += [need for stand in stands.values() if (need := _of_schedule(stand))]
    newer = Version.objects.filter(
        certificate=OuterRef("pk"), number__gt=OuterRef("in_use__number"), sealed__isnull=False
    )
    now = timezone.now()
    listed = ClientCertificate.objects.filter(
        environment__in=list(stands), enabled=True, removed_at=None, in_use__isnull=False
    )
    # Nothing expires that has longer to live; and the count of each environment knows where some are not valid yet.
    concerned = Q(expires_at__lte=now + EXPIRES_SOON)
    if early := [pk for pk, stand in stands.items() if stand.comparison.statuses.get("not-yet-valid")]:
        concerned |= Q(environment__in=early, in_use__not_before__gt=now)
    away = {pk: by for stand in stands.values() for pk, by in stand.turned_away.items()}
    if away:
        concerned |= Q(pk__in=list(away))
    certificates = listed.filter(concerned).select_related("in_use").annotate(renewal_ready=Exists(newer))
    sent = _sent([pk for pk in stands if Right.CERTIFICATES in rights[pk]])
    # Sooner is worse, so what a list has no room for is the least of it.
    ending = list(certificates.only(*NAMED).order_by("expires_at")[: AT_MOST + 1])
    for certificate in ending[:AT_MOST]:
        environment = stands[certificate.environment_id].environment
        if by := away.get(certificate.pk):
            found.append(_of_turned_away(certificate, environment, by))
        draft = sent.pop(certificate.pk, None)
        if need := _of_certificate(certificate, environment, rights[environment.pk], now, draft):
            found.append(need)
    found += _of_keys({pk: stand.environment for pk, stand in stands.items()})
    found += [_of_sent(draft, stands[draft.environment_id].environment) for draft in sent.values()]
    worst_first = Needs(sorted(found, key=lambda need: (need.rank, need.when)))
    worst_first.cut = len(ending) > AT_MOST
    return worst_first


def _of_keys(environments: Mapping[UUID, Environment]) -> list[Need]:
    """One line for each compromised key whose incident is open, or that still goes with the next apply somewhere: what
    others have closed may not be over here."""
    known = Incident.objects.filter(false_alarm=False)
    goes = Q(pk=F("certificate__in_use"), certificate__enabled=True, certificate__removed_at=None)
    of_it = known.filter(spki_sha256=OuterRef("spki_sha256")).order_by(F("closed_at").desc(nulls_first=True))
    held = Version.objects.filter(
        goes | Q(spki_sha256__in=known.filter(closed_at=None).values("spki_sha256")),
        spki_sha256__in=known.values("spki_sha256"),
        sealed__isnull=False,
        certificate__environment__in=list(environments),
    ).annotate(incident=Subquery(of_it.values("pk")[:1]), said=Subquery(of_it.values("opened_at")[:1]))
    found: dict[UUID, Need] = {}
    for version in held.select_related("certificate").order_by("certificate__environment", "number"):
        incident, certificate = version.incident, version.certificate
        environment = environments[certificate.environment_id]
        clause = _("others may have its private key")
        address = reverse("incident", args=[incident])
        chip = Chip(_("Key compromised"), "bad", "alert")
        need = Need(
            COMPROMISED, version.said, chip, certificate.name, environment, clause, address, _("Go on"), certificate
        )
        # Of several places, production stands for it.
        if incident not in found or (environment.production and not found[incident].environment.production):
            found[incident] = need
    return list(found.values())


def _rights(person: Any, environments: Iterable[Environment]) -> dict[UUID, frozenset[Right]]:
    if person.is_superuser:
        return {environment.pk: frozenset(Right) for environment in environments}
    memberships = list(Membership.objects.filter(person=person))
    return {
        environment.pk: rights_of(
            m
            for m in memberships
            if m.application_id == environment.application_id and m.environment_id in (None, environment.pk)
        )
        for environment in environments
    }


def _of_app(stand: Standing, rights: frozenset[Right]) -> Need | None:
    chip, environment, last = stand.configuration, stand.environment, stand.last
    if stand.active is not None or stand.destination is None:
        return None
    if chip.tone == "bad":
        ended_badly = last is not None and last.state in ("needs_help", "rolled_back") and not stand.changed_outside
        if last is not None and ended_badly and not _unreachable(stand):
            address, button = environment.url("rollout", last.pk), _("See why")
            return Need(FAILED, last.created_at, chip, "", environment, last.sentence, address, button)
        since = stand.destination.observed_at or timezone.now()
        clause = _("no answer when it was asked, %(when)s") % {"when": ago(since)}
        if not _unreachable(stand):
            clause = _("the app reports another configuration than the one applied from here")
        return Need(NOT_RUNNING, since, chip, "", environment, clause, environment.get_absolute_url(), _("Open"))
    if environment.production and stand.stop_chip is not None:
        clause = _("not running")
        if last is not None and last.kind == "stop" and last.state == "verified":
            clause = _("stopped by %(who)s, %(when)s") % {"who": last.requested_by, "when": ago(last.finished_at)}
        since = stand.destination.observed_at or timezone.now()
        address = environment.get_absolute_url()
        return Need(STOPPED, since, stand.stop_chip, "", environment, clause, address, _("Open"))
    if stand.count and Right.APPLY in rights and not stand.all_scheduled:
        address, clause = environment.url("changes"), ""
        if stand.scheduled is not None:
            clause = f"{scheduled.in_words(stand.scheduled)} {scheduled.since_in_words(stand.since_scheduled)}"
        return Need(WAITING, timezone.now(), chip, "", environment, clause, address, _("View changes"))
    return None


def _of_schedule(stand: Standing) -> Need | None:
    """What was scheduled and could not begin, while it still does not run."""
    missed, environment = stand.missed, stand.environment
    if missed is None or not stand.count or stand.active is not None:
        return None
    chip = Chip(_("Scheduled apply cancelled"), "bad", "alert")
    address = environment.url("rollout", missed.pk)
    return Need(
        FAILED, missed.finished_at or missed.created_at, chip, "", environment, missed.failure, address, _("See why")
    )


def _unreachable(stand: Standing) -> bool:
    d = stand.destination
    return d is not None and d.wanted_running and d.observed_status in ("unreachable", "stopped")


def _of_turned_away(certificate: ClientCertificate, environment: Environment, by: TurnedAway) -> Need:
    chip, clause = Chip(_("Refused in test"), "bad", "alert"), _("by %(server)s") % {"server": by.key}
    address = environment.url("connection", by.pin)
    return Need(
        TURNED_AWAY, timezone.now(), chip, certificate.name, environment, clause, address, _("See why"), certificate
    )


def _sent(environments: list[UUID]) -> dict[UUID, Draft]:
    """What partners sent there, the newest for each certificate."""
    drafts = arrived().filter(environment__in=environments, certificate__removed_at=None)
    found = drafts.select_related("certificate").order_by("created_at")[:AT_MOST]
    return {draft.certificate.pk: draft for draft in found if draft.certificate is not None}


def _of_sent(draft: Draft, environment: Environment) -> Need:
    certificate = draft.certificate
    assert certificate is not None
    clause = _("sent %(when)s; look at it, then confirm or discard it") % {"when": ago(draft.created_at)}
    chip, address = Chip(_("The partner has sent it"), "info", "check"), environment.url("draft", draft.pk)
    return Need(
        SENT, draft.created_at, chip, certificate.name, environment, clause, address, _("Look at it"), certificate
    )


def _of_certificate(
    certificate: ClientCertificate,
    environment: Environment,
    rights: frozenset[Right],
    now: datetime,
    sent: Draft | None,
) -> Need | None:
    version = certificate.in_use
    assert version is not None
    status = version.status(now)
    if status == "ok":
        return None if sent is None else _of_sent(sent, environment)
    if status == "expired":
        rank, when, chip = EXPIRED, version.not_after, Chip(_("Expired"), "bad", "alert")
        clause = _("since %(when)s") % {"when": moment(when)}
    elif status == "not-yet-valid":
        rank, when, chip = NOT_YET_VALID, version.not_before, Chip(_("Not yet valid"), "bad", "alert")
        clause = _("valid from %(when)s") % {"when": moment(when)}
    else:
        rank, when, chip = EXPIRING, version.not_after, Chip(left(version.not_after), "warn", "clock")
        clause = _("expires on %(when)s") % {"when": moment(when)}
    ready = certificate.renewal_ready  # type: ignore[attr-defined]  # annotated above
    address, button = environment.url("certificate", certificate.pk), _("Open")
    if sent is not None:
        clause = _("%(clause)s; the partner has sent the next one") % {"clause": clause}
        address, button = environment.url("draft", sent.pk), _("Look at it")
    elif ready:
        clause = _("%(clause)s; a renewal is ready") % {"clause": clause}
    elif Right.CERTIFICATES in rights and status != "not-yet-valid":
        address, button = environment.url("certificate-renew", certificate.pk), _("Upload renewal")
    return Need(rank, when, chip, certificate.name, environment, clause, address, button, certificate)
