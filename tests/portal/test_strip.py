"""The twelve months to come on the home page: what is counted in which week, and that each stack leads to its list."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from certificates.models import ClientCertificate
from environments import actions as environments
from environments.models import Application, Environment, Person
from portal.needs import AT_MOST, needs
from portal.strip import WEEKS, strip
from rollouts.standing import standings
from tests import crowd

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)  # a Wednesday


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> datetime:
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    return NOW


@pytest.fixture
def production(application: Application, owner: Person) -> Environment:
    return environments.create_environment(application=application, name="Live", production=True, by=owner)


@pytest.fixture
def browser(owner: Person) -> Client:
    client = Client()
    client.force_login(owner)
    return client


def ends(environment: Environment, *moments: datetime) -> None:
    first = environment.certificates.count()
    crowd.fill(environment, len(moments), pins=0, word=f"of {environment.slug}")
    for number, moment in enumerate(moments, start=first + 1):
        crowd.end(environment.certificates.filter(position=number), moment)


def words_of(page: str) -> list[str]:
    return [html.unescape(words) for words in re.findall(r'<a href="[^"]*" aria-label="([^"]*)"><title>', page)]


def test_each_week_counts_what_ends_in_it_from_monday_to_sunday(today, environment, production, browser):
    monday = datetime(2026, 11, 30, tzinfo=UTC)
    second = timedelta(seconds=1)
    ends(environment, today, today + second, monday - second, monday, monday + timedelta(days=7) - second)
    ends(production, monday, today - timedelta(days=400), monday + timedelta(days=7), monday + timedelta(days=600))
    page = browser.get("/").content.decode()
    assert words_of(page) == [
        "Expired already: 2 certificates, 1 in production",
        "Week of 23 Nov 2026: 2 certificates, 0 in production",
        "Week of 30 Nov 2026: 3 certificates, 1 in production",
        "Week of 7 Dec 2026: 1 certificate, 1 in production",
    ]
    assert "6 certificates in 2 environments" in " ".join(re.sub("<[^>]+>", " ", page).split())


def test_each_stack_leads_to_as_many_rows_as_it_says(environment, production, browser):
    crowd.fill(environment, 150, pins=0)
    crowd.fill(production, 50, pins=0)
    crowd.mix(environment)
    now = timezone.now()
    for n, certificate in enumerate(ClientCertificate.objects.order_by("environment", "position")):
        # Every few hours around now, then every few days until after the last week.
        ends_in = timedelta(hours=n * 5 - 100) if n % 2 else timedelta(days=n * 2)
        ClientCertificate.objects.filter(pk=certificate.pk).update(expires_at=now + ends_in)
    stacks = browser.get("/").context["strip"].stacks
    assert len(stacks) > 20
    assert {stack.count for stack in stacks} != {1}
    for stack in stacks:
        listed = browser.get(stack.address).context["certificates"]
        assert (listed.found, listed.total) == (stack.count, 200), stack.words
        in_production = browser.get(f"{stack.address}&production=1").context["certificates"]
        assert in_production.found == stack.production, stack.words
    assert sum(stack.count for stack in stacks) < 200, "disabled ones, and those that end later, are in none"


def test_weeks_are_those_of_the_installations_time_zone(today, environment, browser, settings):
    settings.TIME_ZONE = "America/New_York"
    timezone.get_default_timezone.cache_clear()
    try:
        # Sunday evening there, Monday here; and the week in which their clocks go forward.
        ends(environment, datetime(2026, 11, 30, 4, 59, tzinfo=UTC), datetime(2026, 11, 30, 5, 0, tzinfo=UTC))
        ends(environment, datetime(2027, 3, 15, 3, 59, tzinfo=UTC), datetime(2027, 3, 15, 4, 0, tzinfo=UTC))
        found = browser.get("/").context["strip"].stacks
        titles = ["Week of 23 Nov 2026", "Week of 30 Nov 2026", "Week of 8 Mar 2027", "Week of 15 Mar 2027"]
        assert [stack.title for stack in found] == titles
        for stack in found:
            assert browser.get(stack.address).context["certificates"].found == 1
    finally:
        timezone.get_default_timezone.cache_clear()


def test_the_last_column_is_the_fifty_second_week_and_months_are_named_once(today, environment):
    monday = datetime(2026, 11, 23, tzinfo=UTC)
    ends(environment, monday + WEEKS * timedelta(days=7) - timedelta(seconds=1), monday + WEEKS * timedelta(days=7))
    drawn = strip([environment])
    assert [stack.title for stack in drawn.stacks] == ["Week of 15 Nov 2027"]
    assert drawn.stacks[0].x + 16 <= drawn.width
    names = [name for _x, name in drawn.months]
    assert names[:3] == ["Dec", "Jan 2027", "Feb"]
    assert len(names) == len(set(names)) == 12


def test_a_strip_counts_only_what_its_reader_may_see(today, environment, owner):
    other = environments.create_application(name="Payroll", by=owner)
    hidden = environments.create_environment(application=other, name="Live", production=True, by=owner)
    ends(environment, today + timedelta(days=9))
    ends(hidden, today + timedelta(days=9), today + timedelta(days=90))
    viewer = Person.objects.create_user("ada")
    environments.add_member(application=environment.application, person=viewer, role="viewer", by=owner)
    client = Client()
    client.force_login(viewer)
    assert words_of(client.get("/").content.decode()) == ["Week of 30 Nov 2026: 1 certificate, 0 in production"]


def test_where_nothing_ends_within_the_year_the_page_says_so_calmly(environment, browser):
    page = browser.get("/").content.decode()
    assert "No certificate that is enabled ends within twelve months." in page
    assert 'class="strip"' not in page


def test_every_part_of_a_stack_is_seen_and_none_is_higher_than_the_drawing(today, environment, production):
    ends(environment, *[today + timedelta(days=9)] * 200, *[today - timedelta(days=9)] * 300)
    ends(production, *[today + timedelta(days=9)], today + timedelta(days=90))
    expired, week, later = strip([environment, production]).stacks
    assert expired.height == week.height == week.lower + week.upper
    assert min(week.lower, week.upper) >= 2
    assert week.above > 0
    assert (later.lower, later.upper) == (4, 0)


# --- Needs you --------------------------------------------------------------------------------------------------------


def test_home_shows_the_worst_ten_and_leads_to_all(today, environment, browser):
    ends(environment, *(today + timedelta(days=day) for day in range(1, 14)))
    page = browser.get("/").content.decode()
    assert page.count("Upload renewal") == 10
    assert '<a href="/needs/">and 3 more</a>' in page
    whole = browser.get("/needs/").content.decode()
    assert whole.count("Upload renewal") == 13


def test_where_more_end_than_a_page_names_it_says_so_and_leads_to_the_list(today, environment, browser, owner):
    ends(environment, *[today + timedelta(days=9)] * (AT_MOST + 1))
    found = needs(owner, standings([environment]))
    assert (len(found), found.cut) == (AT_MOST, True)
    assert "and more than 190 others" in browser.get("/").content.decode()
    whole = browser.get("/needs/").content.decode()
    assert "Of the certificates, the 200 that end first are here." in whole
    link = html.unescape(re.search(r'href="(/certificates/[^"]+)"', whole)[1])  # type: ignore[index]
    assert browser.get(link).context["certificates"].found == AT_MOST + 1


def test_where_nothing_is_needed_the_page_says_so(environment, browser):
    assert "Nothing needs you" in browser.get("/needs/").content.decode()


def test_home_and_needs_ask_as_often_for_a_thousand_certificates_as_for_ten(environment, production, browser):
    def asked() -> list[int]:
        counted = []
        for address in ("/", "/needs/"):
            browser.get(address)
            with CaptureQueriesContext(connection) as captured:
                assert browser.get(address).context["needs"]
            counted.append(len(captured))
        return counted

    for place in (environment, production):
        crowd.fill(place, 5, pins=0)
        crowd.mix(place)
    few = asked()
    for place in (environment, production):
        crowd.fill(place, 495, pins=0)
        crowd.mix(place)
    assert asked() == few
    assert max(few) <= 16
