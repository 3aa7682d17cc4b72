"""Will the renewal fail? What is known, for one certificate and for hundreds; on its page and at the upload."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from certificates import actions, addresses, pkcs12
from certificates.models import ClientCertificate, PublicAuthority, Version
from environments.models import Environment, Person
from rollouts.models import ConnectionTest
from rollouts.outlook import outlook_of, outlooks
from tests import pki
from tests.certificates.conftest import text_of, upload

pytestmark = pytest.mark.django_db
PARTNER = pki.make_authority("Partner CA", organization="Example Trust")
HOST = "bank.example.com"


@pytest.fixture
def add(environment: Environment, owner: Person) -> Any:
    def add(name: str = "Bank", **how: Any) -> ClientCertificate:
        identity = pkcs12.read(pki.pfx(pki.issue("bank", **{"authority": PARTNER} | how), "secret"), "secret")
        return actions.add(environment=environment, name=name, identity=identity, by=owner)

    return add


def renewed(certificate: ClientCertificate, by: Person, **how: Any) -> Version:
    identity = pkcs12.read(pki.pfx(pki.issue("bank", **{"authority": PARTNER} | how), "secret"), "secret")
    return actions.renew(certificate=certificate, identity=identity, in_use=False, by=by)


def codes(certificate: ClientCertificate) -> list[str]:
    found = outlook_of(ClientCertificate.objects.get(pk=certificate.pk))
    assert all(one.sentence and one.to_do for one in found), "each says what is the matter, and what to do"
    return [one.code for one in found]


def pinned(certificate: ClientCertificate, by: Person, host: str = HOST) -> None:
    target = actions.read_target(environment=certificate.environment, text=host, never=False)
    actions.pin(environment=certificate.environment, target=target, certificate=certificate, by=by)


def kept_test(certificate: ClientCertificate, accepts: list[str], host: str = HOST, **columns: Any) -> None:
    """What a test of the pin's connection kept."""
    facts = {"asked": True, "accepts": accepts, "accepts_count": columns.pop("count", len(accepts))}
    facts["among"] = columns.pop("among", None)
    given = {
        "address": str(addresses.read(host)),
        "version": certificate.in_use,
        "kind": "host",
        "key": host,
        "basis": "x",
    }
    ConnectionTest.objects.filter(environment=certificate.environment, key=host).update(is_last=False)
    ConnectionTest.objects.create(
        environment=certificate.environment, verdict="accepted", sentence="", facts=facts, tested_by="x",
        **given | columns,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, []),
        ({"eku": ["serverAuth"]}, ["no_client_auth"]),
        ({"eku": None}, []),
        ({"key": "rsa-1024"}, ["weak_key"]),
        ({"not_after": pki.NOW + timedelta(days=4000)}, ["issuer_expires_first"]),
        ({"not_after": pki.NOW + timedelta(days=3000)}, ["issuer-ends-before-renewal"]),
    ],
)
def test_what_a_certificate_itself_tells_of_its_renewal(add: Any, how: dict[str, Any], expected: list[str]):
    assert codes(add(**how)) == expected


def test_a_public_authority_that_stops_counts_for_clients_with_its_day(add: Any):
    PublicAuthority.objects.create(
        name="Example", organisation="Example Trust", stops_on=date(2099, 3, 1), source="https://e.example/"
    )
    (one,) = outlook_of(add())
    assert (one.code, one.day, one.source) == ("authority-stops", date(2099, 3, 1), "https://e.example/")
    assert one.version == ClientCertificate.objects.get().in_use_id
    assert "Example stops issuing public certificates for clients on 1 Mar 2099" in one.sentence
    assert codes(add("Server", eku=["serverAuth"])) == ["no_client_auth"]


