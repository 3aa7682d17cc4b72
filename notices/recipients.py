"""Who is told by mail: whoever is responsible first, then those who can renew; owners where there is nobody else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Q

from environments.access import ROLES, Right
from environments.models import Membership, Person
from notices.thresholds import FIRST

ABLE = [role.kind for role in ROLES.values() if Right.CERTIFICATES in role.rights]


@dataclass
class People:
    """The addresses of those who can renew something, by application and by environment; and of installation owners."""

    everywhere: dict[UUID, set[str]] = field(default_factory=dict)
    in_one_place: dict[UUID, set[str]] = field(default_factory=dict)
    owners: set[str] = field(default_factory=set)

    def able_in(self, application: UUID, environment: UUID) -> set[str]:
        found = self.everywhere.get(application, set()) | self.in_one_place.get(environment, set())
        return found or self.owners

    def of(self, application: UUID, environment: UUID, threshold: str, responsible: str) -> set[str]:
        """“Owners of the certificate first, then operators”: the first notice goes to whoever is responsible alone."""
        if responsible and threshold == FIRST:
            return {responsible}
        return self.able_in(application, environment) | ({responsible} if responsible else set())


def people_of(applications: Iterable[UUID]) -> People:
    """Two queries. Who has no address, or may not sign in any more, is not among them."""
    people = People()
    active = Q(person__is_active=True) & ~Q(person__email="")
    rows = Membership.objects.filter(active, application__in=list(applications), role__in=ABLE)
    for application, environment, address in rows.values_list("application", "environment", "person__email"):
        place = people.everywhere if environment is None else people.in_one_place
        place.setdefault(environment or application, set()).add(address)
    owners = Person.objects.filter(is_superuser=True, is_active=True).exclude(email="")
    people.owners = set(owners.values_list("email", flat=True))
    return people
