"""How far a certificate, a key, an issuer or somebody's work reaches, and who is told of it."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from certificates import actions as certificates
from certificates.models import ClientCertificate, Pin, Version
from environments import actions as environments
from environments.models import Environment, Person
from rollouts import actions, reach
from rollouts.models import ConnectionTest
from tests import pki
from tests.conftest import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = pki.make_authority("Partner Root")
ISSUING = pki.make_authority("Partner Issuing, Ltd", authority=ROOT, organization='A "quoted" Ünion \\ Co')
OLD = pki.issue("bank", authority=ISSUING, not_after=pki.NOW + timedelta(days=12, hours=1))
NEW = pki.issue("bank", authority=ISSUING, not_after=pki.NOW + timedelta(days=300))


def text_of(response: Any) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def version_in(certificate: ClientCertificate) -> Version:
    certificate.refresh_from_db()
    assert certificate.in_use is not None
    return certificate.in_use


@pytest.fixture
def add(environment: Environment, owner: Person) -> Callable[..., ClientCertificate]:
    def add(name: str, *targets: str, issued: pki.Issued = OLD, where: Environment = environment) -> ClientCertificate:
        made = certificates.add(environment=where, name=name, identity=issued.identity, by=owner)
        for text in targets:
            target = certificates.read_target(environment=where, text=text)
            certificates.pin(environment=where, target=target, certificate=made, confirmed=True, by=owner)
        return made

    return add


@pytest.fixture
def production(environment: Environment, owner: Person) -> Environment:
    made = environments.create_environment(application=environment.application, name="Production", by=owner)
    Environment.objects.filter(pk=made.pk).update(production=True)
    made.refresh_from_db()
    return made


def test_it_counts_environments_pins_production_and_the_first_end(
    add: Any, environment: Environment, production: Environment, owner: Person
) -> None:
    add("Bank", "a.example.com", "b.example.com")
    prod = add("Bank", "a.example.com", where=production)
    add("Unrelated", "c.example.com", issued=pki.issue("other"))
    version = version_in(prod)
    found = reach.reach(owner, reach.of_certificate(version.sha256))
    assert found.summary == "2 environments, 3 pins, 1 in production; the first ends in 12 days"
    assert [row.environment for row in found.rows] == [production, environment], "production first"
    assert [[target.key for target in row.targets] for row in found.rows] == [
        ["a.example.com"], ["a.example.com", "b.example.com"],
    ]  # fmt: skip
    certificates.disable(certificate=prod, by=owner)
    found = reach.reach(owner, reach.of_key(version.spki_sha256))
    assert found.summary == "1 environment, 2 pins; the first ends in 12 days", "what is left out is not in use"
    assert len(found.rows) == 2


def test_what_still_runs_counts_with_the_pins_that_run_although_the_slot_moved_on(
    add: Any, environment: Environment, owner: Person, running_app: Any, apply: Any
) -> None:
    bank = add("Bank", "a.example.com")
    old = version_in(bank)
    assert apply(despite_tests=True).state == "verified"
    certificates.renew(certificate=bank, identity=NEW.identity, in_use=True, by=owner)
    certificates.unpin(pin=Pin.objects.get(), by=owner)
    bank.refresh_from_db()
    certificates.remove(certificate=bank, by=owner)
    (row,) = reach.reach(owner, reach.of_certificate(old.sha256)).rows
    assert (row.running, row.next, row.revision.number) == (old, None, 1)
    assert [(target.key, target.next, target.runs) for target in row.targets] == [("a.example.com", False, True)]
    assert apply().state == "verified"
    found = reach.reach(owner, reach.of_certificate(old.sha256))
    assert (found.in_use, found.rows[0].targets) == ((), ())
    assert list(found.rows[0].others) == [reach.PREVIOUS]


def test_only_a_test_that_sent_this_certificate_is_told(add: Any, environment: Environment, owner: Person) -> None:
    bank = add("Bank", "a.example.com", "b.example.com")
    version = version_in(bank)
    other = version_in(add("Other", issued=NEW))

    def test(key: str, sent: Version, verdict: str, days: int) -> None:
        ConnectionTest.objects.create(
            environment=environment, kind="host", key=key, version=sent, basis="", verdict=verdict, sentence="",
            tested_at=pki.NOW - timedelta(days=days), tested_by="x",
        )  # fmt: skip

    test("a.example.com", version, "accepted", 5)
    test("a.example.com", version, "refused", 2)
    test("a.example.com", other, "unreachable", 1)
    test("b.example.com", other, "accepted", 1)
    (row,) = reach.reach(owner, reach.of_certificate(version.sha256)).rows
    assert [target.test and target.test.test.verdict for target in row.targets] == ["refused", None]


def test_an_issuer_counts_in_the_chain_too_however_its_name_is_spelled(add: Any, owner: Person) -> None:
    bank = add("Bank")
    add("Another", issued=pki.issue("another", authority=pki.make_authority("Partner Root 2")))
    version = version_in(bank)
    root = version.chain[-1]["subject"]
    assert "quoted" in version.issuer
    for name in (version.issuer, root):
        assert [row.certificate for row in reach.of_issuer(owner, name).rows] == [bank], name
    assert reach.of_issuer(owner, "Partner Root").rows == (), "a part of a name is another name"


def test_it_asks_as_often_for_many_places_as_for_one(
    add: Any, environment: Environment, owner: Person, running_app: Any, apply: Any, client: Client
) -> None:
    version = version_in(add("Bank", "a.example.com"))
    apply(despite_tests=True)
    client.force_login(owner)
    page = f"/reach/keys/{version.spki_sha256}/"

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(page).status_code == 200
        return len(captured)

    one = queries()
    for number in range(8):
        where = environments.create_environment(application=environment.application, name=f"Site {number}", by=owner)
        add("Bank", "a.example.com", "b.example.com", where=where)
    assert queries() == one
    with CaptureQueriesContext(connection) as captured:
        reach.reach(owner, reach.of_key(version.spki_sha256))
    assert len(captured) <= 7


def test_a_stranger_learns_nothing_and_a_member_only_of_their_places(
    add: Any, environment: Environment, production: Environment, owner: Person
) -> None:
    version = version_in(add("Bank", "a.example.com"))
    add("Secret project", "hidden.example.com", where=production)
    ada, eve = (Person.objects.create_user(name, password=PASSWORD) for name in ("ada", "eve"))
    environments.add_member(
        application=environment.application, environment=environment, person=ada, role="viewer", by=owner
    )
    pages = [
        f"/reach/certificates/{version.sha256}/",
        f"/reach/keys/{version.spki_sha256}/",
        f"/reach/issuers/?name={quote(version.issuer)}",
    ]
    member, stranger = Client(), Client()
    member.force_login(ada)
    stranger.force_login(eve)
    for page in pages:
        assert stranger.get(page).status_code == 404
        told = text_of(member.get(page))
        assert "1 environment, 1 pin; the first ends in 12 days" in told
        listed = re.search(r'href="([^"]+\.csv[^"]*)"', member.get(page).content.decode())
        assert listed is not None
        address = html.unescape(listed[1])
        assert stranger.get(address).status_code == 404
        downloaded = b"".join(member.get(address)).decode()
        for words in (told, downloaded):
            assert "Acceptance" in words
            assert not re.search("Secret|hidden|Production /|/ Production", words), page
    for made_up in ("0" * 64, "x", "%27"):
        assert member.get(f"/reach/keys/{made_up}/").status_code == 404
    assert member.get("/reach/issuers/").status_code == 404
    assert member.get(f"/people/{owner.pk}/reach/").status_code == 403


def test_the_csv_is_no_formula(add: Any, owner: Person, client: Client) -> None:
    version = version_in(add("=HYPERLINK(1)", "a.example.com"))
    client.force_login(owner)
    answer = client.get(f"/reach/certificates/{version.sha256}.csv")
    rows = list(csv.reader(io.StringIO(b"".join(answer).decode("utf-8-sig"))))
    cells = dict(zip(rows[0], rows[1], strict=True))
    assert cells["Certificate"] == "'=HYPERLINK(1)"
    assert cells["Pinned to"] == "a.example.com"
    assert cells["Days left"] == "12"


def test_what_depends_on_somebody_who_left(
    add: Any, environment: Environment, owner: Person, client: Client, production: Environment
) -> None:
    ada = Person.objects.create_user("ada", password=PASSWORD, first_name="Ada")
    environments.add_member(application=environment.application, person=ada, role="owner", by=owner)
    responsible, pinned, taken = add("Responsible"), add("Pinned"), add("Taken", where=production)
    certificates.describe(certificate=responsible, responsible=ada, by=owner)
    certificates.add(environment=environment, name="Uploaded", identity=NEW.identity, by=ada)
    target = certificates.read_target(environment=environment, text="p.example.com")
    certificates.pin(environment=environment, target=target, certificate=pinned, by=ada)
    actions.export_to_download(
        environment=production, exporter="mendix-settings", base_folder="/srv", reason="by hand", password=PASSWORD,
        by=ada,
    )  # fmt: skip
    certificates.renew(certificate=taken, identity=NEW.identity, in_use=True, by=owner)
    add("Nothing to do with her", issued=pki.issue("x"))
    found = reach.of_person(owner, ada)
    assert {row.certificate.name: row.reasons for row in found.rows} == {
        "Responsible": "responsible", "Uploaded": "uploaded", "Pinned": "pinned", "Taken": "took its key out",
    }  # fmt: skip
    row = next(row for row in found.rows if row.certificate.name == "Taken")
    assert [one.how for one in row.held] == [reach.PREVIOUS], "the key that she took, not the one that came after"
    client.force_login(owner)
    page = text_of(client.get(f"/people/{ada.pk}/reach/"))
    assert "What depends on Ada" in page
    assert "Invoicing Owner" in page
    assert f"/people/{ada.pk}/reach/" in client.get("/people/").content.decode()


def test_it_is_shown_before_a_certificate_is_disabled_or_removed(
    add: Any, production: Environment, owner: Person, client: Client
) -> None:
    bank = add("Bank", "a.example.com")
    add("Bank", "b.example.com", where=production)
    client.force_login(owner)
    for page in (bank.get_absolute_url(), f"{bank.get_absolute_url()}remove/"):
        words = text_of(client.get(page))
        assert "1 pin depends on it: a.example.com not tested with it" in words, page
        assert "elsewhere, which stays as it is: 1 environment, 1 pin, 1 in production" in words
