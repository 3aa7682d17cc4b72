"""Public authorities that stop issuing certificates for clients: a list that owners keep, a note on certificates."""

from __future__ import annotations

from datetime import date

import pytest
from django.test import Client

from audit.models import Event
from certificates import actions, pkcs12
from certificates.models import PublicAuthority
from tests import pki
from tests.certificates.conftest import error_beside, text_of, upload

pytestmark = pytest.mark.django_db


def listed(**more) -> PublicAuthority:
    given = {
        "name": "Example",
        "organisation": "Example Trust",
        "stops_on": date(2099, 3, 1),
        "source": "https://e.example/",
    }
    return PublicAuthority.objects.create(**given | more)


def preview_of(client: Client, at, usages=("clientAuth",), organisation: str = "Example Trust Inc") -> str:
    authority = pki.make_authority("Example CA", organization=organisation)
    file = pki.pfx(pki.issue("client", authority=authority, eku=usages), "secret")
    return text_of(client.post(at("certificate-new"), {"file": upload(file), "password": "secret"}, follow=True))


def test_a_certificate_of_an_authority_that_stops_says_so_with_the_day_and_the_source(signed_in, at):
    listed()
    page = preview_of(signed_in, at)
    assert "Example stops issuing public certificates for clients on 1 Mar 2099" in page
    assert "Source" in page


def test_one_that_has_stopped_is_told_of_in_the_past(signed_in, at):
    listed(stops_on=date(2020, 1, 2))
    assert "Example has issued no public certificates for clients since 2 Jan 2020" in preview_of(signed_in, at)


def test_other_authorities_and_other_uses_are_left_alone(signed_in, at):
    listed()
    assert "public certificates for clients" not in preview_of(signed_in, at, organisation="Somebody Else")
    assert "public certificates for clients" not in preview_of(signed_in, at, usages=("serverAuth",))


def test_the_note_stands_on_the_certificates_page_and_follows_the_list(signed_in, environment, owner):
    authority = pki.make_authority("Example CA", organization="Example Trust")
    identity = pkcs12.read(pki.pfx(pki.issue("client", authority=authority), "secret"), "secret")
    certificate = actions.add(environment=environment, name="Bank", identity=identity, by=owner)
    assert "public certificates for clients" not in text_of(signed_in.get(certificate.get_absolute_url()))
    row = listed()
    assert "on 1 Mar 2099" in text_of(signed_in.get(certificate.get_absolute_url()))
    actions.save_authority(
        authority=row,
        name="Example",
        organisation="Example Trust",
        stops_on=date(2098, 1, 1),
        source=row.source,
        by=owner,
    )
    assert "on 1 Jan 2098" in text_of(signed_in.get(certificate.get_absolute_url()))


def test_a_new_installation_knows_those_that_have_announced_it(signed_in):
    page = text_of(signed_in.get("/authorities/"))
    for words in ("DigiCert", "1 Mar 2027", "Sectigo", "10 Feb 2027", "Let's Encrypt", "8 Jul 2026"):
        assert words in page


def test_owners_keep_the_list(signed_in):
    given = {"name": "Moved", "organisation": "Moved CA", "stops_on": "2027-09-01", "source": "https://moved.example/n"}
    assert "Saved Moved." in text_of(signed_in.post("/authorities/new/", given, follow=True))
    row = PublicAuthority.objects.get(name="Moved")
    assert 'value="2027-09-01"' in signed_in.get(f"/authorities/{row.pk}/").content.decode()
    signed_in.post(f"/authorities/{row.pk}/", given | {"stops_on": "2028-09-01"})
    row.refresh_from_db()
    assert row.stops_on == date(2028, 9, 1)
    signed_in.post(f"/authorities/{row.pk}/remove/")
    assert not PublicAuthority.objects.filter(name="Moved").exists()
    done = list(Event.objects.filter(action__startswith="authority.").order_by("id").values_list("action", flat=True))
    assert done == ["authority.added", "authority.changed", "authority.removed"]


@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        ({"name": "DigiCert"}, "name", "“DigiCert” is already on the list"),
        ({"organisation": ""}, "organisation", "Type the organisation"),
        ({"stops_on": "soon"}, "stops_on", "Type the day like 2027-03-01."),
        ({"source": "somewhere"}, "source", "Type a whole address"),
        ({"source": "javascript:alert(1)"}, "source", "Type a whole address"),
    ],
)
def test_what_cannot_stand_on_the_list_is_refused_beside_its_field(wrong, field, words, signed_in):
    given = {"name": "New", "organisation": "New CA", "stops_on": "2027-09-01", "source": "https://new.example/"}
    answer = signed_in.post("/authorities/new/", given | wrong)
    assert answer.status_code == 422
    assert words in error_beside(answer, field)
    assert PublicAuthority.objects.count() == 3


def test_others_read_the_list_and_do_not_change_it(person_with):
    client = person_with("editor")
    page = text_of(client.get("/authorities/"))
    assert "DigiCert" in page
    assert "Add an authority" not in page
    for address in ("/authorities/new/", "/authorities/1/"):
        assert client.get(address).status_code == 403
    assert client.post("/authorities/1/remove/").status_code == 403
    assert PublicAuthority.objects.count() == 3
