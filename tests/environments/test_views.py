"""Applications, members and people, as their pages set them up."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from audit.models import Event
from environments import actions
from environments.models import Application, Environment, Membership, Person

pytestmark = pytest.mark.django_db


def signed_in(person: Person) -> Client:
    client = Client()
    client.force_login(person)
    return client


def test_only_installation_owners_create_applications(ada: Person) -> None:
    answer = signed_in(ada).post("/apps/new/", {"name": "Customs gateway"})
    assert answer.status_code == 403
    assert "Only installation owners do this" in answer.content.decode()
    assert "/apps/new/" not in signed_in(ada).get("/").content.decode()
    assert not Application.objects.exists()


def test_a_new_application_belongs_to_whoever_created_it(owner: Person) -> None:
    answer = signed_in(owner).post("/apps/new/", {"name": "Customs gateway"}, follow=True)
    assert answer.redirect_chain == [("/apps/customs-gateway/", 302)]
    assert "Created Customs gateway. You are its owner." in answer.content.decode()
    assert Membership.objects.get(application__slug="customs-gateway").person == owner


def test_a_name_that_exists_is_refused_beside_the_field_and_stays_typed(
    application: Application, owner: Person
) -> None:
    answer = signed_in(owner).post("/apps/new/", {"name": "INVOICING", "slug": "another"})
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "There is already an application with this name; choose another." in page
    assert 'value="INVOICING"' in page
    assert 'value="another"' in page
    assert Application.objects.count() == 1


def test_renaming_keeps_the_address(application: Application, owner: Person) -> None:
    signed_in(owner).post("/apps/invoicing/settings/", {"name": "Invoices"})
    application.refresh_from_db()
    assert (application.name, application.slug) == ("Invoices", "invoicing")


def test_a_refused_name_does_not_reach_the_heading(application: Application, owner: Person) -> None:
    actions.create_application(name="Customs", by=owner)
    answer = signed_in(owner).post("/apps/invoicing/settings/", {"name": "customs"})
    assert answer.status_code == 422
    assert "Rename Invoicing</h1>" in answer.content.decode()


def test_a_member_is_added_by_the_name_they_sign_in_with_in_any_case(
    application: Application, environment: Environment, owner: Person, ada: Person
) -> None:
    client = signed_in(owner)
    client.post("/apps/invoicing/members/", {"person": "ADA", "environment": "all", "role": "viewer"})
    client.post("/apps/invoicing/members/", {"person": "ada", "environment": str(environment.pk), "role": "operator"})
    roles = set(Membership.objects.filter(person=ada).values_list("role", "environment"))
    assert roles == {("viewer", None), ("operator", environment.pk)}
    page = client.get("/apps/invoicing/members/").content.decode()
    assert "Edits, applies, stops and starts." in page


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"person": "nobody"}, "Nobody signs in with this name"),
        ({"person": "ada", "role": "king"}, "Select a valid choice"),
        ({"person": "ada", "environment": "not-here"}, "Select a valid choice"),
        ({"person": ""}, "Type the name that the person signs in with."),
    ],
)
def test_a_member_who_cannot_be_is_refused_with_a_sentence(
    application: Application, owner: Person, ada: Person, typed: dict[str, str], sentence: str
) -> None:
    answer = signed_in(owner).post("/apps/invoicing/members/", {"environment": "all", "role": "viewer"} | typed)
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert not Membership.objects.filter(person=ada).exists()


def test_an_environment_of_another_application_is_no_choice(
    application: Application, environment: Environment, owner: Person, ada: Person
) -> None:
    other = actions.create_application(name="Other", by=owner)
    elsewhere = actions.create_environment(application=other, name="Test", by=owner)
    typed = {"person": "ada", "environment": str(elsewhere.pk), "role": "viewer"}
    assert signed_in(owner).post("/apps/invoicing/members/", typed).status_code == 422


def test_the_last_owner_cannot_be_removed(application: Application, owner: Person) -> None:
    membership = Membership.objects.get(person=owner)
    answer = signed_in(owner).post(f"/apps/invoicing/members/{membership.pk}/remove/", follow=True)
    assert "This is the last owner; give somebody else this role first." in answer.content.decode()
    assert Membership.objects.filter(pk=membership.pk).exists()


def test_a_membership_is_removed_only_through_its_own_application(application: Application, owner: Person) -> None:
    other = actions.create_application(name="Other", by=owner)
    membership = Membership.objects.get(application=other)
    assert signed_in(owner).post(f"/apps/invoicing/members/{membership.pk}/remove/").status_code == 404


def test_whoever_removes_themselves_arrives_at_home(application: Application, ada: Person, owner: Person) -> None:
    membership = actions.add_member(application=application, person=ada, role="owner", by=owner)
    answer = signed_in(ada).post(f"/apps/invoicing/members/{membership.pk}/remove/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")


def test_a_viewer_sees_members_and_changes_none(member: Any, application: Application) -> None:
    client = member("viewer")
    page = client.get("/apps/invoicing/members/").content.decode()
    assert "You may not change members and settings here; ask Grace." in page
    assert "Add member" not in page
    typed = {"person": "ada", "environment": "all", "role": "owner"}
    assert client.post("/apps/invoicing/members/", typed).status_code == 403
    assert Event.objects.filter(action="access.refused", refused=True, actor="ada").exists()
    assert not Membership.objects.filter(role="owner", person__username="ada").exists()


def test_a_member_of_one_environment_does_not_learn_of_the_others(
    member: Any, application: Application, environment: Environment, owner: Person
) -> None:
    secret = actions.create_environment(application=application, name="Secret production", by=owner)
    actions.add_member(application=application, person=owner, role="exporter", environment=secret, by=owner)
    client = member("viewer", environment)
    for address in ("/", "/apps/invoicing/", "/apps/invoicing/members/", "/audit/"):
        assert "Secret production" not in client.get(address).content.decode(), address


@pytest.mark.parametrize("address", ["/apps/invoicing/", "/apps/invoicing/members/", "/apps/invoicing/settings/"])
def test_a_stranger_gets_a_404(application: Application, ada: Person, address: str) -> None:
    assert signed_in(ada).get(address).status_code == 404


@pytest.mark.parametrize("address", ["/people/", "/people/new/"])
def test_people_are_for_installation_owners(ada: Person, address: str) -> None:
    answer = signed_in(ada).get(address)
    assert answer.status_code == 403
    assert "Only installation owners" in answer.content.decode()


def test_a_new_persons_one_time_password_is_shown_once_and_kept_nowhere(owner: Person) -> None:
    client = signed_in(owner)
    answer = client.post("/people/new/", {"username": "linus", "full_name": "Linus"})
    found = re.search(r'id="one-time-password">([a-z2-9-]{14})<', answer.content.decode())
    assert found
    assert answer.headers["Cache-Control"] == "no-store"
    linus = Person.objects.get(username="linus")
    assert linus.check_password(found[1])
    assert linus.must_change_password
    assert found[1] not in client.get("/people/").content.decode()
    assert not Event.objects.filter(body__contains=found[1]).exists()
    assert not any(found[1] in str(value) for value in client.session.values())


def test_resetting_a_password_ends_the_persons_sessions(owner: Person, ada: Person) -> None:
    hers = signed_in(ada)
    assert hers.get("/").status_code == 200
    page = signed_in(owner).post(f"/people/{ada.pk}/reset/").content.decode()
    assert 'id="one-time-password"' in page
    assert hers.get("/").status_code == 302
    ada.refresh_from_db()
    assert ada.must_change_password


def test_locking_out_holds_from_the_next_request_and_can_be_taken_back(owner: Person, ada: Person) -> None:
    hers, his = signed_in(ada), signed_in(owner)
    his.post(f"/people/{ada.pk}/active/", {"active": "false"})
    assert hers.get("/").status_code == 302
    his.post(f"/people/{ada.pk}/active/", {"active": "true"})
    assert signed_in(ada).get("/").status_code == 200


def test_an_installation_owner_cannot_lock_themselves_out(owner: Person) -> None:
    answer = signed_in(owner).post(f"/people/{owner.pk}/active/", {"active": "false"}, follow=True)
    assert "You cannot lock yourself out" in answer.content.decode()
    owner.refresh_from_db()
    assert owner.is_active


def test_the_people_page_asks_as_much_of_the_database_for_many_as_for_one(
    owner: Person, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        Person.objects.create_user(f"person-{number}")
    client = signed_in(owner)
    with django_assert_max_num_queries(5):
        client.get("/people/")


def test_everybody_says_where_their_own_notices_go_and_owners_where_those_of_others(owner: Person) -> None:
    ada = Person.objects.create_user("ada", password="x")
    client = signed_in(ada)
    refused = client.post("/account/", {"first_name": "Ada", "email": "nowhere"})
    assert refused.status_code == 422
    assert refused.context["form"]["first_name"].value() == "Ada"
    assert client.post("/account/", {"first_name": "Ada", "email": "ada@example.com"}).status_code == 302
    ada.refresh_from_db()
    assert (str(ada), ada.email) == ("Ada", "ada@example.com")
    assert client.post(f"/people/{owner.pk}/", {"email": "ada@example.com"}).status_code == 403
    assert signed_in(owner).post(f"/people/{ada.pk}/", {"first_name": "Ada", "email": ""}).status_code == 302
    ada.refresh_from_db()
    assert ada.email == ""
