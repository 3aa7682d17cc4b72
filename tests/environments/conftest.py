from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from environments import actions
from environments.models import Application, Person


@pytest.fixture
def ada(db: None) -> Person:
    """A person who is a member of nothing."""
    return Person.objects.create_user("ada", password="correct horse battery staple", first_name="Ada")


@pytest.fixture
def member(application: Application, ada: Person, owner: Person) -> Any:
    """Gives Ada a role; returns a client in which she is signed in."""

    def member(role: str, environment: Any = None) -> Client:
        actions.add_member(application=application, person=ada, role=role, environment=environment, by=owner)
        return signed_in(ada)

    return member


def signed_in(person: Person) -> Client:
    client = Client()
    client.force_login(person)
    return client
