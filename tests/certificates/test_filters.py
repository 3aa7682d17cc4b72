"""*All certificates* narrowed by its address: each filter, several at once, whose certificates are counted, and what a
download holds."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from typing import Any
from urllib.parse import urlencode

import pytest
from django.apps import apps
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from certificates import actions, pkcs12
from certificates.actions import slots
from certificates.filters import Filters
from certificates.models import ClientCertificate
from environments import actions as environments
from environments.models import Environment, Person
from tests import crowd, pki
from tests.certificates.conftest import text_of

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)  # a Wednesday
PAGE = "/certificates/"


@pytest.fixture
def production(owner: Person) -> Environment:
    payroll = environments.create_application(name="Payroll", by=owner)
    return environments.create_environment(application=payroll, name="Live", production=True, by=owner)


@pytest.fixture
def mixed(environment: Environment, production: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten certificates in Invoicing / Acceptance and five in Payroll / Live, at one moment. By their names: “client 1”
    has expired, 2 ends in 5 days, 3 in 20, 4 is weak, 5 tracked only, 6 disabled, 7 and 8 have an elliptic curve, 9 and
    10 no pin; in production “live 1” has expired and no other is special. The others end after more than 100 days."""
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    crowd.fill(environment, 10, pins=0)
    crowd.fill(production, 5, word="live")
    for n, facts in {
        1: {"expires_at": NOW - timedelta(days=1)},
        2: {"expires_at": NOW + timedelta(days=5)},
        3: {"expires_at": NOW + timedelta(days=20)},
        4: {"weak": True},
        5: {"tracked_only": True},
        6: {"enabled": False},
        7: {"public_key": "EC P-256"},
        8: {"public_key": "EC P-256"},
    }.items():
        environment.certificates.filter(position=n).update(**facts)
    production.certificates.filter(position=1).update(expires_at=NOW - timedelta(days=9))
    for certificate in environment.certificates.filter(position__lte=8):
        target = f"host-{certificate.position}.example.com"
        environment.pins.create(kind="host", key=target, certificate=certificate, created_by="Grace")


def found(client: Client, **asked: Any) -> list[str]:
    return sorted(row.certificate.name for row in client.get(PAGE, asked).context["rows"])


def downloaded(client: Client, **asked: Any) -> list[str]:
    rows = csv.reader(io.StringIO(client.get("/certificates.csv", asked).getvalue().decode("utf-8-sig")))
    return [row[3] for row in rows][1:]


def clients(*numbers: int) -> list[str]:
    return sorted(f"client {n}" for n in numbers)


LIVES = [f"live {n}" for n in range(1, 6)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"issuer": "Partner Issuing CA 1"}, ["client 1", "live 1"]),
        ({"issuer": "issuing ca 10"}, ["client 10"]),
        ({"issuer": "nobody"}, []),
        ({"key": "EC P-256"}, clients(7, 8)),
        ({"key": "RSA 1024"}, []),
        ({"expiry": "expired"}, ["client 1", "live 1"]),
        ({"expiry": "7"}, clients(2)),
        ({"expiry": "30"}, clients(2, 3)),
        ({"from": "2026-11-24", "to": "2026-11-30"}, clients(1, 2)),
        ({"to": "2026-11-24"}, ["client 1", "live 1"]),
        ({"expiry": "valid", "to": "2026-12-15"}, clients(2, 3)),
        ({"in": "payroll"}, LIVES),
        ({"in": "payroll/live", "expiry": "expired"}, ["live 1"]),
        ({"production": "1"}, LIVES),
        ({"production": "1", "in": "invoicing/acceptance"}, []),
        ({"unpinned": "1"}, clients(9, 10)),
        ({"weak": "1"}, clients(4)),
        ({"tracked": "on"}, clients(5)),
        ({"state": "disabled"}, clients(6)),
        ({"state": "enabled", "in": "invoicing"}, clients(1, 2, 3, 4, 5, 7, 8, 9, 10)),
        ({"q": "client-1", "unpinned": "1"}, clients(10)),
        ({"q": "host-1.live", "key": "RSA 2048", "production": "1"}, ["live 2"]),
        ({"expiry": "30", "q": "nothing-like-it"}, []),
    ],
    ids=lambda value: urlencode(value) if isinstance(value, dict) else "",
)
def test_each_filter_keeps_what_it_says_and_so_does_the_download(asked, names, mixed, signed_in):
    assert found(signed_in, **asked) == names
    assert sorted(downloaded(signed_in, **asked)) == names
    page = text_of(signed_in.get(PAGE, asked))
    assert f"Client certificates {len(names)} of 15" in page
    if not names:
        assert "No certificate fits these filters" in page or "Nothing here matches" in page


