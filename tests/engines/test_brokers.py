"""Each broker with nobody at its other end, and with nobody at all."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rollouts import actions
from tests import services
from tests.journeys.product import PROJECT, Product

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

BROKERS = {"files": None, "valkey": services.Valkey, "rabbitmq": services.RabbitMQ}


@pytest.fixture(scope="module", params=BROKERS)
def server(request: pytest.FixtureRequest) -> Iterator[services.Valkey | services.RabbitMQ | None]:
    with ExitStack() as running:
        kind = BROKERS[request.param]
        yield running.enter_context(kind()) if kind else None


@pytest.fixture
def environ(server: Any, tmp_path: Path) -> dict[str, str]:
    return Product(tmp_path / "data", {"COUNTERSIGN_BROKER_URL": server.url} if server else {}).environ


def run(script: str, environ: Mapping[str, str]) -> Any:
    """A program of the portal's; it prints one JSON value last."""
    ran = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup()\n{script}"],
        cwd=PROJECT, env={**environ, "DJANGO_SETTINGS_MODULE": "portal.settings"}, capture_output=True, text=True,
        check=False, timeout=200,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


TICKS = """
import json, time
from portal import celery
from kombu import Queue
with celery.app.connection_for_write() as connection:
    queue = Queue("celery").bind(connection.default_channel)
    queue.declare(); queue.purge()
clock = celery.Clock(app=celery.app, lazy=True)
clock.setup_schedule = lambda: None
entry = clock.Entry(app=celery.app, name="sweep", task="rollouts.sweep", schedule=3.0, options={"expires": 600.0})
def waiting(at_least):
    # RabbitMQ counts a message a moment after it took it.
    deadline = time.monotonic() + 10
    while (count := celery._waiting()) < at_least and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    return celery._waiting()
for _tick in range(celery.LONGEST_QUEUE):
    clock.apply_entry(entry)
full = waiting(celery.LONGEST_QUEUE)
for _tick in range(20):
    clock.apply_entry(entry)
fuller = waiting(full)
with celery.app.connection_for_write() as connection:
    Queue("celery").bind(connection.default_channel).purge()
clock.apply_entry(entry)
print(json.dumps([celery.LONGEST_QUEUE, full, fuller, waiting(1)]))
"""


def test_a_clock_adds_nothing_to_a_queue_that_nobody_empties(environ: dict[str, str]):
    limit, full, fuller, afterwards = run(TICKS, environ)
    assert full == fuller == limit
    assert afterwards == 1, "and ticks on once somebody did"


NUDGES = """
import json, time, uuid
from rollouts import actions
took = []
for _time in range(3):
    began = time.monotonic()
    actions.nudge(uuid.uuid4())
    took.append(time.monotonic() - began)
print(json.dumps(took))
"""


def test_a_nudge_that_nobody_takes_costs_nobody_more_than_a_moment(server: Any, environ: dict[str, str]):
    """No answer at all, which takes longest; a broker that refuses is done with at once."""
    if server is None:
        folder = Path(environ["COUNTERSIGN_DATA"]) / "queue"
        folder.parent.mkdir(exist_ok=True)
        folder.write_text("in the way")
        assert max(run(NUDGES, environ)) < 10
        return
    server.pause()
    try:
        assert max(run(NUDGES, environ)) < 5
    finally:
        server.resume()
    server.stop()
    try:
        assert max(run(NUDGES, environ)) < 5
    finally:
        server.start()


def test_a_nudge_comes_back_whatever_it_waits_for(monkeypatch: pytest.MonkeyPatch):
    """A name that does not resolve keeps to no time limit of a broker's client."""
    answered = threading.Event()
    monkeypatch.setattr(actions.nudging, "_tell", lambda _rollout, _after: answered.wait(60))
    began = time.monotonic()
    actions.nudge(uuid.uuid4())
    took = time.monotonic() - began
    answered.set()
    assert took < 30
