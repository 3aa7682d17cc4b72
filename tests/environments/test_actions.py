"""What has to hold whatever two people do at once: somebody can still manage."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from environments import actions
from environments.models import Application, Membership, Person
from environments.refusals import Refused

pytestmark = pytest.mark.django_db


def test_the_last_installation_owner_cannot_be_locked_out_whoever_asks(owner: Person, ada: Person) -> None:
    other, _password = actions.create_person(username="linus", owner=True, by=owner)
    # Both locked one another out at once: Linus was an owner when his request began, and is none any more.
    actions.set_active(person=other, active=False, by=owner)
    with pytest.raises(Refused, match="last installation owner who can sign in"):
        actions.set_active(person=owner, active=False, by=other)
    owner.refresh_from_db()
    assert owner.is_active
    actions.set_active(person=ada, active=False, by=owner)  # no owner, so no reason to stay
    actions.set_active(person=other, active=True, by=owner)
    actions.set_active(person=owner, active=False, by=other)
    owner.refresh_from_db()
    assert not owner.is_active


def test_locking_out_somebody_who_is_locked_out_harms_nobody(owner: Person) -> None:
    other, _password = actions.create_person(username="linus", owner=True, by=owner)
    for _twice in range(2):
        actions.set_active(person=other, active=False, by=owner)


def test_owners_who_remove_one_another_wait_for_the_application(
    application: Application, owner: Person, ada: Person
) -> None:
    """On PostgreSQL the first statement locks the row (SQLite has one writer at a time); the count comes after it."""
    actions.add_member(application=application, person=ada, role="owner", by=owner)
    hers = Membership.objects.select_related("application", "person").get(person=owner)
    with CaptureQueriesContext(connection) as asked:
        actions.remove_member(membership=hers, by=ada)
    first = next(query["sql"] for query in asked if "SELECT" in query["sql"])
    assert 'FROM "environments_application"' in first
    with pytest.raises(Refused, match="last owner"):
        actions.remove_member(membership=Membership.objects.get(person=ada), by=owner)
