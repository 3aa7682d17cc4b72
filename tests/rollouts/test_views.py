"""The pages of an environment, with real actions behind them."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import Event
from certificates import actions as certificates
from certificates import pkcs12
from certificates.models import ClientCertificate, Comparison
from environments import actions as environments
from environments.models import Person
from rollouts import actions, moves
from rollouts.connectors import connect
from rollouts.models import Destination, Revision, Rollout, Step
from rollouts.standing import standing
from tests import crowd
from tests.conftest import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def page(client, owner):
    client.force_login(owner)
    return client


@pytest.fixture
def person(application, owner):
    def add(name, role):
        made = Person.objects.create_user(name, password=PASSWORD, first_name=name.capitalize())
        environments.add_member(application=application, person=made, role=role, by=owner)
        return made

    return add


def text(response) -> str:
    """The words of a page, without tags and runs of blanks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def shown(response) -> str:
    found = re.search(r'name="shown" value="([0-9a-f]{64})"', response.content.decode())
    assert found, "the form carries the digest of what it shows"
    return found[1]


def every_page(environment) -> list[str]:
    names = ["environment", "chips", "changes", "apply", "undo", "rollouts", "export", "environment-settings"]
    return [environment.url(name) for name in [*names, "environment-archive"]] + [
        environment.url("ask", kind) for kind in ("stop", "start", "restart")
    ]


# --- Who may see and do what -----------------------------------------------------------------------------------------


def test_a_stranger_finds_none_of_the_pages(client, environment):
    client.force_login(Person.objects.create_user("mallory", password=PASSWORD))
    assert {client.get(address).status_code for address in every_page(environment)} == {404}


def test_a_viewer_reads_and_is_told_who_may_do_the_rest(
    client, environment, person, running_app, add_certificate, apply
):
    environments.add_member(
        application=environment.application,
        person=Person.objects.create_user("ada", first_name="Ada"),
        role="owner",
        by=Person.objects.get(username="grace"),
    )
    add_certificate()
    rollout = apply()
    add_certificate("Second")
    client.force_login(person("vera", "viewer"))
    for name in ("environment", "changes", "rollouts", "export", "environment-settings"):
        assert client.get(environment.url(name)).status_code == 200
    assert client.get(rollout.get_absolute_url()).status_code == 200
    assert client.get(environment.url("revision", 1)).status_code == 200
    assert "ask Ada" in text(client.get(environment.url("export")))
    overview = client.get(environment.url("environment")).content.decode()
    assert environment.url("apply") not in overview
    assert environment.url("undo") not in overview
    for name, args in {"apply": (), "undo": (), "export": (), "environment-settings": (), "roll-back": (1,)}.items():
        refused = client.post(environment.url(name, *args), {"reason": "x"})
        assert refused.status_code == 403
    assert client.post(environment.url("ask", "stop")).status_code == 403
    assert Rollout.objects.count() == 1


@pytest.mark.parametrize("name", ["chips", "changes", "rollouts", "environment"])
def test_a_page_that_only_shows_takes_no_post(name, page, environment):
    assert page.post(environment.url(name)).status_code == 405


def test_of_two_who_change_the_settings_at_once_the_second_sees_what_the_first_saved(page, environment):
    address = environment.url("environment-settings")
    values = {"form": "environment", "name": environment.name, "runtime_version": "10.12.3"}
    values["shown"] = page.get(address).context["form"]["shown"].value()
    assert page.post(address, {**values, "production": "on"}).status_code == 302

    refused = page.post(address, values)

    assert refused.status_code == 422
    assert "“yes”" in text(refused)
    environment.refresh_from_db()
    assert environment.production
    shown = refused.context["form"]["shown"].value()
    assert page.post(address, {**values, "shown": shown}).status_code == 302
    environment.refresh_from_db()
    assert not environment.production


# --- How it stands ---------------------------------------------------------------------------------------------------


def test_an_empty_environment_is_asked_which_certificate_it_shows_to_whom(page, environment):
    assert "Which certificate does your app show to whom?" in text(page.get(environment.url("environment")))


