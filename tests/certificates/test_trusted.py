"""Trusted authorities: added, listed, exported, removed, undone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from certificates import actions, current
from certificates.intake import Upload
from certificates.models import TrustedAuthority
from environments.models import Environment, Person
from environments.refusals import Refused
from rollouts import actions as rollouts
from rollouts.standing import standing
from tests import pki

pytestmark = pytest.mark.django_db(transaction=True)


def trust(environment: Environment, pem: bytes, by: Person) -> list[TrustedAuthority]:
    found = actions.read_authorities(environment=environment, files=[Upload("ca.pem", pem)])
    return actions.trust(environment=environment, authorities=found, by=by)


@pytest.fixture
def browser(client: Client, owner: Person) -> Client:
    client.force_login(owner)
    return client


def test_a_file_with_several_becomes_several(environment: Environment, owner: Person) -> None:
    root = pki.make_authority("Root")
    below = pki.make_authority("Issuing", authority=root)
    added = trust(environment, below.certificate_pem, owner)
    assert [(one.name, one.self_signed, one.warnings) for one in added] == [
        ("Issuing", False, []),
        ("Root", True, []),
    ]
    assert sorted(current.content(environment).authorities) == sorted(one.sha256 for one in added)


def test_the_page_shows_what_it_read_before_it_adds_it(browser: Client, environment: Environment) -> None:
    authority = pki.make_authority("Partner Server CA")
    address = environment.url("trusted-new")
    page = browser.post(address, {"text": authority.certificate_pem.decode()}).content.decode()
    assert "Partner Server CA" in page
    assert "Compare its fingerprint" in page
    assert not environment.authorities.exists()
    answer = browser.post(address, {"text": authority.certificate_pem.decode(), "add": "yes"}, follow=True)
    shown = answer.content.decode()
    assert "Added Partner Server CA." in shown
    assert standing(environment).count == 1
    details = browser.get(environment.authorities.get().get_absolute_url()).content.decode()
    assert "-----BEGIN CERTIFICATE-----" in details


def test_what_is_no_authority_has_to_be_confirmed(browser: Client, environment: Environment) -> None:
    server = pki.issue("api.example.com", not_after=pki.NOW - pki.timedelta(hours=1))
    sent = {"text": server.certificate_pem.decode(), "add": "yes"}
    address = environment.url("trusted-new")
    refused = browser.post(address, sent)
    assert refused.status_code == 422
    page = refused.content.decode()
    assert "It is not marked as an authority" in page
    assert "It expired on" in page
    assert "Read the warnings and confirm them; nothing was added." in page
    assert not environment.authorities.exists()
    browser.post(address, sent | {"confirmed": "on"})
    assert [w["code"] for w in environment.authorities.get().warnings] == ["no_authority"]
    assert standing(environment).certificates.text == "1 expired"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "paste it"),
        (b"hello", "There is no certificate in this file"),
        (pki.issue("x").key_pem, "may hold a private key"),
    ],
)
def test_other_texts_are_refused_in_words(browser: Client, environment: Environment, content: bytes, part: str) -> None:
    answer = browser.post(environment.url("trusted-new"), {"text": content.decode(), "add": "yes"})
    assert answer.status_code == 422
    assert part in answer.content.decode()
    assert not environment.authorities.exists()


def test_a_private_key_is_refused_with_the_reason(environment: Environment, owner: Person) -> None:
    issued = pki.make_authority("CA")
    for file in (issued.key_pem + issued.certificate_pem, pki.pfx(issued)):
        with pytest.raises(Refused, match="may hold a private key"):
            actions.read_authorities(environment=environment, files=[Upload("ca", file)])


def test_adding_twice_is_refused_and_removing_and_adding_is_no_change(environment: Environment, owner: Person) -> None:
    pem = pki.make_authority("CA").certificate_pem
    (authority,) = trust(environment, pem, owner)
    before = current.content(environment).digest
    with pytest.raises(Refused, match="trusted here already"):
        trust(environment, pem, owner)
    actions.distrust(authority=authority, by=owner)
    assert current.content(environment).authorities == ()
    with pytest.raises(Refused, match="was removed already"):
        actions.distrust(authority=authority, by=owner)
    trust(environment, pem, owner)
    assert current.content(environment).digest == before


def test_an_apply_delivers_it_and_undoing_brings_back_what_runs(
    environment: Environment, owner: Person, running_app: Any, apply: Any, place: dict[str, Any], browser: Client
) -> None:
    first = pki.make_authority("First CA")
    (one,) = trust(environment, first.certificate_pem, owner)
    assert apply().state == "verified"
    folder = place["apps"] / "tiny" / "current"
    settings = json.loads((folder / "custom-settings.json").read_text())
    assert settings["CACertificates"].endswith(f"/authorities/ca-{one.sha256[:16]}.pem")
    assert (folder / "authorities" / f"ca-{one.sha256[:16]}.pem").read_bytes() == first.certificate_pem
    actions.distrust(authority=one, by=owner)
    trust(environment, pki.make_authority("Second CA").certificate_pem, owner)
    page = browser.get(environment.url("changes")).content.decode()
    assert "First CA" in page
    assert "Second CA" in page
    assert "not trusted" in page
    shown = current.content(environment).digest
    rollouts.undo_changes(environment=environment, shown=shown, by=owner)
    assert list(environment.authorities.filter(removed_at=None).values_list("name", flat=True)) == ["First CA"]
    assert standing(environment).count == 0


def test_a_reader_sees_the_list_and_cannot_change_it(client: Client, environment: Environment, owner: Person) -> None:
    from environments import actions as environments

    (authority,) = trust(environment, pki.make_authority("CA").certificate_pem, owner)
    ada = Person.objects.create_user("ada")
    environments.add_member(application=environment.application, person=ada, role="viewer", by=owner)
    client.force_login(ada)
    assert "CA" in client.get(environment.url("network")).content.decode()
    assert client.get(authority.get_absolute_url()).status_code == 200
    assert client.post(environment.url("trusted-remove", authority.pk)).status_code == 403
    assert client.post(environment.url("trusted-new"), {"text": "x"}).status_code == 403
    assert environment.authorities.get().removed_at is None


def test_its_expiry_is_shown(browser: Client, environment: Environment, owner: Person) -> None:
    soon = timezone.now() + pki.timedelta(days=10)
    trust(environment, pki.make_authority("Old CA", not_after=soon.replace(microsecond=0)).certificate_pem, owner)
    assert standing(environment).certificates.text == "1 expiring"
    assert "Expiring" in browser.get(environment.url("network")).content.decode()
