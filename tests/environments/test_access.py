"""Who may do what, and where; to an environment that is archived nobody but see it and bring it back."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import Http404
from django.test import Client

from environments import actions
from environments.access import NotAllowed, Right, get_environment
from environments.models import Environment, Person
from rollouts.models import Destination

pytestmark = pytest.mark.django_db


@pytest.fixture
def archived(environment: Environment, owner: Person) -> Environment:
    actions.archive_environment(environment=environment, by=owner)
    return environment


def signed_in(person: Person) -> Client:
    client = Client()
    client.force_login(person)
    return client


@pytest.mark.parametrize("right", [right for right in Right if right is not Right.VIEW])
def test_an_archived_environment_is_changed_by_nobody(archived: Environment, owner: Person, right: Right) -> None:
    with pytest.raises(NotAllowed, match="This environment is archived"):
        get_environment(owner, "invoicing", "acceptance", to=right)


def test_what_is_left_of_the_rights_in_an_archived_environment_is_to_see_it_and_bring_it_back(
    archived: Environment, owner: Person, member: Any, ada: Person
) -> None:
    assert get_environment(owner, "invoicing", "acceptance").rights == {Right.VIEW, Right.OWN}
    assert Right.OWN in get_environment(owner, "invoicing", "acceptance", to=Right.OWN, archived=True).rights
    member("operator")
    assert get_environment(ada, "invoicing", "acceptance").rights == {Right.VIEW}
    with pytest.raises(NotAllowed, match="ask Grace"):
        get_environment(ada, "invoicing", "acceptance", to=Right.OWN, archived=True)
    with pytest.raises(NotAllowed, match="This environment is archived"):
        get_environment(owner, "invoicing", "acceptance", to=Right.APPLY, archived=True)


def test_the_settings_of_an_archived_environment_offer_to_bring_it_back_and_nothing_else(
    archived: Environment, owner: Person, place: dict[str, Any]
) -> None:
    client, settings = signed_in(owner), archived.url("environment-settings")
    page = client.get(settings).content.decode().partition("<main")[2]
    assert archived.url("environment-bring-back") in page
    assert page.count("<form") == 1
    before = Environment.objects.values().get()
    assert client.post(settings, {"form": "place", "place": "tiny"}).status_code == 403
    answer = client.post(settings, {"form": "environment", "name": "Other"})
    assert answer.status_code == 403
    assert "bring it back under Settings" in answer.content.decode()
    assert client.get(archived.url("environment-archive")).status_code == 403
    assert client.post(archived.url("environment-archive")).status_code == 403
    assert Environment.objects.values().get() == before
    assert not Destination.objects.exists()
    assert client.post(archived.url("environment-bring-back")).status_code == 302
    assert client.post(settings, {"form": "environment", "name": "Other"}).status_code == 302


def test_a_role_counts_in_its_own_place_only_and_several_add_up(
    application: Any, environment: Environment, owner: Person, ada: Person
) -> None:
    other = actions.create_environment(application=application, name="Production", by=owner)
    elsewhere = actions.create_application(name="Payroll", by=owner)
    actions.create_environment(application=elsewhere, name="Acceptance", by=owner)

    def give(role: str, **where: Any) -> None:
        actions.add_member(person=ada, role=role, by=owner, **({"application": application} | where))

    give("operator", environment=other)
    give("owner", application=elsewhere)
    with pytest.raises(Http404):
        get_environment(ada, "invoicing", "acceptance")
    assert get_environment(ada, "invoicing", "production").rights == {Right.VIEW, Right.CERTIFICATES, Right.APPLY}
    give("viewer")
    assert get_environment(ada, "invoicing", "acceptance").rights == {Right.VIEW}
    give("exporter", environment=environment)
    assert get_environment(ada, "invoicing", "acceptance").rights == {Right.VIEW, Right.EXPORT}
    with pytest.raises(NotAllowed):
        get_environment(ada, "invoicing", "acceptance", to=Right.APPLY)