def test_the_overview_names_what_runs_with_its_evidence(page, environment, running_app, add_certificate, apply):
    add_certificate()
    apply()
    said = text(page.get(environment.url("environment")))
    assert "The app itself reports the digest of what was delivered" in said
    assert "Up to date" in said
    assert "Bank payments" in said
    assert "Tiny app" in said
    assert "Which certificate does your app" not in said


def test_an_app_that_we_stopped_is_not_called_running_by_an_older_look(
    page, environment, running_app, owner, run_rollout
):
    assert re.search(r"Running since", text(page.get(environment.url("environment"))))
    run_rollout(actions.stop(environment=environment, by=owner))
    Destination.objects.update(observed_status="running", observed_at=Rollout.objects.get().created_at)
    said = text(page.get(environment.url("environment")))
    assert "Running since" not in said
    assert "Stopped" in said


def test_a_stopped_app_is_not_shown_as_healthy_anywhere(
    page, environment, running_app, owner, add_certificate, apply, run_rollout
):
    add_certificate("First")
    apply()
    run_rollout(actions.stop(environment=environment, by=owner))
    stand = standing(environment)
    assert (stand.configuration.text, stand.also_stopped) == ("Stopped", None)
    said = text(page.get(environment.url("environment")))
    assert "Up to date" not in said
    assert "its digest was reported by the app itself before the stop" in said
    assert "What ran last" in said
    assert re.search(r"not running; reported by the app itself .*, before the stop", said)
    home = text(page.get("/"))
    assert "Stopped" in home
    assert "Needs you" not in home, "it is no production"
    add_certificate("Second")
    stand = standing(environment)
    assert (stand.configuration.text, stand.also_stopped.text) == ("1 change not running", "Stopped")
    assert re.search(r"1 change not running Stopped", text(page.get("/")))
    type(environment).objects.update(production=True)
    assert re.search(r"Needs you .* Stopped Invoicing / Acceptance .*stopped by Grace", text(page.get("/")))


def test_an_app_that_is_wanted_and_runs_again_is_not_called_stopped(
    page, environment, running_app, owner, add_certificate, apply, run_rollout
):
    add_certificate()
    apply()
    run_rollout(actions.stop(environment=environment, by=owner))
    run_rollout(actions.start(environment=environment, by=owner))
    assert standing(environment).configuration.text == "Up to date"
    said = text(page.get(environment.url("environment")))
    assert "What runs" in said
    assert "before the stop" not in said


def test_the_banner_tells_left_out_from_removed_and_ends_with_the_last_restarts(
    page, environment, running_app, owner, add_certificate, apply
):
    certificate = add_certificate("First")
    for host in ("one.example.com", "two.example.com"):
        target = certificates.read_target(environment=environment, text=host)
        pin = certificates.pin(environment=environment, target=target, certificate=certificate, by=owner)
    apply()
    certificates.disable(certificate=certificate, by=owner)
    said = text(page.get(environment.url("environment")))
    assert "1 certificate left out (you), 2 pins left out (you)" in said
    assert re.search(r"The last restart took about \d+ s\.", said)
    assert text(page.get(environment.url("changes"))).count("Left out") == 3
    certificates.unpin(pin=pin, by=owner)
    assert "1 pin left out (you), 1 pin removed (you)" in text(page.get(environment.url("environment")))


def test_the_chips_poll_while_something_is_under_way_and_end_by_themselves(
    page, environment, running_app, owner, run_rollout
):
    rollout = actions.restart(environment=environment, by=owner)
    during = page.get(environment.url("chips"))
    assert during.status_code == 200
    assert "hx-trigger" in during.content.decode()
    run_rollout(rollout)
    after = page.get(environment.url("chips"))
    assert after.status_code == 286
    assert "hx-trigger" not in after.content.decode()


