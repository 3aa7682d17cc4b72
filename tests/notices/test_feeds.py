"""Calendars at secret addresses, read by two parsers that are not ours; and /metrics, read by Prometheus' own."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import vobject
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from icalendar import Calendar
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from certificates import actions as certificates
from environments import actions as environments
from notices import actions, tasks
from notices.models import Feed
from tests import crowd
from tests.notices.test_watching import ends_in

pytestmark = pytest.mark.django_db(transaction=True)


def fetch(token: str, status: int = 200) -> bytes:
    """As a calendar program does: without any session."""
    response = Client().get(f"/calendars/{token}.ics")
    assert response.status_code == status
    return response.content


def events(content: bytes) -> list[dict]:
    found = Calendar.from_ical(content)
    strict = vobject.readOne(content.decode())
    strict.validate(raiseException=True)
    assert len(list(strict.contents.get("vevent", []))) == len(found.walk("VEVENT"))
    # RFC 5545 §3.1: lines end with CR LF and have at most 75 octets.
    assert all(len(line) <= 75 for line in content.split(b"\r\n"))
    assert b"\n" not in content.replace(b"\r\n", b"")
    return found.walk("VEVENT")


@pytest.fixture
def bank(add_certificate, owner):
    certificate = add_certificate("Bank; payments, ü \\ and more words than fit into one line of a calendar", cn="bank")
    certificates.describe(
        certificate=certificate, contact="Anna", how_to_renew="Line one,\nline two; done", by=owner, responsible=owner
    )
    ends_in(certificate, 100)
    return certificate


def test_an_event_on_the_day_of_the_end_with_an_alarm_for_each_notice(settings, bank, owner, environment):
    settings.ADDRESS = "https://portal.example.com"
    token = actions.open_feed(person=owner, scope="all", application=None, by=owner)
    (event,) = events(fetch(token))
    version = bank.in_use
    assert event["summary"] == f"{bank.name} expires ({environment})"
    assert event.decoded("dtstart") == version.not_after.replace(microsecond=0)
    assert "How to renew: Line one,\nline two; done" in event["description"]
    assert event["url"] == f"https://portal.example.com{bank.get_absolute_url()}"
    alarms = [alarm.decoded("trigger") for alarm in event.walk("VALARM")]
    assert alarms == [timedelta(days=-days) for days in (60, 40, 7, 1)]


def test_a_renewal_takes_the_event_away_and_brings_its_own(bank, owner):
    token = actions.open_feed(person=owner, scope="mine", application=None, by=owner)
    (before,) = events(fetch(token))
    from certificates import pkcs12
    from tests import pki

    fresh = pkcs12.read(pki.pfx(pki.issue("Bank", authority=pki.make_authority("CA")), "x"), "x")
    certificates.renew(certificate=bank, identity=fresh, in_use=True, by=owner)
    (after,) = events(fetch(token))
    assert before["uid"] != after["uid"]


def test_a_feed_shows_what_its_person_may_see_at_that_moment(
    bank, owner, person, application, environment, add_certificate
):
    other = environments.create_application(name="Payroll", by=owner)
    ada = person("ada", role="viewer")
    tokens = {
        scope: actions.open_feed(person=ada, scope=scope, application=place, by=ada)
        for scope, place in {"mine": None, "all": None, "application": application}.items()
    }
    theirs = actions.open_feed(person=ada, scope="application", application=other, by=ada)
    assert events(fetch(tokens["mine"])) == [], "owner is responsible, not Ada"
    assert len(events(fetch(tokens["all"]))) == len(events(fetch(tokens["application"]))) == 1
    assert events(fetch(theirs)) == [], "of an application that she does not see"
    (membership,) = ada.memberships.all()
    environments.remove_member(membership=membership, by=owner)
    assert events(fetch(tokens["all"])) == events(fetch(tokens["application"])) == []
    environments.set_active(person=ada, active=False, by=owner)
    for token in tokens.values():
        fetch(token, 404)


def test_the_address_is_told_once_kept_as_a_mark_and_turned_over(client, owner, bank):
    client.force_login(owner)
    page = client.post("/calendars/", {"scope": "all"})
    assert page["Cache-Control"] == "no-store"
    (token,) = re.findall(r"/calendars/([\w-]{43})\.ics", page.content.decode())
    assert token not in client.get("/calendars/").content.decode()
    assert not Feed.objects.filter(mark__contains=token).exists()
    assert len(events(fetch(token))) == 1
    page = client.post("/calendars/", {"scope": "all"})
    (fresh,) = re.findall(r"/calendars/([\w-]{43})\.ics", page.content.decode())
    fetch(token, 404)
    fetch(fresh)
    client.post(f"/calendars/{Feed.objects.get().mark}/close/")
    assert fetch(fresh, 404) == fetch("made-up", 404), "the same nothing for every address"


def test_a_feed_says_nothing_of_keys_people_and_pins(bank, owner, environment):
    target = certificates.read_target(environment=environment, text="secret-host.example.com")
    certificates.pin(environment=environment, target=target, certificate=bank, by=owner)
    token = actions.open_feed(person=owner, scope="all", application=None, by=owner)
    content = fetch(token).decode()
    assert "secret-host" not in content
    assert "Grace" not in content
    assert "PRIVATE" not in content


def test_a_feed_of_many_asks_as_often_as_one_of_few(owner, environment):
    token = actions.open_feed(person=owner, scope="all", application=None, by=owner)

    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            fetch(token)
        return len(queries)

    crowd.fill(environment, 5)
    few = asked()
    crowd.fill(environment, 200)
    assert asked() == few


# --- Metrics ---


def metrics(token: str = "c0llector", accept: str = "") -> tuple[int, str, str]:
    response = Client().get("/metrics", HTTP_AUTHORIZATION=f"Bearer {token}", HTTP_ACCEPT=accept)
    return response.status_code, response["Content-Type"], response.content.decode()


def test_metrics_are_read_by_prometheus_own_parsers(settings, bank, environment):
    settings.METRICS_TOKEN = "c0llector"
    tasks.watch()
    status, kind, text = metrics()
    assert status == 200
    assert kind.startswith("text/plain")
    families = {family.name: family for family in prometheus(text)}
    (sample,) = families["countersign_certificate_not_after_timestamp_seconds"].samples
    assert sample.labels == {
        "application": "invoicing", "environment": "acceptance", "certificate": bank.slug, "production": "false",
    }  # fmt: skip
    assert sample.value == pytest.approx(bank.in_use.not_after.timestamp(), abs=1)
    (looked,) = families["countersign_watch_last_success_timestamp_seconds"].samples
    assert looked.value == pytest.approx(timezone.now().timestamp(), abs=60)
    assert families["countersign_notices_unsent"].samples[0].value == 0

    _status, kind, text = metrics(accept="application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert {family.name for family in openmetrics(text)} == set(families)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic c0llector", "Bearer c0llector2"])
def test_metrics_are_there_for_whoever_knows_the_token_and_for_nobody_else(settings, header):
    settings.METRICS_TOKEN = "c0llector"
    headers = {"HTTP_AUTHORIZATION": header} if header else {}
    assert Client().get("/metrics", **headers).status_code == 404
    settings.METRICS_TOKEN = ""
    assert metrics("")[0] == 404
