"""Rollouts against a real app: each ends in the new configuration or in the old one, running."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from audit.models import Event
from certificates import actions as certificates
from environments.refusals import Refused
from rollouts import actions, holding, moves
from rollouts.connectors import connect
from rollouts.models import Destination, Revision, Rollout
from rollouts.standing import standing

pytestmark = pytest.mark.django_db(transaction=True)


def platform_calls(place: dict[str, Any]) -> list[str]:
    """What the platform was asked to do, by its own record."""
    log = Path(place["folder"]) / "platform-log.jsonl"
    return [json.loads(line)["call"] for line in log.read_text().splitlines()]


def test_an_apply_ends_up_to_date_with_the_digest_that_the_app_reports(
    running_app, place, environment, owner, add_certificate, apply
):
    certificate = add_certificate()
    target = certificates.read_target(environment=environment, text="https://api.bank.example/v1")
    certificates.pin(environment=environment, target=target, certificate=certificate, by=owner)
    before = connect("local-process", place).observe()

    rollout = apply(reason="Bank payments go live", ticket="CHG-1")

    assert (rollout.state, rollout.proof) == ("verified", "reported"), rollout.failure
    now = connect("local-process", place).observe()
    assert now.status == "running"
    assert now.incarnation != before.incarnation
    assert now.digest == rollout.bundle.digest
    stand = standing(environment)
    assert (stand.configuration.text, stand.changes) == ("Up to date", ())
    assert stand.destination.running.number == 1
    assert platform_calls(place)[-2:] == ["stop", "start"]


def test_an_app_that_does_not_come_up_gets_its_old_configuration_back(
    running_app, place, environment, owner, add_certificate, apply
):
    add_certificate("First")
    assert apply().state == "verified"
    good = connect("local-process", place).observe()
    add_certificate("Second")
    # The app refuses to start with the new configuration, and starts with the old one.
    place["behaviour"].write_text(json.dumps({"refuse": "second"}))

    rollout = apply()

    assert rollout.state == "rolled_back"
    assert "did not come up" in rollout.failure
    now = connect("local-process", place).observe()
    assert now.status == "running"
    assert now.digest == good.digest
    stand = standing(environment)
    assert stand.configuration.text == "Rolled back, 1 is running"
    with pytest.raises(Refused, match="blocked"):
        apply()
    place["behaviour"].unlink()
    assert apply(insist=True).state == "verified"


def test_stop_and_start_go_both_ways_when_there_are_changes(
    running_app, place, environment, owner, add_certificate, apply, run_rollout
):
    add_certificate("First")
    apply()
    assert run_rollout(actions.stop(environment=environment, by=owner)).state == "verified"
    assert connect("local-process", place).observe().status == "stopped"
    add_certificate("Second")
    delivered = apply()
    assert (delivered.state, delivered.proof) == ("verified", "delivered")
    assert connect("local-process", place).observe().status == "stopped", "a stopped app stays stopped unless asked"
    started = run_rollout(actions.start(environment=environment, by=owner))
    assert started.state == "verified"
    assert connect("local-process", place).observe().digest == Destination.objects.get().bundle.digest
    run_rollout(actions.stop(environment=environment, by=owner))
    add_certificate("Third")
    assert apply(start=True).proof == "reported"
    assert run_rollout(actions.restart(environment=environment, by=owner)).proof == "reported"


def test_a_roll_back_runs_the_earlier_revision_and_keeps_the_changes_waiting(
    running_app, environment, owner, add_certificate, apply, run_rollout
):
    add_certificate("First")
    apply()
    add_certificate("Second")
    apply()
    first = Revision.objects.get(environment=environment, number=1)

    rollout = run_rollout(
        actions.roll_back(environment=environment, revision=first, reason="partner refuses", by=owner)
    )

    assert rollout.state == "verified"
    stand = standing(environment)
    assert stand.destination.running == first
    assert len(stand.changes) == 1
    actions.undo_changes(environment=environment, shown=stand.wanted.digest, by=owner)
    assert standing(environment).changes == ()
    assert environment.certificates.get(name="Second").enabled is False


def test_two_requests_at_once_make_one_rollout(running_app, environment, owner, add_certificate):
    add_certificate()
    shown = actions.pending(environment)[0].digest
    actions.apply(environment=environment, shown=shown, reason="once", by=owner)
    with pytest.raises(Refused, match="already being applied"):
        actions.apply(environment=environment, shown=shown, reason="twice", by=owner)
    assert Rollout.objects.count() == 1
    assert Revision.objects.count() == 1, "the second request froze nothing"


def test_an_apply_of_something_else_than_what_was_shown_is_refused(running_app, environment, owner, add_certificate):
    add_certificate()
    shown = actions.pending(environment)[0].digest
    add_certificate("Another")
    with pytest.raises(actions.MovedOn):
        actions.apply(environment=environment, shown=shown, reason="x", by=owner)


def test_a_second_worker_cannot_make_the_same_move(running_app, environment, owner, add_certificate):
    add_certificate()
    rollout = actions.apply(environment=environment, shown=actions.pending(environment)[0].digest, reason="x", by=owner)
    first = moves.take(rollout.pk)
    assert first is not None
    assert moves.take(rollout.pk) is None
    assert moves.advance(rollout.pk) is None
    # The first worker's lease runs out, another takes over: the first one may do nothing any more.
    Rollout.objects.update(lease_until="2020-01-01T00:00:00Z")
    assert moves.take(rollout.pk).fence > first.fence
    with pytest.raises(moves.Fenced):
        moves.begin(first)
    with pytest.raises(moves.Fenced):
        holding.hold(first)


@pytest.mark.parametrize("state", ["stopping", "starting", "verifying"])
def test_a_worker_that_died_on_its_way_is_resumed_by_the_next(
    state, running_app, place, environment, owner, add_certificate, monkeypatch, run_rollout
):
    """The worker dies right after the outside call of this state, before it could record anything."""
    add_certificate()
    rollout = actions.apply(environment=environment, shown=actions.pending(environment)[0].digest, reason="x", by=owner)
    while Rollout.objects.get(pk=rollout.pk).state != "stopping":
        moves.advance(rollout.pk)
    app = connect("local-process", place)
    app.stop()
    if state != "stopping":
        app.start()
    Rollout.objects.update(
        state="stopping" if state != "verifying" else "verifying", lease_until="2020-01-01T00:00:00Z"
    )

    assert run_rollout(rollout).state == "verified"
    assert app.observe().status == "running"


def test_the_start_after_our_stop_waits_for_no_database(
    running_app, place, environment, owner, add_certificate, monkeypatch
):
    add_certificate()
    rollout = actions.apply(environment=environment, shown=actions.pending(environment)[0].digest, reason="x", by=owner)
    while Rollout.objects.get(pk=rollout.pk).state != "stopping":
        moves.advance(rollout.pk)

    def broken(*_args: object, **_kwargs: object) -> None:
        raise moves.Error("the disk is full")

    monkeypatch.setattr(moves, "enter", broken)
    monkeypatch.setattr(moves.Line, "ended", broken)
    moves.advance(rollout.pk)
    assert platform_calls(place)[-2:] == ["stop", "start"]
    monkeypatch.undo()
    Rollout.objects.update(lease_until=None)
    while (again_in := moves.advance(rollout.pk)) is not None:
        time.sleep(again_in)
    rollout.refresh_from_db()
    assert rollout.state == "verified"
    assert platform_calls(place)[-2:] == ["stop", "start"], "resuming stopped nothing again"


def test_every_end_is_in_the_audit_log(running_app, environment, add_certificate, apply):
    add_certificate()
    apply()
    assert {"rollout.requested", "rollout.verified", "key.opened", "export.opened"} <= set(
        Event.objects.values_list("action", flat=True)
    )