def test_the_number_of_queries_of_a_page_does_not_grow_with_the_data(
    page, environment, running_app, add_certificate, apply, owner, person
):
    def measure() -> dict[str, int]:
        names = ("environment", "changes", "apply", "undo", "rollouts", "export", "environment-settings")
        addresses = {name: environment.url(name) for name in names} | {
            "revision": environment.url("revision", Revision.objects.count()),
            "rollout": Rollout.objects.latest("created_at").get_absolute_url(),
        }
        found = {}
        for name, address in addresses.items():
            with CaptureQueriesContext(connection) as queries:
                assert page.get(address).status_code == 200
            found[name] = len(queries)
        return found

    def pin(text, certificate):
        target = certificates.read_target(environment=environment, text=text)
        certificates.pin(environment=environment, target=target, certificate=certificate, by=owner)

    add_certificate("First")
    apply()
    pin("one.example.com", add_certificate("Second"))
    apply()
    pin("two.example.com", add_certificate("Third"))
    few = measure()
    person("vera", "viewer")
    person("olga", "operator")
    for number in range(3):
        pin(f"host{number}.example.com", add_certificate(f"More {number}"))
    apply()
    certificates.disable(certificate=ClientCertificate.objects.get(name="First"), by=owner)
    pin("three.example.com", add_certificate("Last"))
    pin("four.example.com", add_certificate("Very last"))
    assert measure() == few


@pytest.mark.parametrize("role", [None, "viewer", "operator"])
def test_each_poll_of_a_rollout_asks_at_most_six_queries_and_polls_end(
    role, client, owner, environment, running_app, add_certificate, person
):
    somebody = owner if role is None else person("ada", role)
    if role == "operator":
        # Several roles at once, one of them here only, are no further query.
        place = {"application": environment.application, "person": somebody, "by": owner}
        environments.add_member(role="viewer", environment=environment, **place)
        environments.add_member(role="exporter", **place)
    client.force_login(somebody)

    def poll(rollout: Rollout) -> str:
        address = environment.url("rollout-live", rollout.pk)
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(address)
        assert len(queries) <= 6, "\n".join(query["sql"][:300] for query in queries)
        rollout.refresh_from_db()
        assert answer.status_code == (286 if rollout.is_final else 200)
        assert ("hx-get" in answer.content.decode()) is not rollout.is_final
        assert 'id="changes" hx-swap-oob' in answer.content.decode() or not rollout.is_final
        return rollout.state

    polled = []
    for name in ("First", "Second"):
        add_certificate(name)
        shown = actions.pending(environment)[0].digest
        rollout = actions.apply(environment=environment, shown=shown, reason="test", by=owner)
        polled.append(poll(rollout))
        while (again_in := moves.advance(rollout.pk)) is not None:
            time.sleep(again_in)
            polled.append(poll(rollout))
        polled.append(poll(rollout))
        assert "hx-get" not in client.get(rollout.get_absolute_url()).content.decode()
    assert polled.count("requested") == 2
    assert {"delivering", "verifying"} <= set(polled)
    assert polled[-1] == "verified"


def test_a_rollout_that_changes_nothing_says_so_until_its_last_poll(page, environment, running_app, owner, run_rollout):
    rollout = run_rollout(actions.restart(environment=environment, by=owner))
    answer = page.get(f"{rollout.get_absolute_url()}live/")
    assert answer.status_code == 286
    assert "hx-swap-oob" not in answer.content.decode()


def test_pages_of_an_environment_ask_as_often_for_a_thousand_certificates_as_for_ten(page, environment, running_app):
    def queries() -> dict[str, list[int]]:
        """On the first look after a change, which counts anew, and on the next."""
        found: dict[str, list[int]] = {}
        for name in ("environment", "chips", "rollouts", "environment-settings", "changes"):
            Comparison.objects.all().delete()
            for _look in range(2):
                with CaptureQueriesContext(connection) as captured:
                    assert page.get(environment.url(name)).status_code in (200, 286)
                found.setdefault(name, []).append(len(captured))
        return found

    crowd.fill(environment, 10)
    few = queries()
    crowd.fill(environment, 990)
    assert queries() == few
    assert max(warm for _cold, warm in few.values()) <= 20


