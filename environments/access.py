"""Who may do what. Fetching is authorising: the function that finds a thing is the one that allows it.

A stranger gets a 404, as if the thing did not exist. Someone who may see it but not do this gets NotAllowed, whose
sentence names the people who may.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import F, FilteredRelation, Prefetch, Q, QuerySet
from django.http import Http404
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit import trail
from environments.models import Application, Environment, Membership, Person


class Right(StrEnum):
    VIEW = "view"
    CERTIFICATES = "certificates"
    APPLY = "apply"
    APPROVE = "approve"
    EXPORT = "export"
    OWN = "own"


@dataclass(frozen=True)
class Role:
    """A bundle of rights with the name and sentence that the members page shows."""

    kind: str
    title: str | Promise
    sentence: str | Promise
    rights: frozenset[Right]


ROLES = {
    role.kind: role
    for role in (
        Role("viewer", gettext_lazy("Viewer"), gettext_lazy("Sees everything but keys."), frozenset({Right.VIEW})),
        Role(
            "editor",
            gettext_lazy("Certificate editor"),
            gettext_lazy("Adds, renews and pins certificates. Cannot apply."),
            frozenset({Right.VIEW, Right.CERTIFICATES}),
        ),
        Role(
            "operator",
            gettext_lazy("Operator"),
            gettext_lazy("Edits, applies, stops and starts."),
            frozenset({Right.VIEW, Right.CERTIFICATES, Right.APPLY}),
        ),
        Role(
            "exporter",
            gettext_lazy("Key exporter"),
            gettext_lazy("Downloads exports with private keys, after entering the password again."),
            frozenset({Right.VIEW, Right.EXPORT}),
        ),
        Role(
            "owner",
            gettext_lazy("Owner"),
            gettext_lazy("Everything, members and settings too."),
            frozenset(Right),
        ),
    )
}

WHAT = {
    Right.VIEW: gettext_lazy("see this"),
    Right.CERTIFICATES: gettext_lazy("change certificates and pins here"),
    Right.APPLY: gettext_lazy("apply, stop or start here"),
    Right.APPROVE: gettext_lazy("approve here"),
    Right.EXPORT: gettext_lazy("download keys here"),
    Right.OWN: gettext_lazy("change members and settings here"),
}


class NotAllowed(PermissionDenied):
    """May see it, may not do this; the sentence says who may."""


def rights_of(memberships: Any) -> frozenset[Right]:
    """The union of the rights of these memberships' roles; a role that this release does not know gives none."""
    return frozenset(right for m in memberships if m.role in ROLES for right in ROLES[m.role].rights)


def get_application(person: Any, slug: str, *, to: Right = Right.VIEW) -> Application:
    """The application, if this person may; `rights` on it are those in the application as a whole.

    Someone who is a member of single environments only may view it, and sees those environments.
    """
    application = Application.objects.filter(slug=slug, archived_at=None).first()
    if application is None:
        raise Http404
    if person.is_superuser:
        application.rights = frozenset(Right)
        return application
    memberships = list(Membership.objects.filter(person=person, application=application))
    if not memberships:
        raise Http404
    rights = rights_of(m for m in memberships if m.environment_id is None) | {Right.VIEW}
    application.rights = rights
    if to not in rights:
        _refuse(person, application, to)
    return application


def get_environment(
    person: Any, application: str, environment: str, *, to: Right = Right.VIEW, archived: bool = False
) -> Environment:
    """The environment with its application, if this person may; `rights` on it say what else they may do.

    An archived environment can be seen, and changed by nobody. Only what brings it back, which its owners may, fetches
    with `to=Right.OWN, archived=True`; OWN among the `rights` of an archived environment says that they may do that.
    """
    environments = Environment.objects.select_related("application").filter(
        application__slug=application, slug=environment, application__archived_at=None
    )
    if not person.is_superuser:
        # The place and the roles in one query, which every page of an environment asks: a row for each role.
        theirs = FilteredRelation("application__memberships", condition=Q(application__memberships__person=person))
        environments = environments.annotate(theirs=theirs, role=F("theirs__role"), place=F("theirs__environment"))
    rows: list[Any] = list(environments)
    if not rows:
        raise Http404
    found: Environment = rows[0]
    rights = (
        frozenset(Right) if person.is_superuser else rights_of(row for row in rows if row.place in (None, found.pk))
    )
    if Right.VIEW not in rights:
        raise Http404
    found.rights = rights
    if to not in rights:
        _refuse(person, found, to)
    if found.archived_at is not None:
        found.rights = rights & {Right.VIEW, Right.OWN}
        if to != Right.VIEW and not (archived and to == Right.OWN):
            raise NotAllowed(_("This environment is archived; bring it back under Settings before changing it."))
    return found


