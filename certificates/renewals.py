"""Where else a certificate that is being replaced is used: the same key or certificate in other slots.

Who may change certificates in a place may bring the renewal there; of a place that one may only see, no more than that
is said; and of others, nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certificates import shared_keys
from certificates.comparison import Disagreement, disagreements
from certificates.models import ClientCertificate, Renewal, Version
from certificates.recognition import recognised
from environments.access import Right, environments_to, visible_environments, who_may_in, whom_to_ask
from environments.models import Environment

# Places that one page offers, and replaces at once; the certificate's page offers those beyond afterwards.
AT_ONCE = 100
NAMED = 5


@dataclass(frozen=True)
class Place:
    """A slot that uses what is being replaced, by its certificate or only by its key; `new` is what is to follow."""

    certificate: ClientCertificate
    new: Version
    same_certificate: bool
    # The sentence about a key that would be both in production and outside it; "" where it is not.
    shared: str = ""

    @property
    def version(self) -> Version:
        assert self.certificate.in_use is not None
        return self.certificate.in_use

    @property
    def environment(self) -> Environment:
        return self.certificate.environment

    @property
    def warnings(self) -> list[Disagreement]:
        found = disagreements(self.certificate.identified_by, self.version, self.new)
        return [*found, *([Disagreement(shared_keys.CODE, self.shared)] if self.shared else [])]

    @property
    def remark(self) -> str:
        """What is odd about replacing it, in a few words."""
        kind = recognised(self.version, self.new).kind
        if kind in ("other-subject", "stranger"):
            return _("another subject there")
        if (self.version.not_after - self.new.not_after).days > 0:
            return _("what is used there ends later")
        return ""


@dataclass(frozen=True)
class Elsewhere:
    """`places` that this person may change; environments that they may see and not change; and those where they would
    get a key into their hands that they may not export here."""

    places: tuple[Place, ...] = ()
    closed: tuple[Environment, ...] = ()
    to_export: tuple[Environment, ...] = ()
    more: bool = False

    def __bool__(self) -> bool:
        return bool(self.places or self.closed or self.to_export)

    @property
    def number(self) -> int:
        return len(self.places) + len(self.closed) + len(self.to_export)

    @property
    def not_yours(self) -> str:
        """“2 more that you may not change: …; ask Ada or Grace.”, "" where there is none. One query."""
        if not self.closed:
            return ""
        n = len(self.closed)
        words = ngettext(
            "%(n)d more that you may not change: %(places)s. Ask %(people)s.",
            "%(n)d more that you may not change: %(places)s. Ask %(people)s.",
            n,
        )
        people = whom_to_ask(who_may_in(Right.CERTIFICATES, self.closed))
        return words % {"n": n, "places": _named(self.closed), "people": people}

    @property
    def by_upload(self) -> str:
        """Where the file itself is needed, "" where it is nowhere."""
        if not self.to_export:
            return ""
        words = _(
            "In %(places)s you may download keys, and here you may not; so the key is not brought there from here."
            " Upload the file there."
        )
        return words % {"places": _named(self.to_export)}


def _named(environments: Sequence[Environment]) -> str:
    names = [str(environment) for environment in environments]
    return ", ".join(names[:NAMED]) + (" …" if len(names) > NAMED else "")


def used_elsewhere(
    person: Any, *, replaced: Collection[Version], new: Version, of: ClientCertificate, stored: bool = False
) -> Elsewhere:
    """Other slots that use one of the `replaced` versions' certificates or keys now, and do not have the `new` one.

    `stored` says that the new key comes from the vault and not from the person's own file; then it is not brought to
    where they could export it, unless they may export it where it is. Three to six queries.
    """
    prints = {one.sha256 for one in replaced}
    fits = Q(sha256__in=prints) | Q(spki_sha256__in={one.spki_sha256 for one in replaced if one.spki_sha256})
    seen = visible_environments(person).filter(archived_at=None).order_by().values("pk")
    found = (
        ClientCertificate.objects.filter(
            in_use__in=Version.objects.filter(fits, sealed__isnull=False).order_by().values("pk"),
            removed_at=None,
            environment__in=seen,
        )
        .exclude(pk=of.pk)
        .exclude(in_use__sha256=new.sha256)
        # A version of it that is ready waits to be used, on its own page.
        .exclude(
            pk__in=Version.objects.filter(sha256=new.sha256, sealed__isnull=False).order_by().values("certificate")
        )
        .select_related("in_use", "environment__application")
        .order_by("environment__application__name", "environment__position", "position", "pk")
    )
    listed = list(found[: AT_ONCE + 1])
    if not listed:
        return Elsewhere()
    may = set(environments_to(Right.CERTIFICATES, person).values_list("pk", flat=True))
    kept_from: set[Any] = set()
    if stored and not environments_to(Right.EXPORT, person).filter(pk=of.environment_id).exists():
        kept_from = set(environments_to(Right.EXPORT, person).values_list("pk", flat=True))
    mine = [one for one in listed[:AT_ONCE] if one.environment_id in may]
    across = _across(person, new, of, mine)
    return Elsewhere(
        tuple(
            Place(
                one,
                new,
                one.in_use is not None and one.in_use.sha256 in prints,
                across[one.environment.production],
            )
            for one in mine
            if one.environment_id not in kept_from
        ),
        _places_of(one for one in listed[:AT_ONCE] if one.environment_id not in may),
        _places_of(one for one in mine if one.environment_id in kept_from),
        len(listed) > AT_ONCE,
    )


def _across(person: Any, new: Version, of: ClientCertificate, mine: Iterable[ClientCertificate]) -> dict[bool, str]:
    """What has to be confirmed where the new key would be both in production and outside it, by whether a place is
    production; "" where it would not. Two queries at most."""
    production = next((one.environment for one in mine if one.environment.production), None)
    if of.environment.production:
        words = _("This key is production’s (%(place)s); what is not production needs its own.")
        used = shared_keys.also_in_tests(production, [new], person).get(new.sha256, "") if production else ""
        return {True: used, False: words % {"place": of.environment}}
    words = _("This is production, and the new key goes to %(place)s too; production needs its own.")
    return {True: words % {"place": of.environment}, False: ""}


def _places_of(certificates: Iterable[ClientCertificate]) -> tuple[Environment, ...]:
    return tuple({one.environment_id: one.environment for one in certificates}.values())


def behind(
    person: Any, certificate: ClientCertificate, versions: Sequence[Version]
) -> tuple[Version | None, Elsewhere]:
    """The newest version of a certificate that has a key, and where its predecessors are still in use."""
    keyed = [one for one in versions if not one.is_tracked_only]
    if len({one.sha256 for one in keyed}) < 2:
        return None, Elsewhere()
    new = keyed[0]
    replaced = [one for one in keyed[1:] if one.sha256 != new.sha256]
    return new, used_elsewhere(person, replaced=replaced, new=new, of=certificate, stored=True)


def better_fits(new: Version, of: ClientCertificate | None, environment: Environment) -> list[ClientCertificate]:
    """Certificates of this environment that an upload plainly is the renewal of (they have its subject, and are another
    certificate), where it is not plainly that of the one that it was uploaded for. At most NAMED; one query."""
    if of is not None and (of.in_use is None or recognised(of.in_use, new).kind not in ("other-subject", "stranger")):
        return []
    here = environment.certificates.filter(removed_at=None, in_use__subject=new.subject)
    found = here.exclude(versions__sha256=new.sha256).order_by("position")
    if of is not None:
        found = found.exclude(pk=of.pk)
    return list(found[:NAMED])


def seen_renewals(person: Any) -> QuerySet[Renewal]:
    """Renewals of several places of which this person may see one at least."""
    seen = Version.objects.filter(certificate__environment__in=visible_environments(person).order_by().values("pk"))
    return Renewal.objects.filter(versions__in=seen).distinct()


def warnings_of_places(places: Iterable[Place]) -> list[str]:
    """What has to be confirmed before these are replaced, each sentence with its place."""
    return [f"{place.environment}: {one.sentence}" for place in places for one in place.warnings]