def test_a_list_of_revisions_counts_what_each_holds_without_reading_it(
    page, environment, running_app, owner, add_certificate, apply
):
    bank = add_certificate()
    for text_typed in ("one.example.com", "two.example.com"):
        target = certificates.read_target(environment=environment, text=text_typed)
        certificates.pin(environment=environment, target=target, certificate=bank, by=owner)
    apply()
    never = certificates.read_target(environment=environment, text="three.example.com", never=True)
    certificates.pin(environment=environment, target=never, certificate=None, by=owner)
    apply()
    for revision in (line.revision for line in page.get(environment.url("rollouts")).context["revisions"]):
        content = Revision.objects.get(pk=revision.pk).frozen
        assert (revision.certificates, revision.pins) == (len(content.slots), len(content.pins))
    said = text(page.get(environment.url("rollouts")))
    assert "1 certificate, 3 pins" in said
    assert "1 certificate, 2 pins" in said


def test_many_changes_are_turned_page_by_page_and_applied_as_a_whole(page, environment, running_app):
    crowd.fill(environment, 150)
    first = page.get(environment.url("changes"))
    assert "300 changes that are not running" in text(first)
    assert "Page 1 of 2" in text(first)
    second = text(page.get(environment.url("changes"), {"page": 2}))
    assert "host-150.acceptance.example.com" in second
    assert "Apply 300 changes and restart" in text(page.get(environment.url("apply")))
    undo = text(page.get(environment.url("undo")))
    assert "client 12 stay on the list, disabled. So do 138 more." in undo


# --- Apply -----------------------------------------------------------------------------------------------------------


def test_an_apply_from_the_page_runs_and_its_page_shows_the_evidence(
    page, environment, running_app, add_certificate, run_rollout
):
    add_certificate()
    form = page.get(environment.url("apply"))
    sent = {"shown": shown(form), "reason": "Bank goes live", "ticket": "CHG-1"}
    answer = page.post(environment.url("apply"), sent)
    rollout = Rollout.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, rollout.get_absolute_url())
    before = page.get(rollout.get_absolute_url())
    assert "Requested · Revision 1 · Invoicing / Acceptance" in text(before)
    assert 'hx-trigger="every 1s"' in before.content.decode()
    assert "Cancel" in text(before)
    assert "waits for a worker" in text(before), "no worker has shown itself in this test"
    run_rollout(rollout)
    after = page.get(rollout.get_absolute_url())
    said = text(after)
    assert "hx-trigger" not in after.content.decode()
    assert "Cancel" not in said
    assert "The app itself reports the digest of what was delivered." in said
    assert "Bank goes live" in said
    assert "CHG-1" in said
    assert re.search(r"Delivered , done .* Verified , done", said)
    assert page.get(environment.url("rollout-live", rollout.pk)).status_code == 286


def test_an_apply_without_a_reason_keeps_the_ticket_and_asks_for_nothing(
    page, environment, running_app, add_certificate
):
    add_certificate()
    answer = page.post(
        environment.url("apply"), {"shown": shown(page.get(environment.url("apply"))), "reason": " ", "ticket": "CHG-9"}
    )
    assert answer.status_code == 422
    assert "Say why, in a few words" in text(answer)
    assert 'value="CHG-9"' in answer.content.decode()
    assert not Rollout.objects.exists()


def test_a_diff_that_moved_on_is_shown_anew_and_nothing_typed_is_lost(page, environment, running_app, add_certificate):
    add_certificate()
    seen = shown(page.get(environment.url("apply")))
    add_certificate("Another")
    answer = page.post(environment.url("apply"), {"shown": seen, "reason": "Bank goes live", "ticket": "CHG-1"})
    assert answer.status_code == 422
    said = text(answer)
    assert "Somebody changed something meanwhile" in said
    assert "Another" in said
    assert 'value="Bank goes live"' in answer.content.decode()
    assert 'value="CHG-1"' in answer.content.decode()
    assert not Rollout.objects.exists()
    again = page.post(environment.url("apply"), {"shown": shown(answer), "reason": "Bank goes live"})
    assert again.status_code == 302


