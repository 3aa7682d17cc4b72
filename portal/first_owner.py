"""The first installation owner, made when nobody can sign in yet."""

from __future__ import annotations

from audit.actors import PORTAL
from environments import actions
from environments.models import Person

NAME = "owner"


def ensure(*, just_done_elsewhere: bool = False) -> tuple[str, str | None]:
    """The owner's sign-in name, and the one-time password if the account was made just now.

    While the one-time password was never used, nobody knows it but who saw it printed; a new one is made then, so that
    a lost line of output does not lock everybody out; but not if it was `just_done_elsewhere`, where that one is read.
    """
    owners = list(Person.objects.filter(is_superuser=True, is_active=True).order_by("pk")[:2])
    if not owners:
        person, password = actions.create_person(username=_free_name(), full_name="Owner", owner=True, by=PORTAL)
        return person.username, password
    owner = owners[0]
    never_used = owner.must_change_password and owner.last_login is None and len(owners) == 1
    if never_used and not just_done_elsewhere:
        return owner.username, actions.reset_password(person=owner, by=PORTAL)
    return owner.username, None


def _free_name() -> str:
    """`owner`, or the next number behind it: an owner who was locked out keeps the name."""
    name, number = NAME, 2
    while Person.objects.filter(username__iexact=name).exists():
        name, number = f"{NAME}-{number}", number + 1
    return name
