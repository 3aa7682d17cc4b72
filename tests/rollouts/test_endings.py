"""How rollouts end when the world does not hold still: always running, and never said to be what it is not."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from certificates import actions as certificates
from environments.refusals import Refused
from rollouts import actions, holding, moves, tasks
from rollouts.connectors import connect, local_process, sessions
from rollouts.models import Destination, Revision, Rollout, Step
from rollouts.standing import standing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ask(environment, owner):
    """Asks for an apply of what is wanted now, and leaves the moves to the test."""

    def ask(**more: Any) -> Rollout:
        shown = actions.pending(environment)[0].digest
        return actions.apply(environment=environment, shown=shown, reason="test", by=owner, **more)

    return ask


def until(rollout: Rollout, state: str, phase: str = "") -> None:
    for _move in range(40):
        now = Rollout.objects.get(pk=rollout.pk)
        if (now.state, now.phase) == (state, phase):
            return
        time.sleep(moves.advance(rollout.pk) or 0)
    raise AssertionError(f"it never got to {state} {phase}, but to {now.state} {now.phase}")


def until_the_end(rollout: Rollout) -> Rollout:
    """With as many nudges as it takes; pauses are not waited for."""
    for _nudge in range(60):
        Rollout.objects.update(lease_until=None)
        time.sleep(moves.advance(rollout.pk) or 0)
        rollout.refresh_from_db()
        if rollout.is_final:
            return rollout
    raise AssertionError(f"it did not end: {rollout.state} {rollout.phase}")


def refuse(place: dict[str, Any], name: str) -> None:
    """From its next start on, the app does not come up with a configuration that has a file of this name."""
    place["behaviour"].write_text(json.dumps({"refuse": name}))


def report_nothing(place: dict[str, Any]) -> None:
    """From its next start on, the app says that it runs, and not with what."""
    place["behaviour"].write_text(json.dumps({"answer": json.dumps({"status": "running"})}))


def start_by_hand(app: Any) -> str:
    app.start()
    deadline = time.monotonic() + 10
    while app.observe().status != "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return app.observe().incarnation


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_a_database_locked_after_our_stop_delays_nothing_but_the_record(
    seconds, running_app, place, add_certificate, ask, monkeypatch, nobody_writes
):
    add_certificate()
    rollout = ask()
    until(rollout, "stopping")
    stop = local_process.LocalProcess.stop

    def stop_and_lock(app: Any) -> None:
        stop(app)
        locked = threading.Event()

        def lock() -> None:
            with nobody_writes():
                locked.set()
                time.sleep(seconds)

        threading.Thread(target=lock).start()
        locked.wait(5)

    monkeypatch.setattr(local_process.LocalProcess, "stop", stop_and_lock)
    moves.advance(rollout.pk)
    rollout.refresh_from_db()
    assert rollout.state == "verifying", rollout.failure
    assert until_the_end(rollout).state == "verified"


def test_a_crash_on_the_way_back_gets_another_start(running_app, place, add_certificate, apply, ask):
    add_certificate("First")
    apply()
    add_certificate("Second")
    refuse(place, "second")
    rollout = ask()
    until(rollout, "rolling_back", "verify")
    app = connect("local-process", place)
    app.stop()
    assert until_the_end(rollout).state == "rolled_back"
    assert app.observe().status == "running"


def test_a_restart_before_the_delivery_is_not_taken_for_ours(running_app, place, add_certificate, apply, ask):
    add_certificate("First")
    report_nothing(place)
    apply()
    add_certificate("Second")
    rollout = ask()
    until(rollout, "delivering")
    app = connect("local-process", place)
    Rollout.objects.filter(pk=rollout.pk).update(incarnation_before=app.observe().incarnation)
    app.stop()
    with_the_old_files = start_by_hand(app)
    assert until_the_end(rollout).state == "verified"
    assert app.observe().incarnation != with_the_old_files


def test_files_that_read_back_differently_are_no_proof(
    running_app, place, environment, owner, add_certificate, apply, run_rollout
):
    report_nothing(place)
    add_certificate("First")
    assert apply().proof == "read-back"
    folder = (Path(place["folder"]) / "current").resolve()
    next(p for p in folder.rglob("*") if p.is_file()).write_bytes(b"somebody else's")
    rollout = run_rollout(actions.restart(environment=environment, by=owner))
    assert "not those that were delivered" in rollout.failure


def test_an_app_that_others_started_is_not_called_stopped(
    running_app, place, environment, owner, add_certificate, apply, run_rollout
):
    add_certificate("First")
    apply()
    run_rollout(actions.stop(environment=environment, by=owner))
    app = connect("local-process", place)
    by_hand = start_by_hand(app)
    add_certificate("Second")
    rollout = apply()
    assert rollout.state == "refused"
    assert "although it was stopped from here" in rollout.failure
    assert app.observe().incarnation == by_hand
    assert run_rollout(actions.stop(environment=environment, by=owner)).state == "verified"
    assert app.observe().status == "stopped"


def test_a_start_of_what_runs_with_something_else_restarts_it(
    running_app, place, environment, owner, add_certificate, apply, run_rollout
):
    add_certificate("First")
    apply()
    run_rollout(actions.stop(environment=environment, by=owner))
    add_certificate("Second")
    apply()
    app = connect("local-process", place)
    report_nothing(place)
    by_hand = start_by_hand(app)
    assert run_rollout(actions.start(environment=environment, by=owner)).state == "verified"
    assert app.observe().incarnation != by_hand


def test_a_vault_key_that_is_gone_before_the_delivery_touches_nothing(
    running_app, place, add_certificate, ask, settings, tmp_path
):
    add_certificate()
    app = connect("local-process", place)
    before = app.observe()
    rollout = ask()
    until(rollout, "delivering")
    settings.VAULT_KEYRING = {"name": "local", "path": str(tmp_path / "gone.json")}
    assert until_the_end(rollout).state == "refused"
    assert app.observe() == before
    assert Destination.objects.get().blocked_digest == "", "a configuration that was never tried is not blocked"


def test_a_failed_start_with_changes_leaves_the_app_running_and_known_to_run(
    running_app, place, environment, owner, add_certificate, apply, run_rollout
):
    add_certificate("First")
    apply()
    run_rollout(actions.stop(environment=environment, by=owner))
    add_certificate("Second")
    refuse(place, "second")
    assert apply(start=True).state == "rolled_back"
    assert connect("local-process", place).observe().status == "running"
    assert Destination.objects.get().wanted_running
    assert run_rollout(actions.stop(environment=environment, by=owner)).state == "verified"


def test_a_stop_whose_worker_came_late_says_what_it_finds(running_app, place, environment, owner):
    rollout = actions.stop(environment=environment, by=owner)
    until(rollout, "stopping")
    connect("local-process", place).stop()
    Rollout.objects.update(state_since=timezone.now() - timedelta(hours=1))
    assert until_the_end(rollout).state == "verified"
    assert not Destination.objects.get().wanted_running


def test_a_block_outlives_a_roll_back(running_app, place, environment, owner, add_certificate, apply, run_rollout):
    add_certificate("First")
    apply()
    add_certificate("Middle")
    apply()
    add_certificate("Second")
    refuse(place, "second")
    assert apply().state == "rolled_back"
    first = Revision.objects.get(environment=environment, number=1)
    run_rollout(actions.roll_back(environment=environment, revision=first, reason="test", by=owner))
    with pytest.raises(Refused, match="blocked"):
        apply()


def test_undo_keeps_what_was_no_change(running_app, environment, owner, add_certificate, apply):
    kept, other = add_certificate("Kept"), add_certificate("Disabled")
    target = certificates.read_target(environment=environment, text="b.example.com")
    certificates.pin(environment=environment, target=target, certificate=other, note="call Joe", by=owner)
    certificates.disable(certificate=other, by=owner)
    apply()
    late = certificates.read_target(environment=environment, text="c.example.com")
    certificates.pin(environment=environment, target=late, certificate=kept, by=owner)
    actions.undo_changes(environment=environment, shown=actions.pending(environment)[0].digest, by=owner)
    assert [(pin.key, pin.note) for pin in environment.pins.all()] == [("b.example.com", "call Joe")]


def test_a_place_that_vanished_is_said(running_app, environment, add_certificate, apply, settings):
    add_certificate()
    apply()
    settings.LOCAL_PROCESSES = {}
    Destination.objects.update(observed_at=timezone.now() - timedelta(days=3))
    tasks.sweep()
    assert standing(environment).configuration.text == "Can’t reach app"


def test_an_app_that_a_late_call_stopped_is_started_again(running_app, environment, add_certificate, apply, place):
    """Where a platform carries out whatever comes: a worker that was held up wakes after the end and stops the app."""
    add_certificate()
    rollout = apply()
    Step.objects.create(rollout=rollout, state="stopping", fence=1, call="stop", text="Stop the app")
    connect("local-process", place).stop()
    Destination.objects.update(observed_at=None)
    tasks.sweep()
    again = environment.rollouts.first()
    assert (again.kind, again.requested_by) == ("start", "Countersign")
    assert "held up" in again.reason
    assert until_the_end(again).state == "verified"
    assert connect("local-process", place).observe().status == "running"
    Destination.objects.update(observed_at=None)
    tasks.sweep()
    assert environment.rollouts.count() == 2, "once"


def test_an_app_that_ended_by_itself_is_not_started_by_the_portal(
    running_app, environment, add_certificate, apply, place
):
    add_certificate()
    apply()
    connect("local-process", place).stop()
    Destination.objects.update(observed_at=None)
    tasks.sweep()
    assert environment.rollouts.count() == 1
    assert Destination.objects.get().observed_status == "stopped"


def test_a_worker_that_died_here_loses_its_rollout_at_once(running_app, add_certificate, ask, monkeypatch):
    add_certificate()
    rollout = ask()
    died = subprocess.Popen(["true"])
    monkeypatch.setattr(sessions, "me", lambda: sessions.Started(died.pid, 1, sessions.boot()))
    assert holding.take(rollout.pk) is not None
    monkeypatch.undo()
    died.wait()
    assert holding.take(rollout.pk) is None
    assert holding.free_from_the_dead() == [rollout.pk]
    assert holding.take(rollout.pk) is not None
    assert holding.free_from_the_dead() == [], "this one lives"