def test_the_second_click_of_a_double_click_leads_to_the_first_ones_rollout(
    page, environment, running_app, add_certificate, run_rollout
):
    add_certificate()
    sent = {"shown": shown(page.get(environment.url("apply"))), "reason": "once"}
    first = page.post(environment.url("apply"), sent)
    second = page.post(environment.url("apply"), sent, follow=True)
    assert second.redirect_chain[-1][0] == first["Location"]
    assert "already being applied" in text(second)
    run_rollout(Rollout.objects.get())
    late = page.post(environment.url("apply"), sent)
    assert late["Location"] == first["Location"]
    assert Rollout.objects.count() == Revision.objects.count() == 1


def test_what_failed_is_blocked_until_somebody_ticks_that_they_insist(
    page, place, environment, running_app, owner, add_certificate, apply, run_rollout
):
    add_certificate("First")
    apply()
    add_certificate("Second")
    assert "insist" not in page.get(environment.url("apply")).content.decode()
    place["behaviour"].write_text(json.dumps({"refuse": "second"}))
    failed = apply()
    restarted = run_rollout(actions.restart(environment=environment, by=owner))
    assert restarted.state == "verified"
    overview = page.get(environment.url("environment")).content.decode()
    assert f'href="{failed.get_absolute_url()}">See why' in overview, "not the restart since then"
    said = text(page.get(failed.get_absolute_url()))
    assert "Rolled back to revision 1" in said
    assert re.search(r"Verifying , failed failed .*Went back , done", said)
    form = page.get(environment.url("apply"))
    assert "Try it again all the same" in text(form)
    sent = {"shown": shown(form), "reason": "again"}
    refused = page.post(environment.url("apply"), sent)
    assert refused.status_code == 422
    assert "tick “Try it again all the same”" in text(refused)
    assert page.post(environment.url("apply"), sent | {"insist": "on"}).status_code == 302


@pytest.mark.parametrize(("choice", "status"), [("yes", "running"), ("no", "stopped")])
def test_a_stopped_app_is_started_with_the_changes_or_only_gets_them_delivered(
    choice, status, page, place, environment, running_app, owner, add_certificate, run_rollout
):
    run_rollout(actions.stop(environment=environment, by=owner))
    add_certificate()
    form = page.get(environment.url("apply"))
    assert "Deliver only; the app stays stopped" in text(form)
    page.post(environment.url("apply"), {"shown": shown(form), "reason": "x", "start": choice})
    rollout = run_rollout(Rollout.objects.first())
    assert rollout.state == "verified", rollout.failure
    assert connect("local-process", place).observe().status == status


def test_undo_says_what_stays_on_the_list_and_puts_back_what_runs(
    page, environment, running_app, owner, add_certificate, apply
):
    add_certificate("First")
    apply()
    add_certificate("Second")
    form = page.get(environment.url("undo"))
    assert "Second stays on the list, disabled." in text(form)
    assert page.post(environment.url("undo"), {"shown": "0" * 64}).status_code == 422
    assert len(standing(environment).changes) == 1
    assert page.post(environment.url("undo"), {"shown": shown(form)}).status_code == 302
    assert standing(environment).changes == ()
    assert ClientCertificate.objects.get(name="Second").enabled is False


def test_nothing_is_undone_while_it_is_being_applied(page, environment, running_app, owner, add_certificate):
    add_certificate()
    digest = actions.pending(environment)[0].digest
    actions.apply(environment=environment, shown=digest, reason="x", by=owner)
    answer = page.post(environment.url("undo"), {"shown": digest})
    assert answer.status_code == 422
    assert "wait for it to end" in text(answer)
    assert ClientCertificate.objects.get().enabled is True


def test_restart_says_exactly_what_will_run(page, environment, running_app, add_certificate, apply, run_rollout):
    add_certificate("First")
    apply()
    add_certificate("Second")
    said = text(page.get(environment.url("ask", "restart")))
    assert "Restarts with revision 1." in said
    assert "Your 1 change stays waiting." in said
    assert page.post(environment.url("ask", "restart"), {"reason": ""}).status_code == 302
    rollout = run_rollout(Rollout.objects.first())
    assert (rollout.kind, rollout.state) == ("restart", "verified")
    assert len(standing(environment).changes) == 1
    assert page.post(environment.url("ask", "start")).status_code == 422, "it runs already"
    assert page.get(environment.url("ask", "dance")).status_code == 404


