"""Applying to several environments in one go, and waiting for what is under way."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from audit.models import Event
from certificates import actions as certificates
from certificates import pkcs12
from environments import actions as environments
from environments.models import Application, Environment, Membership, Person
from environments.refusals import Refused
from rollouts import actions, moves
from rollouts.connectors import connect, local_process
from rollouts.models import Destination, Rollout, Series
from tests import pki, ports

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]
TINY = Path(__file__).parents[1] / "contracts" / "tiny_app.py"
IDENTITY = pki.issue("client", authority=pki.make_authority("Partner CA"))


@pytest.fixture
def twenty(
    tmp_path: Path, settings: Any, application: Application, owner: Person
) -> Iterator[tuple[list[Environment], dict[str, dict[str, Any]]]]:
    """Twenty environments with a change each, on apps of their own that are stopped, but for the first four."""
    numbers, apps, places = ports.free_ports(20), tmp_path / "apps", {}
    for number, port in enumerate(numbers):
        behaviour = tmp_path / f"behaviour-{number}.json"
        places[f"app-{number}"] = {
            "title": f"App {number}",
            "folder": str(apps / f"app-{number}"),
            "status_url": f"http://127.0.0.1:{port}/status",
            "argv": [
                sys.executable, str(TINY), str(port), "--configuration", "{configuration}",
                "--behaviour", str(behaviour),
            ],
            "behaviour": behaviour,
        }  # fmt: skip
    settings.LOCAL_PROCESSES = {name: {k: v for k, v in p.items() if k != "behaviour"} for name, p in places.items()}
    found = []
    identity = pkcs12.read(pki.pfx(IDENTITY, "secret"), "secret")
    for number in range(20):
        made = environments.create_environment(application=application, name=f"Site {number:02}", by=owner)
        if number < 4:
            connect("local-process", settings.LOCAL_PROCESSES[f"app-{number}"]).start()
        Environment.objects.filter(pk=made.pk).update(connection_tests="skip")
        made.refresh_from_db()
        actions.use_place(environment=made, place=f"app-{number}", by=owner)
        certificates.add(environment=made, name="Bank", identity=identity, by=owner)
        found.append(made)
    yield found, places
    local_process.stop_all(apps)


def asked(found: list[Environment]) -> list[tuple[Environment, str]]:
    return [(environment, actions.pending(environment)[0].digest) for environment in found]


def work_off(series: Series, seconds: float = 60) -> list[Rollout]:
    """As workers and their sweep do."""
    deadline = time.monotonic() + seconds
    while left := [rollout for rollout in series.rollouts.all() if not rollout.is_final]:
        assert time.monotonic() < deadline, left
        for rollout in left:
            if rollout.state != "waiting":
                time.sleep(moves.advance(rollout.pk) or 0)
        actions.begin_what_waits()
    return list(series.rollouts.order_by("position"))


def test_twenty_environments_with_a_failure_in_the_third_stop_there(
    twenty: tuple[list[Environment], dict[str, dict[str, Any]]], owner: Person
):
    found, places = twenty
    places["app-2"]["behaviour"].write_text('{"refuse": "bank"}')
    series = actions.apply_to_several(asked=asked(found), reason="renewal", stop_at_failure=True, by=owner)
    assert [r.state for r in series.rollouts.order_by("position")] == ["requested"] + ["waiting"] * 19
    ended = work_off(series)
    assert [rollout.state for rollout in ended] == ["verified"] * 2 + ["rolled_back"] + ["cancelled"] * 17
    assert "Not begun, because one that came before it" in ended[3].sentence
    assert all(rollout.failure == "" and rollout.fence == 0 for rollout in ended[3:])
    client = Client()
    client.force_login(owner)
    page = client.get(series.get_absolute_url()).content.decode()
    assert "2 of 20 verified" in page
    assert page.count("Not begun, because one that came before it") == 17
    assert "hx-get" not in page


def test_each_for_itself_where_nobody_asked_to_stop(
    twenty: tuple[list[Environment], dict[str, dict[str, Any]]], owner: Person
):
    found, places = twenty
    places["app-1"]["behaviour"].write_text('{"refuse": "bank"}')
    series = actions.apply_to_several(asked=asked(found[:4]), reason="renewal", stop_at_failure=False, by=owner)
    assert {rollout.state for rollout in series.rollouts.all()} == {"requested"}
    assert [r.state for r in work_off(series)] == ["verified", "rolled_back", "verified", "verified"]


def test_what_is_refused_for_one_is_asked_for_none(
    twenty: tuple[list[Environment], dict[str, dict[str, Any]]], owner: Person
):
    found, _places = twenty
    wanted = asked(found[:3])
    certificates.add(environment=found[1], name="Another", identity=pkcs12.read(pki.pfx(IDENTITY, "x"), "x"), by=owner)
    with pytest.raises(Refused, match=r"Nothing was applied\. Invoicing / Site 01: Somebody changed something"):
        actions.apply_to_several(asked=wanted, reason="renewal", stop_at_failure=True, by=owner)
    assert not Series.objects.exists()
    assert not Rollout.objects.exists()
    with pytest.raises(Refused, match="at least two"):
        actions.apply_to_several(asked=wanted[:1], reason="renewal", stop_at_failure=True, by=owner)


def test_the_rest_of_a_series_can_be_taken_back(
    twenty: tuple[list[Environment], dict[str, dict[str, Any]]], owner: Person
):
    found, _places = twenty
    series = actions.apply_to_several(asked=asked(found[:3]), reason="renewal", stop_at_failure=True, by=owner)
    assert actions.cancel_rest(series=series, by=owner) == 2
    assert [r.state for r in work_off(series)] == ["verified", "cancelled", "cancelled"]
    with pytest.raises(Refused, match="None of them waits"):
        actions.cancel_rest(series=series, by=owner)
    assert Event.objects.filter(action="series.cancelled").count() == 1


def test_the_page_offers_what_one_may_apply_and_shows_a_series_to_who_may_see_it(
    twenty: tuple[list[Environment], dict[str, dict[str, Any]]], application: Application
):
    found, _places = twenty
    mary, eve = (Person.objects.create_user(name, password="x") for name in ("mary", "eve"))
    for environment in found[:2]:
        Membership.objects.create(person=mary, application=application, environment=environment, role="operator")
    client = Client()
    client.force_login(mary)
    page = client.get("/apply/").content.decode()
    assert [f"Site {n:02}" in page for n in range(4)] == [True, True, False, False]
    choices = [f"{environment.pk}:{digest}" for environment, digest in asked(found[:2])]
    foreign = client.post("/apply/", {"environments": [*choices, f"{found[2].pk}:x"], "reason": "renewal"})
    assert foreign.status_code == 422
    made = client.post("/apply/", {"environments": choices, "reason": "renewal", "stop_at_failure": "on"})
    assert made.status_code == 302
    assert client.get(made.headers["Location"]).status_code == 200
    stranger = Client()
    stranger.force_login(eve)
    for where in (made.headers["Location"], f"{made.headers['Location']}live/"):
        assert stranger.get(where).status_code == 404
    assert stranger.post(made.headers["Location"]).status_code == 404


# --- Waiting for what is under way ---


def test_an_apply_waits_for_the_one_before_it_and_a_newer_one_takes_its_place(
    running_app: Any, environment: Environment, owner: Person, add_certificate: Callable[..., Any], run_rollout: Any
):
    def ask(name: str) -> Rollout:
        add_certificate(name)
        shown = actions.pending(environment)[0].digest
        return actions.apply(environment=environment, shown=shown, reason=name, by=owner)

    first, second, third = ask("First"), ask("Second"), ask("Third")
    second.refresh_from_db()
    assert (first.state, second.state, third.state) == ("requested", "cancelled", "waiting")
    assert "A newer one took its place" in second.sentence
    client = Client()
    client.force_login(owner)
    assert "begins by itself" in client.get(third.get_absolute_url()).content.decode()
    actions.begin_what_waits()
    third.refresh_from_db()
    assert third.state == "waiting", "the first one is still under way"
    first = run_rollout(first)
    actions.begin_what_waits()
    third = run_rollout(third)
    assert (first.state, third.state) == ("verified", "verified")
    assert third.previous == first.revision, "it goes back to what ran when it began"
    assert third.bundle is not None
    assert Destination.objects.get().observed_digest == third.bundle.digest


def test_a_waiting_one_can_be_cancelled_and_a_second_click_makes_none(
    running_app: Any, environment: Environment, owner: Person, add_certificate: Callable[..., Any]
):
    add_certificate("First")
    shown = actions.pending(environment)[0].digest
    first = actions.apply(environment=environment, shown=shown, reason="x", by=owner)
    with pytest.raises(Refused, match="already being applied"):
        actions.apply(environment=environment, shown=shown, reason="x", by=owner)
    assert Rollout.objects.count() == 1
    add_certificate("Second")
    shown = actions.pending(environment)[0].digest
    second = actions.apply(environment=environment, shown=shown, reason="x", by=owner)
    actions.cancel(rollout=second, by=owner)
    second.refresh_from_db()
    assert second.state == "cancelled"
    first.refresh_from_db()
    assert first.state == "requested"
