"""`start_apps`: after a boot, what should run is started, and what runs or was stopped on purpose is left alone."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import call_command

from rollouts import actions
from rollouts.connectors import connect
from rollouts.models import Destination

pytestmark = pytest.mark.django_db(transaction=True)


def run() -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("start_apps", stdout=out, stderr=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def test_an_app_that_should_run_is_started_and_one_that_runs_is_left_alone(
    running_app: Destination, place: dict[str, Any]
) -> None:
    app = connect("local-process", place)
    before = app.observe().incarnation
    assert run() == (0, "The apps that should run were started.\n")
    assert app.observe().incarnation == before
    app.stop()  # as a boot does it, without asking us
    assert run()[0] == 0
    assert app.observe().incarnation not in ("", before)


def test_an_app_that_was_stopped_from_here_stays_stopped(
    running_app: Destination, environment: Any, owner: Any, run_rollout: Any, place: dict[str, Any]
) -> None:
    assert run_rollout(actions.stop(environment=environment, by=owner)).state == "verified"
    assert run()[0] == 0
    assert connect("local-process", place).observe().status == "stopped"


def test_an_app_that_cannot_be_started_is_named(running_app: Destination, place: dict[str, Any], settings: Any) -> None:
    connect("local-process", place).stop()
    settings.LOCAL_PROCESSES = {"tiny": {**place, "argv": ["/nowhere/app"]}}
    code, said = run()
    assert code == 1
    assert said.startswith("Tiny app: The app could not be started (/nowhere/app: No such file or directory)")