# --- Rollouts and revisions ------------------------------------------------------------------------------------------


def test_a_rollout_that_ended_says_so_and_leads_to_the_app(
    page, environment, running_app, place, settings, add_certificate, run_rollout
):
    settings.LOCAL_PROCESSES["tiny"]["address"] = "http://127.0.0.1:9/"
    add_certificate()
    digest = actions.pending(environment)[0].digest
    rollout = actions.apply(environment=environment, shown=digest, reason="x", by=Person.objects.get(username="grace"))
    before = page.get(rollout.get_absolute_url())
    assert "What changes" in text(before)
    assert "Open the app" not in text(before)
    rollout = run_rollout(rollout)
    after = page.get(rollout.get_absolute_url())
    assert "What changed" in text(after)
    assert "Back to Acceptance" in text(after)
    assert re.search(r'href="http://127.0.0.1:9/"[^>]*>Open the app', after.content.decode())
    assert "digest of the delivered files; new at every write" in text(after)
    frozen = page.get(environment.url("revision", 1)).content.decode()
    assert rollout.bundle.digest in frozen
    assert rollout.revision.digest in frozen


def test_rollouts_of_one_minute_are_told_apart_by_their_seconds(page, environment, running_app):
    noon = timezone.now().replace(year=2026, month=3, day=5, hour=12, minute=0, second=7, microsecond=0)
    for begun in (noon, noon.replace(second=41), noon.replace(minute=5)):
        Rollout.objects.create(
            environment=environment, kind="stop", state="cancelled", requested_by="Grace", created_at=begun
        )
    said = text(page.get(environment.url("rollouts")))
    assert "12:00:07 UTC" in said
    assert "12:00:41 UTC" in said
    assert "12:05 UTC" in said
    assert "none seen" not in said, "a stop has no downtime of its own"


def test_a_rollout_is_cancelled_only_before_a_worker_began_it(page, environment, running_app, owner):
    rollout = actions.restart(environment=environment, by=owner)
    page.post(environment.url("rollout-cancel", rollout.pk))
    rollout.refresh_from_db()
    assert rollout.state == "cancelled"
    assert "Cancelled before it began" in text(page.get(rollout.get_absolute_url()))
    begun = actions.restart(environment=environment, by=owner)
    moves.take(begun.pk)
    answer = page.post(environment.url("rollout-cancel", begun.pk), follow=True)
    assert "It has begun and cannot be cancelled any more" in text(answer)
    assert environment.url("rollout-cancel", begun.pk) not in answer.content.decode()
    assert 'disabled title="It has begun and cannot be cancelled any more' in answer.content.decode()


def test_the_log_tells_a_step_whose_worker_went_away_from_one_under_way(page, environment, running_app, owner):
    rollout = actions.restart(environment=environment, by=owner)
    Rollout.objects.update(state="stopping", fence=1)
    Step.objects.create(rollout=rollout, state="stopping", fence=1, text="Stop the app")
    live = environment.url("rollout-live", rollout.pk)
    assert "interrupted" not in text(page.get(live))
    Step.objects.create(rollout=rollout, state="stopping", fence=2, text="Stop the app")
    assert text(page.get(live)).count("interrupted") == 1


def test_a_rollout_of_another_environment_is_not_found_here(page, application, environment, running_app, owner):
    other = environments.create_environment(application=application, name="Production", by=owner)
    rollout = actions.restart(environment=environment, by=owner)
    assert page.get(other.url("rollout", rollout.pk)).status_code == 404
    assert page.get(environment.url("revision", 7)).status_code == 404


