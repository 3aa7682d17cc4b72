"""What an upload is to the certificate that it follows, and where else that one is used: told, replaced, or let be."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.storage import storages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit.models import Event
from certificates import actions, pkcs12
from certificates.comparison import disagreements
from certificates.facts import facts
from certificates.models import ClientCertificate, Draft, Renewal, Version
from certificates.recognition import KINDS, recognised
from certificates.renewals import used_elsewhere
from environments import actions as environments
from environments.models import Environment, Membership, Person
from environments.refusals import Refused
from tests import pki
from tests.certificates.conftest import error_beside, stored, text_of, upload

pytestmark = pytest.mark.django_db
PARTNER = pki.make_authority("Partner CA")
OTHER = pki.make_authority("Other CA", organization="Other")
KEY = pki.make_key()


# --- What it is -------------------------------------------------------------------------------------------------------


def seen(cn: str = "bank", **how: Any) -> Any:
    """The facts of a certificate, with its chain as a version has it."""
    issued = pki.issue(cn, **{"authority": PARTNER} | how)
    read = facts(issued.certificate_der, issued.chain_der)
    return dataclasses.replace(read, chain=tuple({"sha256": link.sha256} for link in read.chain))


OLD = seen(key=KEY, sans=["a.example.com"])


@pytest.mark.parametrize(
    ("kind", "new"),
    [
        ("same", OLD),
        ("renewal", seen()),
        ("same-key", seen(key=KEY)),
        ("other-issuer", seen(authority=OTHER)),
        ("other-subject", seen("payments", key=KEY)),
        ("other-subject", seen("payments", sans=["A.example.com"])),
        ("other-subject", seen("bank", organization="Somebody Else")),
        ("stranger", seen("payments")),
    ],
)
def test_an_upload_is_recognised_as_what_it_is(kind: str, new: Any):
    assert recognised(OLD, new).kind == kind
    assert kind in KINDS


def test_each_difference_is_found_by_itself():
    found = recognised(OLD, seen("bank", key="rsa-2048", sans=["b.example.com"], authority=OTHER))
    assert [(one.about, one.how) for one in found.differences] == [
        ("issuer", "parts"),
        ("names", "lost"),
        ("key", "kind"),
        ("lifetime", "same-day"),
    ]
    assert found.of("issuer").lost == ("CN=Partner CA", "O=Example Partner")
    assert found.of("names").added == ("b.example.com",)
    assert recognised(OLD, OLD).differences == ()
    sooner = recognised(OLD, seen(sans=["a.example.com", "b.example.com"], not_after=pki.NOW + timedelta(days=300)))
    assert [(one.about, one.how, one.days) for one in sooner.differences[0::2]] == [
        ("names", "added", 0),
        ("lifetime", "earlier", -65),
    ]


def test_the_same_name_written_otherwise_and_another_certificate_under_the_same_name_are_told_apart():
    assert recognised(OLD, seen("BANK")).of("subject").how == "spelling"
    twin = pki.make_authority("Partner CA")
    assert [one.about for one in recognised(OLD, seen(authority=twin, sans=["a.example.com"])).differences] == [
        "key",
        "lifetime",
        "chain",
    ]


@pytest.mark.parametrize(
    ("kinds", "new", "words"),
    [
        (
            ["issuer"],
            seen(authority=OTHER),
            ["its issuer, which changes from CN=Partner CA, O=Example Partner to CN=O"],
        ),
        (["issuer"], seen(), []),
        (["subject", "key"], seen("payments"), ["its subject, which changes", "its public key, which is a new one"]),
        (["key"], seen(key=KEY), []),
        (["thumbprint"], seen(key=KEY), ["its fingerprint, which is another one"]),
        ([], seen("payments", authority=OTHER), []),
    ],
)
def test_what_the_partner_goes_by_and_changes_is_said(kinds: list[str], new: Any, words: list[str]):
    said = disagreements(kinds, OLD, new)
    assert [one.code for one in said] == [f"partner-{kind}" for kind in kinds if words][: len(said)]
    assert len(said) == len(words)
    for one, expected in zip(said, words, strict=True):
        assert expected in one.sentence


# --- Upload -----------------------------------------------------------------------------------------------------------


def read(issued: pki.Issued) -> Any:
    return pkcs12.read(pki.pfx(issued, "secret"), "secret")


@pytest.fixture
def old() -> pki.Issued:
    return pki.issue("bank", authority=PARTNER)


@pytest.fixture
def new() -> pki.Issued:
    return pki.issue("bank", authority=PARTNER, not_after=pki.NOW + timedelta(days=700))


@pytest.fixture
def five(application: Any, environment: Environment, owner: Person, old: pki.Issued) -> list[ClientCertificate]:
    """The same certificate in five environments of two applications, each pinned; the last one is production."""
    orders = environments.create_application(name="Orders", by=owner)
    places = [environment]
    for where, name, production in (
        (application, "Test", False),
        (orders, "Test", False),
        (orders, "Acceptance", False),
    ):
        places.append(environments.create_environment(application=where, name=name, production=production, by=owner))
    places.append(environments.create_environment(application=orders, name="Production", production=True, by=owner))
    found = []
    for number, place in enumerate(places):
        found.append(actions.add(environment=place, name=f"Bank {number}", identity=read(old), by=owner))
        target = actions.read_target(environment=place, text="bank.example.com", never=False)
        # That production has the same as the tests was confirmed when it was pinned.
        actions.pin(environment=place, target=target, certificate=found[-1], confirmed=True, by=owner)
    return found


def preview(client: Client, certificate: ClientCertificate, issued: pki.Issued) -> Any:
    file = upload(pki.pfx(issued, "secret"))
    address = certificate.environment.url("certificate-renew", certificate.pk)
    return client.post(address, {"file": file, "password": "secret"}, follow=True)


def choice(certificate: ClientCertificate, when: str) -> dict[str, str]:
    return {f"place-{certificate.pk}": when}


def in_use(certificate: ClientCertificate) -> tuple[int, int]:
    """The number of the version in use, and of the newest."""
    fresh = ClientCertificate.objects.get(pk=certificate.pk)
    assert fresh.in_use is not None
    return fresh.in_use.number, fresh.versions.count()


def test_one_upload_replaces_it_in_five_places_each_in_its_own_way(signed_in, five, new):
    shown = preview(signed_in, five[0], new)
    words = text_of(shown)
    assert "A renewal: the same subject and issuer, with a new key." in words
    assert "What you replace is also used in 4 other places" in words
    assert words.count("the same certificate") == 4
    assert "Orders / Production · Bank 4 Production" in words, "production is marked"
    address = shown.redirect_chain[-1][0]
    given = choice(five[1], "next") | choice(five[2], "ready") | choice(five[4], "leave") | choice(five[3], "ready")

    done = signed_in.post(address, {"use": "now", **given}, follow=True)

    assert "It is in 4 places now." in text_of(done)
    assert [in_use(one) for one in five] == [(2, 2), (2, 2), (1, 2), (1, 2), (1, 1)]
    renewal = Renewal.objects.get()
    versions = list(renewal.versions.select_related("sealed", "certificate"))
    assert len({one.sealed_id for one in versions}) == 4, "each has a sealed copy of its own"
    assert all(one.sealed.environment_id == one.certificate.environment_id for one in versions)
    events = Event.objects.filter(action="certificate.renewed")
    assert {event.environment_id for event in events} == {str(one.environment_id) for one in five[:4]}
    assert {json.loads(event.body)["details"]["renewal"] for event in events} == {str(renewal.pk)}
    for one in five:
        assert [pin.certificate_id for pin in one.environment.pins.all()] == [one.pk], "pins stay, everywhere"
    assert done.redirect_chain[-1][0] == renewal.get_absolute_url()


def test_nothing_is_replaced_that_nobody_chose(signed_in, five, new):
    address = preview(signed_in, five[0], new).redirect_chain[-1][0]
    done = signed_in.post(address, {"use": "now"}, follow=True)
    assert "Version 2 goes with the next apply." in text_of(done)
    assert [in_use(one) for one in five] == [(2, 2)] + [(1, 1)] * 4
    assert not Renewal.objects.exists()


def test_a_button_sets_every_choice_and_keeps_the_others(signed_in, five, new):
    address = preview(signed_in, five[0], new).redirect_chain[-1][0]
    set_all = signed_in.post(address, {"use": "ready", "everywhere": "next"})
    assert set_all.status_code == 200
    assert not Renewal.objects.exists()
    assert {field.value() for _place, field in set_all.context["form"].rows} == {"next"}
    assert set_all.context["form"]["use"].value() == "ready"


def test_the_page_asks_as_much_for_five_places_as_for_one(signed_in, five, new, owner):
    def asked() -> int:
        address = preview(signed_in, five[0], new).redirect_chain[-1][0]
        with CaptureQueriesContext(connection) as queries:
            assert signed_in.get(address).status_code == 200
        return len(queries)

    with_four = asked()
    for one in five[2:]:
        ClientCertificate.objects.filter(pk=one.pk).update(removed_at=pki.NOW)
    assert asked() == with_four


def test_of_places_one_may_only_see_the_page_says_who_may_and_of_others_nothing(five, new, owner):
    mary = Person.objects.create_user("mary", password="x")
    for one, role in ((five[0], "editor"), (five[1], "editor"), (five[2], "viewer")):
        environment = one.environment
        Membership.objects.create(person=mary, application=environment.application, environment=environment, role=role)
    Membership.objects.create(
        person=Person.objects.create_user("ada", password="x", first_name="Ada"),
        application=five[2].environment.application, role="operator",
    )  # fmt: skip
    client = Client()
    client.force_login(mary)
    shown = preview(client, five[0], new)
    words = text_of(shown)
    assert "What you replace is also used in 2 other places" in words
    assert "1 more that you may not change: Orders / Test. Ask Ada or Grace." in words
    assert "Orders / Production" not in words
    address = shown.redirect_chain[-1][0]
    for foreign in (five[2], five[3], five[4]):
        client.post(address, {"use": "now", **choice(foreign, "next")})
        address = preview(client, five[0], pki.issue("bank", authority=PARTNER)).redirect_chain[-1][0]
    assert [in_use(one)[1] for one in five[1:]] == [1, 1, 1, 1], "what is not offered cannot be chosen"


def test_the_same_key_under_another_name_is_listed_too_and_odd_ones_are_marked(signed_in, owner, five, old, new):
    again = pki.issue("payments", authority=PARTNER, key=old.key, not_after=pki.NOW + timedelta(days=900))
    there = five[1].environment
    actions.add(environment=there, name="Payments", identity=read(again), by=owner)
    words = text_of(preview(signed_in, five[0], new))
    assert "also used in 5 other places" in words
    assert "the same key another subject there" in words


def test_a_place_that_changed_meanwhile_stops_all_of_it_and_leaves_no_copy(signed_in, owner, five, new):
    elsewhere = used_elsewhere(owner, replaced=[five[0].in_use], new=five[0].in_use, of=five[0])
    assert not elsewhere, "what has the new one already is not offered"
    address = preview(signed_in, five[0], new).redirect_chain[-1][0]
    draft_version = signed_in.get(address).context["version"]
    places = used_elsewhere(owner, replaced=[five[0].in_use], new=draft_version, of=five[0]).places
    actions.renew(certificate=five[3], identity=read(pki.issue("bank", authority=PARTNER)), in_use=True, by=owner)
    before, files = stored(), set(storages["vault"].listdir("")[1])
    with pytest.raises(Refused, match=r"Nothing was replaced\. Orders / Acceptance · Bank 3: Somebody changed"):
        actions.renew_with_draft(
            draft=Draft.objects.select_related("sealed", "certificate__in_use", "environment").get(),
            in_use=True, also=dict.fromkeys(places, True), confirmed=True, by=owner,
        )  # fmt: skip
    assert (stored(), set(storages["vault"].listdir("")[1])) == (before, files)


def test_what_the_partner_goes_by_has_to_be_confirmed_here_and_in_each_place(signed_in, owner, five):
    changed = pki.issue("bank", authority=OTHER)
    ClientCertificate.objects.filter(pk=five[1].pk).update(identified_by=["issuer"])
    shown = preview(signed_in, five[0], changed)
    assert "The partner recognises us by its issuer, which changes from CN=Partner CA" in text_of(shown)
    address = shown.redirect_chain[-1][0]
    asked = signed_in.post(address, {"use": "now", **choice(five[1], "ready")})
    assert "tick the box" in error_beside(asked, "confirmed")
    assert 'value="ready" selected' in asked.content.decode(), "what was chosen stays"
    assert in_use(five[0]) == (1, 1)
    signed_in.post(address, {"use": "now", **choice(five[2], "next")})
    assert in_use(five[2]) == (2, 2), "where nobody goes by it, there is nothing to confirm"

    ClientCertificate.objects.filter(pk=five[3].pk).update(identified_by=["issuer"])
    own = preview(signed_in, five[3], changed)
    assert "1 warning The partner recognises us by its issuer" in text_of(own)
    refused = signed_in.post(own.redirect_chain[-1][0], {"use": "now"})
    assert "tick the box" in error_beside(refused, "confirmed")
    signed_in.post(own.redirect_chain[-1][0], {"use": "now", "confirmed": "on"})
    assert in_use(five[3]) == (2, 2)


def test_a_key_that_would_be_in_production_and_outside_it_has_to_be_confirmed_from_either_side(signed_in, five, new):
    test, production = five[0], five[4]
    for of, there, words in (
        (test, production, "This is production, and the new key goes to Invoicing / Acceptance too"),
        (production, test, "This key is production’s (Orders / Production); what is not production needs its own."),
    ):
        shown = preview(signed_in, of, new)
        assert words in text_of(shown)
        asked = signed_in.post(shown.redirect_chain[-1][0], {"use": "now", **choice(there, "ready")})
        assert "tick the box" in error_beside(asked, "confirmed")
    assert not Renewal.objects.exists()
    same_side = preview(signed_in, test, new).redirect_chain[-1][0]
    signed_in.post(same_side, {"use": "now", **choice(five[1], "next")})
    assert in_use(five[1]) == (2, 2), "between tests there is nothing to confirm"


def test_an_upload_for_the_wrong_certificate_can_be_made_the_renewal_of_the_right_one(
    signed_in, at, environment, add_certificate, owner, new
):
    wrong = add_certificate("Tax", cn="tax")
    right = actions.add(
        environment=environment, name="Bank", identity=read(pki.issue("bank", authority=PARTNER)), by=owner
    )
    shown = preview(signed_in, wrong, new)
    assert "This hardly is a renewal of this certificate" in text_of(shown)
    assert "This does not look like a renewal of Tax. It has the subject of Bank." in text_of(shown)
    address = shown.redirect_chain[-1][0]
    elsewhere = environments.create_environment(application=environment.application, name="Test", by=owner)
    foreign = actions.add(environment=elsewhere, name="Bank", identity=read(new), by=owner)
    for wrong_one in (foreign.pk, "nonsense"):
        assert signed_in.post(address, {"instead": wrong_one}).status_code == 404
    turned = signed_in.post(address, {"instead": right.pk}, follow=True)
    assert "Bank: old beside new" in text_of(turned)
    signed_in.post(address, {"use": "now"})
    assert (in_use(right), in_use(wrong)) == ((2, 2), (1, 1))


def test_a_new_upload_says_of_which_certificate_it_is_the_renewal(signed_in, at, add_certificate, make_file):
    right = add_certificate("Bank", cn="client.example.com")
    given = {"file": upload(make_file()), "password": "secret"}
    shown = signed_in.post(at("certificate-new"), given, follow=True)
    assert "It has the subject of Bank." in text_of(shown)
    turned = signed_in.post(shown.redirect_chain[-1][0], {"instead": right.pk}, follow=True)
    assert "Bank: old beside new" in text_of(turned)


# --- Later ------------------------------------------------------------------------------------------------------------


def test_what_was_left_behind_is_replaced_later_from_the_certificates_page(signed_in, owner, five, new):
    actions.renew(certificate=five[0], identity=read(new), in_use=True, by=owner)
    page = text_of(signed_in.get(five[0].get_absolute_url()))
    assert "4 other places still use what version 2 replaces." in page
    address = five[0].environment.url("certificate-elsewhere", five[0].pk)
    assert "Choose at least one place." in text_of(signed_in.post(address, {}))
    signed_in.post(address, choice(five[1], "next") | choice(five[4], "ready") | {"confirmed": "on"})
    assert [in_use(one) for one in five] == [(2, 2), (2, 2), (1, 1), (1, 1), (1, 2)]
    event = Event.objects.get(action="key.opened")
    assert "it replaces its predecessor elsewhere, too" in event.body
    first = Renewal.objects.get()
    signed_in.post(address, choice(five[2], "next"))
    assert first.versions.count() == 4, "one worklist for what belongs together"
    assert "1 other place still uses what version 2 replaces." in text_of(signed_in.get(five[0].get_absolute_url()))


def test_a_key_is_not_brought_to_where_one_could_download_it_and_may_not_here(owner, five, new):
    """Else an editor of production would get its key by way of an environment of their own."""
    actions.renew(certificate=five[4], identity=read(new), in_use=True, by=owner)
    eve, client = Person.objects.create_user("eve", password="x"), Client()
    client.force_login(eve)
    for one, role in ((five[4], "editor"), (five[0], "owner"), (five[1], "editor")):
        place = one.environment
        Membership.objects.create(person=eve, application=place.application, environment=place, role=role)
    address = five[4].environment.url("certificate-elsewhere", five[4].pk)
    page = client.get(address)
    assert "In Invoicing / Acceptance you may download keys, and here you may not" in text_of(page)
    assert [str(place.certificate) for place in page.context["elsewhere"].places] == ["Bank 1"]
    client.post(address, choice(five[0], "next") | choice(five[1], "next") | {"confirmed": "on"})
    assert [in_use(one)[1] for one in five] == [1, 2, 1, 1, 2]


@pytest.mark.parametrize("role", ["viewer", "exporter"])
def test_who_may_not_change_certificates_replaces_nothing(person_with: Callable[[str], Client], role, owner, five, new):
    actions.renew(certificate=five[0], identity=read(new), in_use=True, by=owner)
    client = person_with(role)
    address = five[0].environment.url("certificate-elsewhere", five[0].pk)
    assert client.post(address, choice(five[1], "next")).status_code == 403
    assert "still use" not in text_of(client.get(five[0].get_absolute_url()))
    stranger = Client()
    stranger.force_login(Person.objects.create_user("stranger", password="x"))
    assert stranger.post(address, choice(five[1], "next")).status_code == 404
    assert Version.objects.filter(number=2).count() == 1
