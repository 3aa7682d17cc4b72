"""Somebody can always sign in and manage."""

from __future__ import annotations

import pytest

from environments import actions
from environments.models import Person
from portal import first_owner

pytestmark = pytest.mark.django_db


def test_the_first_start_makes_an_owner_and_a_lost_password_is_made_anew() -> None:
    name, password = first_owner.ensure()
    assert (name, bool(password)) == ("owner", True)
    again, another = first_owner.ensure()
    assert again == "owner"
    assert another not in (None, password)
    assert Person.objects.get().check_password(another)


def test_where_no_owner_can_sign_in_and_the_name_is_taken_the_next_free_one_is_made(owner: Person) -> None:
    for name in ("Owner", "owner-2"):
        actions.create_person(username=name, owner=True, by=None)
    Person.objects.update(is_active=False)

    name, password = first_owner.ensure()

    made = Person.objects.get(username=name)
    assert name == "owner-3"
    assert made.check_password(password)
    assert made.is_superuser
    # Its line of output may be lost as well.
    assert first_owner.ensure()[0] == "owner-3"
    assert not Person.objects.get(pk=made.pk).check_password(password)


def test_an_owner_who_signed_in_keeps_the_password(owner: Person) -> None:
    assert first_owner.ensure() == ("grace", None)
    owner.refresh_from_db()
    assert owner.must_change_password is False