def test_the_lists_hold_25_a_page_and_offer_the_way_back(page, environment, running_app, add_certificate, apply, owner):
    add_certificate("First")
    apply(reason="the first one", ticket="CHG-77")
    add_certificate("Second")
    apply()
    for _number in range(25):
        Rollout.objects.create(environment=environment, kind="restart", state="cancelled", requested_by="Grace")
    said = page.get(environment.url("rollouts"))
    assert "Page 1 of 2" in text(said)
    assert environment.url("roll-back", 1) in said.content.decode()
    assert environment.url("roll-back", 2) not in said.content.decode(), "it runs"
    assert text(page.get(environment.url("rollouts"), {"page": "2"})).count("CHG-77") == 2


def test_a_roll_back_needs_a_reason_and_leaves_the_changes_waiting(
    page, environment, running_app, add_certificate, apply, run_rollout
):
    add_certificate("First")
    apply()
    add_certificate("Second")
    apply()
    frozen = text(page.get(environment.url("revision", 1)))
    assert "First" in frozen
    assert re.search(r"How it differs from what runs .* Second .*Taken out", frozen)
    assert page.post(environment.url("roll-back", 1), {"reason": ""}).status_code == 422
    assert page.post(environment.url("roll-back", 2), {"reason": "x"}).status_code == 422, "it runs already"
    assert page.post(environment.url("roll-back", 1), {"reason": "partner refuses"}).status_code == 302
    assert run_rollout(Rollout.objects.first()).state == "verified"
    assert Destination.objects.get().running.number == 1
    assert len(standing(environment).changes) == 1


# --- Export ----------------------------------------------------------------------------------------------------------


def test_the_preview_opens_no_key_and_shows_no_password(page, environment, add_certificate, owner):
    add_certificate()
    for query, words in (
        ({"folder": "D:\\App\\Certificates"}, "D:\\App\\Certificates\\certificates\\bank-payments.pfx"),
        ({"exporter": "buildpack-env"}, "MII…"),
    ):
        said = page.get(environment.url("export"), query)
        assert words in said.content.decode().replace("&quot;", '"')
        assert "••••••" in said.content.decode()
        assert "1 byte" not in text(said), "no made-up size"
    assert "written anew with a fresh password at download" in text(said)
    assert not Event.objects.filter(action="key.opened").exists()


def test_nobody_is_told_off_for_a_folder_before_they_could_type_one(page, environment):
    first = page.get(environment.url("export"))
    assert "Type the base folder; then the files stand here." in text(first)
    assert 'class="error"' not in first.content.decode()
    assert "The settings need the folder" in text(page.get(environment.url("export"), {"folder": ""}))


def test_a_folder_that_the_settings_cannot_carry_is_refused_beside_the_field(page, environment, add_certificate):
    add_certificate()
    said = page.get(environment.url("export"), {"folder": "certificates"})
    assert "The base folder is relative" in text(said)
    assert "Download zip" not in text(said)


def test_a_download_is_a_zip_whose_files_open_with_their_new_passwords(page, environment, add_certificate):
    add_certificate()
    sent = {"exporter": "mendix-settings", "folder": "/srv/app", "reason": "for the test server", "password": PASSWORD}
    answer = page.post(environment.url("export"), sent)
    assert answer.status_code == 200, text(answer)
    assert answer["Cache-Control"] == "no-store"
    assert answer["Content-Disposition"] == 'attachment; filename="invoicing-acceptance-mendix-settings.zip"'
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.namelist() == sorted(archive.namelist())
    settings = json.loads(archive.read("custom-settings.json"))
    assert settings["ClientCertificates"] == "/srv/app/certificates/bank-payments.pfx"
    opened = pkcs12.read(archive.read("certificates/bank-payments.pfx"), settings["ClientCertificatePasswords"])
    assert opened.certificate
    event = Event.objects.get(action="export.downloaded")
    assert "for the test server" in event.body
    assert PASSWORD not in "".join(Event.objects.values_list("body", flat=True))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"password": "guess"}, "This is not your password; nothing was exported."),
        ({"password": ""}, "Type the password that you sign in with"),
        ({"reason": ""}, "Say why"),
    ],
)
def test_a_download_without_reason_or_password_opens_no_key(wrong, sentence, page, environment, add_certificate):
    add_certificate()
    sent = {"exporter": "mendix-settings", "folder": "/srv/app", "reason": "why not", "password": PASSWORD} | wrong
    answer = page.post(environment.url("export"), sent)
    assert answer.status_code == 422
    assert sentence in text(answer)
    assert "/srv/app" in answer.content.decode(), "what was typed stays"
    assert PASSWORD not in answer.content.decode(), "the password aside"
    assert not Event.objects.filter(action="key.opened").exists()