def visible_environments(person: Any) -> QuerySet[Environment]:
    """Environments that this person may see, archived ones too."""
    environments = Environment.objects.select_related("application").filter(application__archived_at=None)
    if person.is_superuser:
        return environments
    return environments.filter(
        Q(application__memberships__person=person, application__memberships__environment=None)
        | Q(memberships__person=person)
    ).distinct()


def environments_to(right: Right, person: Any) -> QuerySet[Environment]:
    """Environments in which this person has the right, archived ones left out."""
    environments = Environment.objects.select_related("application").filter(
        application__archived_at=None, archived_at=None
    )
    if person.is_superuser:
        return environments
    kinds = [role.kind for role in ROLES.values() if right in role.rights]
    everywhere = Q(
        application__memberships__person=person,
        application__memberships__environment=None,
        application__memberships__role__in=kinds,
    )
    return environments.filter(everywhere | Q(memberships__person=person, memberships__role__in=kinds)).distinct()


def visible_applications(person: Any) -> QuerySet[Application]:
    """Applications that this person may see, each with `environments` narrowed to the visible, unarchived ones."""
    applications = Application.objects.filter(archived_at=None)
    if not person.is_superuser:
        applications = applications.filter(memberships__person=person).distinct()
    return applications.prefetch_related(
        Prefetch("environments", queryset=visible_environments(person).filter(archived_at=None))
    )


def who_may(to: Right, place: Application | Environment) -> list[Person]:
    """The people who have this right here by membership, at most five."""
    kinds = [role.kind for role in ROLES.values() if to in role.rights]
    in_place = Q(memberships__application=place, memberships__environment=None)
    if isinstance(place, Environment):
        in_place = Q(memberships__application=place.application, memberships__environment=None) | Q(
            memberships__environment=place
        )
    return list(
        Person.objects.filter(in_place, memberships__role__in=kinds, is_active=True).distinct().order_by("username")[:5]
    )


def who_may_in(to: Right, environments: Collection[Environment]) -> list[Person]:
    """The people who have this right in any of these by membership, at most five. One query."""
    kinds = [role.kind for role in ROLES.values() if to in role.rights]
    whole = Q(memberships__application__in={one.application_id for one in environments}, memberships__environment=None)
    found = Person.objects.filter(
        whole | Q(memberships__environment__in=[one.pk for one in environments]),
        memberships__role__in=kinds,
        is_active=True,
    )
    return list(found.distinct().order_by("username")[:5])


def people_of(environment: Environment) -> QuerySet[Person]:
    """Everybody active who may see this environment, by name."""
    here = Q(memberships__application=environment.application, memberships__environment=None) | Q(
        memberships__environment=environment
    )
    return Person.objects.filter(here | Q(is_superuser=True), is_active=True).distinct().order_by("username")


def sentence_for(to: Right, place: Application | Environment) -> str:
    """“You may not apply, stop or start here; ask Ada or Grace.”, for pages and disabled buttons."""
    return _("You may not %(what)s; ask %(people)s.") % {"what": WHAT[to], "people": whom_to_ask(who_may(to, place))}


def whom_to_ask(people: Sequence[Person]) -> str:
    """“Ada or Grace”, in the middle of a sentence."""
    names = [str(person) for person in people]
    if not names:
        return _("an installation owner")
    return names[0] if len(names) == 1 else _(" or ").join([", ".join(names[:-1]), names[-1]])


def _refuse(person: Any, place: Application | Environment, to: Right) -> None:
    trail.refused("access.refused", by=person, subject=place, right=str(to))
    raise NotAllowed(sentence_for(to, place))