def test_a_version_that_is_ready_and_changes_what_the_partner_goes_by_is_told_of(add: Any, owner: Person):
    certificate = add()
    actions.describe(certificate=certificate, identified_by=["subject", "issuer", "thumbprint"], by=owner)
    assert codes(certificate) == ["every-renewal-to-tell"]
    ready = renewed(certificate, owner, authority=pki.make_authority("Next CA"))
    found = outlook_of(certificate)
    assert [one.code for one in found] == ["partner-thumbprint", "partner-issuer"]
    assert {one.version for one in found} == {ready.pk}
    assert "Version 2, which is ready: The partner recognises us by its issuer" in found[1].sentence
    actions.use_version(version=ready, by=owner)
    assert codes(certificate) == ["every-renewal-to-tell"], "it is used: that was decided"


def test_a_server_that_no_longer_names_our_issuer_is_told_of(add: Any, owner: Person):
    certificate = add()
    pinned(certificate, owner)
    assert codes(certificate) == []
    kept_test(certificate, ["CN=Partner CA,O=Example Trust"])
    assert codes(certificate) == []
    kept_test(certificate, ["CN=Next CA,O=Bank, Inc"])
    (one,) = outlook_of(certificate)
    assert one.code == "issuer-not-accepted"
    assert f"{HOST} asked for certificates of Next CA" in one.sentence
    assert "Partner CA, which issued this one, is not among them" in one.sentence
    kept_test(certificate, [])
    assert codes(certificate) == [], "a server that names nobody accepts anybody"


def test_what_a_test_cannot_know_is_not_said(add: Any, owner: Person):
    certificate = add()
    pinned(certificate, owner)
    kept_test(certificate, ["CN=Next CA"], count=40)
    assert codes(certificate) == [], "more names than were kept"
    kept_test(certificate, ["CN=Next CA"], count=40, among=False)
    assert codes(certificate) == ["issuer-not-accepted"], "those were compared when it was tested"
    kept_test(certificate, ["CN=Next CA"], address="https://other.example.com:443")
    assert codes(certificate) == [], "another address than the pin has now"


def test_the_same_for_hundreds_in_as_many_queries_as_for_one(add: Any, environment: Environment, owner: Person):
    first = add()
    pinned(first, owner)
    kept_test(first, ["CN=Next CA"])

    def asked() -> tuple[int, dict[Any, Any]]:
        with CaptureQueriesContext(connection) as queries:
            found = outlooks(environment.certificates.all())
        return len(queries), found

    with_one, found = asked()
    assert [one.code for one in found[first.pk]] == ["issuer-not-accepted"]
    for number in range(12):
        more = add(f"More {number}", eku=["serverAuth"])
        pinned(more, owner, f"more-{number}.example.com")
        kept_test(more, ["CN=Next CA"], f"more-{number}.example.com")
        renewed(more, owner)
    actions.remove(certificate=add("Removed"), by=owner)
    with_many, found = asked()
    assert (with_one, with_many) == (5, 5)
    assert len(found) == 13, "removed ones are left out"
    assert [one.code for one in found[more.pk]] == ["no_client_auth", "issuer-not-accepted", "issuer-not-accepted"]


def test_it_stands_on_the_certificates_page_and_at_the_upload(add: Any, owner: Person):
    certificate, client = add(), Client()
    client.force_login(owner)
    assert "The next renewal Nothing is known here that would make it fail." in text_of(
        client.get(certificate.get_absolute_url())
    )
    pinned(certificate, owner)
    kept_test(certificate, ["CN=Partner CA"])
    file = upload(pki.pfx(pki.issue("bank", authority=pki.make_authority("Next CA")), "secret"))
    address = certificate.environment.url("certificate-renew", certificate.pk)
    preview = text_of(client.post(address, {"file": file, "password": "secret"}, follow=True))
    assert "Next CA, which issued this one, is not among them" in preview
    kept_test(certificate, ["CN=Next CA"])
    page = text_of(client.get(certificate.get_absolute_url()))
    assert "Partner CA, which issued this one, is not among them" in page
    assert "Ask the partner from which authority they expect it" in page