def test_only_who_may_take_keys_along_downloads_them(client, environment, add_certificate, person):
    add_certificate()
    sent = {"exporter": "mendix-settings", "folder": "/srv/app", "reason": "x", "password": PASSWORD}
    client.force_login(person("olga", "operator"))
    assert client.post(environment.url("export"), sent).status_code == 403
    client.force_login(person("kim", "exporter"))
    assert client.post(environment.url("export"), sent).status_code == 200


# --- Settings --------------------------------------------------------------------------------------------------------


def test_settings_are_saved_and_a_taken_name_is_refused_beside_the_field(page, application, environment, owner):
    environments.create_environment(application=application, name="Production", by=owner)
    sent = {
        "form": "environment",
        "name": "Staging",
        "runtime_version": "10.12.3",
        "production": "on",
        "base_folder": "/srv",
    }
    assert page.post(environment.url("environment-settings"), sent).status_code == 302
    environment.refresh_from_db()
    assert (environment.name, environment.production, environment.base_folder) == ("Staging", True, "/srv")
    refused = page.post(environment.url("environment-settings"), sent | {"name": "production"})
    assert refused.status_code == 422
    assert "already has an environment with this name" in text(refused)


def test_an_environment_is_placed_on_a_free_place_only(page, application, environment, place, owner):
    said = page.get(environment.url("environment-settings"))
    assert "Tiny app" in text(said)
    assert page.post(environment.url("environment-settings"), {"form": "place"}).status_code == 422
    assert page.post(environment.url("environment-settings"), {"form": "place", "place": "moon"}).status_code == 422
    assert page.post(environment.url("environment-settings"), {"form": "place", "place": "tiny"}).status_code == 302
    assert Destination.objects.get().environment == environment
    other = environments.create_environment(application=application, name="Production", by=owner)
    assert "Every place that the server's settings list is taken" in text(
        page.get(other.url("environment-settings"))
    ).replace("&#x27;", "'")
    assert page.post(other.url("environment-settings"), {"form": "place", "place": "tiny"}).status_code == 422


def test_an_environment_is_archived_unless_something_is_under_way_and_comes_back(
    page, environment, running_app, owner, run_rollout, place
):
    rollout = actions.restart(environment=environment, by=owner)
    refused = page.post(environment.url("environment-archive"))
    assert refused.status_code == 422
    assert "wait for it to end, then archive" in text(refused)
    run_rollout(rollout)
    assert "goes on running" in text(page.get(environment.url("environment-archive")))
    assert page.post(environment.url("environment-archive")).status_code == 302
    assert connect("local-process", place).observe().status == "running"
    assert page.get(environment.url("environment")).status_code == 200
    assert page.get(environment.url("apply")).status_code == 403
    assert environment.url("environment-bring-back") in page.get(environment.url("environment")).content.decode()
    assert page.post(environment.url("environment-bring-back")).status_code == 302
    environment.refresh_from_db()
    assert environment.archived_at is None


def test_an_archived_environment_offers_nothing_but_the_way_back_and_that_to_owners_only(
    page, client, environment, owner, person
):
    person("vera", "viewer")
    offered = text(page.get(environment.url("environment")))
    assert "Set where it runs" in offered
    actions.archive(environment=environment, by=owner)
    said = text(page.get(environment.url("environment")))
    assert "Bring back" in said
    for words in ("Try the sandbox", "Set where it runs", "set it under Settings", "Add client certificate"):
        assert words not in said
    export = text(page.get(environment.url("export"), {"folder": "/srv"}))
    assert "bring it back to download its files" in export
    assert "Download zip" not in export
    client.force_login(Person.objects.get(username="vera"))
    assert "Bring back" not in text(client.get(environment.url("environment")))