@pytest.mark.django_db
@pytest.mark.parametrize(
    "nonsense",
    [
        {"expiry": "soon"}, {"expiry": "7; DROP TABLE"}, {"from": "2026-13-40"}, {"to": "9999-12-31"},
        {"from": "0001-01-01"}, {"in": "payroll/other"}, {"in": "../.."}, {"sort": "in_use__sealed"},
        {"state": "maybe"}, {"weak": "no"}, {"page": "-1"}, {"issuer": "\0"}, {"unknown": "1"},
    ],
    ids=lambda value: urlencode(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_is_no_filter_is_ignored(nonsense, mixed, signed_in):
    answer = signed_in.get(PAGE, nonsense)
    assert answer.status_code == 200
    assert "Client certificates 15 " in text_of(answer)
    assert answer.context["chips"] == []
    assert len(downloaded(signed_in, **nonsense)) == 15


@pytest.mark.django_db
def test_every_active_filter_is_a_chip_that_takes_it_away_and_keeps_the_others(mixed, signed_in):
    asked = {"q": "client", "key": "RSA 2048", "from": "2026-11-01", "in": "invoicing/acceptance", "sort": "name"}
    page = signed_in.get(PAGE, asked | {"page": "1"})
    chips = {chip.text: chip.without for chip in page.context["chips"]}
    assert list(chips) == ["“client”", "RSA 2048", "From 1 Nov 2026", "In Invoicing / Acceptance"]
    without = "/certificates/?q=client&from=2026-11-01&in=invoicing%2Facceptance&sort=name"
    assert chips["RSA 2048"] == without
    assert "RSA 2048" not in {chip.text for chip in signed_in.get(without).context["chips"]}
    assert 'value="2026-11-01"' in page.content.decode(), "the form shows what is in the address"
    assert 'option value="RSA 2048" selected' in page.content.decode()


@pytest.mark.django_db
def test_the_list_is_sorted_by_end_name_or_application_and_pages_keep_the_filters(signed_in, environment, production):
    crowd.fill(environment, 60)
    crowd.fill(production, 3, word="a live one")
    names = [row.certificate.name for row in signed_in.get(PAGE, {"sort": "name"}).context["rows"]]
    assert names == sorted(names)
    assert names[0] == "a live one 1"
    by_application = signed_in.get(PAGE, {"sort": "application", "page": "2"})
    assert [row.certificate.environment.name for row in by_application.context["rows"]][-3:] == ["Live"] * 3
    assert (
        downloaded(signed_in, sort="application")[-3:]
        == [row.certificate.name for row in by_application.context["rows"]][-3:]
    )
    first = signed_in.get(PAGE, {"key": "RSA 2048", "in": "invoicing"}).content.decode()
    assert 'href="?key=RSA+2048&amp;in=invoicing&amp;page=2"' in first
    assert "Move up" not in first


@pytest.mark.django_db
def test_what_another_team_has_is_neither_counted_nor_proposed_nor_found(mixed, production, person_with):
    production.certificates.update(issued_by="Secret Partner CA", public_key="Ed25519")
    viewer = person_with("viewer")  # of Invoicing
    page = viewer.get(PAGE, {"expiry": "expired"})
    assert "Client certificates 1 of 10" in text_of(page)
    for word in ("Secret Partner", "Ed25519", "Payroll", "payroll"):
        assert word not in page.content.decode()
    for asked in ({"issuer": "Secret"}, {"key": "Ed25519"}, {"production": "1"}):
        assert found(viewer, **asked) == []
        assert downloaded(viewer, **asked) == []
    # A place that may not be seen is as one that does not exist.
    assert found(viewer, **{"in": "payroll"}) == found(viewer, **{"in": "no-such"}) == clients(*range(1, 11))


@pytest.mark.django_db
def test_the_issuers_proposed_are_the_most_frequent_and_any_other_can_be_typed(signed_in, environment):
    crowd.fill(environment, 130, pins=0)
    for certificate in environment.certificates.filter(position__lte=60):
        ClientCertificate.objects.filter(pk=certificate.pk).update(issued_by=f"Rare CA {certificate.position:02}")
    proposed = signed_in.get(PAGE).context["issuers"]
    assert len(proposed) == 50
    assert "Partner Issuing CA 1" in proposed
    assert "Rare CA 60" not in proposed
    assert found(signed_in, issuer="Rare CA 60") == ["client 60"]


@pytest.mark.django_db
def test_the_columns_that_are_filtered_follow_from_the_version_in_use(add_certificate, signed_in, owner, environment):
    """Real files; then a renewal; and as the migration fills them for the rows of an earlier release."""
    bank = add_certificate("Bank")
    server = add_certificate("Server", key="rsa-2048", eku=("serverAuth",))
    later = slots.add_without_file(environment=environment, name="Later", by=owner)
    columns = ("name", "issued_by", "public_key", "weak", "tracked_only")
    wanted = [
        ("Bank", "Partner CA", "EC P-256", False, False),
        ("Server", "Partner CA", "RSA 2048", True, False),
        ("Later", "", "", False, True),
    ]
    listed = ClientCertificate.objects.order_by("position").values_list(*columns)
    assert list(listed) == wanted
    assert found(signed_in, weak="1") == ["Server"]
    assert found(signed_in, tracked="1") == ["Later"]

    ClientCertificate.objects.update(issued_by="", public_key="", weak=False, tracked_only=False)
    import_module("certificates.migrations.0011_lists").fill(apps, None)
    assert list(listed.all()) == wanted

    file = pki.pfx(pki.issue("Server", authority=pki.make_authority("Other CA")), "secret")
    for certificate in (server, later):
        certificate.refresh_from_db()
        identity = pkcs12.read(file, "secret")
        actions.renew(certificate=certificate, identity=identity, in_use=True, by=owner)
    assert list(listed.all())[1:] == [
        ("Server", "Other CA", "EC P-256", False, False),
        ("Later", "Other CA", "EC P-256", False, False),
    ]
    assert bank.in_use


@pytest.mark.django_db
def test_filtered_lists_ask_as_often_for_a_thousand_certificates_as_for_ten(signed_in, environment, production):
    queries = (
        "",
        "issuer=Partner+Issuing+CA+1",
        "issuer=issuing",
        "key=RSA+2048",
        "expiry=90",
        "in=invoicing",
        "production=1",
        "unpinned=1",
        "weak=1",
        "tracked=1",
        "state=disabled",
        "sort=application&state=enabled",
        "key=RSA+2048&expiry=90&q=example.com",
    )

    def asked() -> list[int]:
        counted = []
        for query in queries:
            with CaptureQueriesContext(connection) as captured:
                assert signed_in.get(f"{PAGE}?{query}").context["rows"], query
            counted.append(len(captured))
        return counted

    crowd.fill(production, 1)
    crowd.fill(environment, 10, pins=8)
    crowd.mix(environment)
    few = asked()
    crowd.fill(environment, 990, pins=800)
    crowd.mix(environment)
    assert asked() == few
    assert max(few) <= 18


@pytest.mark.django_db
def test_a_day_is_one_of_the_installations_time_zone(signed_in, environment, settings):
    settings.TIME_ZONE = "Pacific/Auckland"  # 13 hours before UTC in summer
    timezone.get_default_timezone.cache_clear()
    try:
        crowd.fill(environment, 1)
        environment.certificates.update(expires_at=datetime(2027, 1, 4, 11, 30, tzinfo=UTC))  # 5 Jan there
        assert found(signed_in, **{"from": "2027-01-05", "to": "2027-01-05"}) == ["client 1"]
        assert found(signed_in, to="2027-01-04") == []
    finally:
        timezone.get_default_timezone.cache_clear()


def test_filters_are_written_as_they_are_read():
    asked = {"issuer": "Bank & Söhne", "from": "2026-12-01", "to": "2026-12-31", "weak": "1", "sort": "name"}
    chosen = Filters.read(asked, [])
    assert chosen == Filters(
        issuer="Bank & Söhne", since=date(2026, 12, 1), until=date(2026, 12, 31), weak=True, sort="name"
    )
    assert chosen.address == "/certificates/?issuer=Bank+%26+S%C3%B6hne&from=2026-12-01&to=2026-12-31&weak=1&sort=name"
    assert Filters().address == "/certificates/"
