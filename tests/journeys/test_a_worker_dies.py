"""A worker that is killed in the middle of a rollout takes neither the rollout nor the app along."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import pki
from tests.journeys.product import PROJECT, Product

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

SET_UP = """
from environments import actions; from rollouts import actions as rollouts; from audit.actors import PORTAL
application = actions.create_application(name="Invoicing", by=PORTAL)
environment = actions.create_environment(application=application, name="Test", by=PORTAL)
rollouts.use_place(environment=environment, place="sandbox-app-1", by=PORTAL)
"""


def manage(product: Product, *arguments: str, given: str = "") -> str:
    ran = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT, env=product.environ, input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_a_rollout_survives_the_death_of_its_worker(product: Product, tmp_path: Path):
    manage(product, "shell", "-v", "0", given=SET_UP)
    file = tmp_path / "client.pfx"
    file.write_bytes(pki.pfx(pki.issue("client", authority=pki.make_authority("CA")), "secret"))
    imported = ("import_certificate", "invoicing/test", str(file), "--name", "Bank", "--password-file", "-", "--json")
    assert json.loads(manage(product, *imported, given="secret\n"))["done"]
    manage(product, "pin", "invoicing/test", "open.sandbox.test", "--certificate", "Bank")
    before = product.get(f"{product.app()}/status")

    database = sqlite3.connect(f"file:{product.data}/countersign.sqlite3?mode=ro", uri=True, timeout=5)
    workers = product.pids_of("celery", "worker")
    manage(product, "apply_environment", "invoicing/test", "--reason", "a worker dies")
    deadline = time.monotonic() + 60
    while not database.execute("select 1 from rollouts_step").fetchall():
        assert time.monotonic() < deadline, "no worker began"
        time.sleep(0.005)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)

    deadline = time.monotonic() + 150
    while (state := database.execute("select state from rollouts_rollout").fetchone()[0]) != "verified":
        assert state not in ("refused", "rolled_back", "needs_help", "cancelled")
        assert time.monotonic() < deadline, f"still {state}"
        time.sleep(0.5)
    after = product.get(f"{product.app()}/status")
    assert after["status"] == "running"
    assert after["certificates"] == 1
    assert after["incarnation"] != before["incarnation"]
    calls = [json.loads(line)["call"] for line in (product.data / "apps/sandbox-app-1/platform-log.jsonl").open()]
    assert calls[0] == "start", "the product's own start"
    assert calls[1:] in (["stop", "start"], ["stop", "start", "stop", "start"]), (
        "one stop and one start, and one resend"
    )


def test_after_a_stop_and_a_start_everything_is_there(product: Product):
    """Runs after the test above, on its product."""
    before = product.get(f"{product.app()}/status")
    product.stop()
    assert product.processes() == [], "Ctrl-C leaves no process"
    product.start()
    again = product.get(f"{product.app()}/status")
    assert (again["digest"], again["certificates"]) == (before["digest"], 1)
    assert again["incarnation"] != before["incarnation"]
