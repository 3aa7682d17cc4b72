"""The search at the top of every page: pasted addresses and errors, and who may see what is found."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from certificates import actions as certificates
from environments import actions as environments
from environments.models import Environment, Person
from rollouts.searching import search
from tests import pki

pytestmark = pytest.mark.django_db(transaction=True)

JAVA = """
javax.net.ssl.SSLHandshakeException: Received fatal alert: bad_certificate
    at java.base/sun.security.ssl.Alert.createSSLException(Alert.java:131)
    at com.mendix.http.HttpClient.call(HttpClient.java:77)
Caused by: com.mendix.systemwideinterfaces.MendixRuntimeException: POST https://api.example.com:8443/v1/pay failed
"""


def text_of(response: Any) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


@pytest.fixture
def pin(environment: Environment, owner: Person) -> Any:
    def pin(text: str, certificate: Any = None, kind: str | None = None) -> Any:
        target = certificates.read_target(environment=environment, text=text, kind=kind, never=certificate is None)
        return certificates.pin(environment=environment, target=target, certificate=certificate, by=owner)

    return pin


def test_a_pasted_exception_finds_the_certificate(
    client: Client, owner: Person, pin: Any, add_certificate: Any
) -> None:
    pin("api.example.com", add_certificate("Bank payments"))
    client.force_login(owner)
    page = text_of(client.post("/search/", {"text": JAVA}))
    assert "api.example.com Invoicing / Acceptance Bank payments" in page
    assert "The server refuses the certificate that it was sent" in page
    assert "not applied from here" in page
    assert "java.base" not in page.split("Pinned here")[1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://grace:secret@API.example.com/v1?x=1", ["api.example.com"]),
        ("curl: (56) api.example.com. port 443", ["api.example.com"]),
        ("call of Billing.PaymentService failed", ["Billing.PaymentService"]),
        ("MY S3 bucket", ["MY S3 bucket"]),
        ("(identifier 'MY_S3')", ["MY_S3"]),
        ("nothing at all", []),
    ],
)
def test_what_a_text_names(text: str, found: list[str], owner: Person, pin: Any, add_certificate: Any) -> None:
    bank = add_certificate("Bank")
    for key, kind in (("api.example.com", None), ("Billing.PaymentService", None), ("MY_S3", None)):
        pin(key, bank, kind)
    pin("MY S3 bucket", bank, "identifier")
    assert [hit.pin.key for hit in search(text, owner).hits] == found


def test_a_host_without_a_pin_is_said_to_have_none(client: Client, owner: Person) -> None:
    client.force_login(owner)
    page = text_of(client.post("/search/", {"text": "https://unknown.example.com/ PKIX path building failed"}))
    assert "pinned nowhere that you may see unknown.example.com" in page
    assert "add the authority that signed it" in page


def test_a_stranger_finds_nothing(client: Client, owner: Person, pin: Any, add_certificate: Any) -> None:
    pin("api.example.com", add_certificate("Bank payments"))
    client.force_login(Person.objects.create_user("ada"))
    page = text_of(client.post("/search/", {"text": "api.example.com"}))
    assert "Bank payments" not in page
    assert "Acceptance" not in page
    assert "pinned nowhere that you may see api.example.com" in page


def test_it_offers_to_go_back_to_what_ran_before(
    client: Client,
    owner: Person,
    environment: Environment,
    pin: Any,
    running_app: Any,
    apply: Any,
    add_certificate: Any,
) -> None:
    pin("api.example.com", add_certificate("Bank"))
    apply()
    pin("b.example.com")
    apply()
    client.force_login(owner)
    page = text_of(client.post("/search/", {"text": "api.example.com"}))
    assert "revision 2" in page
    assert "Roll back to 1" in page
    ada = Person.objects.create_user("ada")
    environments.add_member(application=environment.application, person=ada, role="viewer", by=owner)
    client.force_login(ada)
    assert "Roll back to 1" not in text_of(client.post("/search/", {"text": "api.example.com"}))


def test_it_asks_as_often_for_many_as_for_one(owner: Person, environment: Environment, pin: Any) -> None:
    bank = certificates.add(environment=environment, name="B", identity=pki.issue("b").identity, by=owner)
    pin("h0.example.com", bank)

    def queries(text: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            search(text, owner)
        return len(captured)

    one = queries("h0.example.com")
    for number in range(1, 20):
        pin(f"h{number}.example.com", bank)
    assert queries(" ".join(f"h{number}.example.com" for number in range(20))) == one <= 4


def test_a_long_text_is_read_in_part_and_quickly(owner: Person) -> None:
    found = search("x.example.com, " * 200_000, owner)
    assert found.unpinned == ("x.example.com",)
