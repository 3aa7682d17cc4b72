"""A hundred environments whose apps take half a minute to come up, and two workers: none of them may sit and wait.

Long; `pytest -m soak tests/journeys/test_a_hundred_restarts.py` prints how long it took.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ports
from tests.journeys.product import PROJECT, Product

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
APPS, SECONDS = 100, 30
SLOW = PROJECT / "tests" / "contracts" / "slow_app.py"

PREPARE = """
from certificates import actions as certificates, pkcs12
from django.conf import settings
from environments import actions as environments
from environments.models import Environment, Person
from rollouts import actions
from rollouts.connectors import connect
from tests import pki
owner = Person.objects.get(is_superuser=True)
application = environments.create_application(name="Sites", by=owner)
identity = pkcs12.read(pki.pfx(pki.issue("client", authority=pki.make_authority("CA")), "x"), "x")
for name, place in settings.LOCAL_PROCESSES.items():
    if name.startswith("site-"):
        connect("local-process", place).start()
for name in settings.LOCAL_PROCESSES:
    if name.startswith("site-"):
        made = environments.create_environment(application=application, name=name, by=owner)
        Environment.objects.filter(pk=made.pk).update(connection_tests="skip")
        actions.use_place(environment=made, place=name, by=owner)
        certificates.add(environment=made, name="Bank", identity=identity, by=owner)
"""
APPLY = """
import json
from environments.models import Environment, Person
from rollouts import actions
owner = Person.objects.get(is_superuser=True)
asked = [(e, actions.pending(e)[0].digest) for e in Environment.objects.select_related("application")]
print(actions.apply_to_several(asked=asked, reason="soak", stop_at_failure=False, by=owner).pk)
"""
LOOK = """
import json
from rollouts.models import Rollout
found = Rollout.objects.exclude(series=None)
spans = [(r.finished_at - r.created_at).total_seconds() for r in found if r.finished_at]
downs = [r.downtime.total_seconds() for r in found if r.downtime]
print(json.dumps([len(found), sum(r.state == "verified" for r in found), spans, downs]))
"""


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    places = {
        f"site-{number}": {
            "title": f"Site {number}",
            "status_url": f"http://127.0.0.1:{port}/status",
            "argv": [sys.executable, "-S", "-E", str(SLOW), str(port), "{configuration}", str(SECONDS)],
        }
        for number, port in enumerate(ports.free_ports(APPS))
    }
    (tmp_path / "places.json").write_text(json.dumps(places))
    running = Product(tmp_path / "data", {"COUNTERSIGN_PLACES": str(tmp_path / "places.json")})
    running.start()
    yield running
    running.stop()


def shell(product: Product, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", code],
        cwd=PROJECT, env=product.environ, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_hundred_restarts_of_half_a_minute_by_two_workers(product: Product) -> None:
    shell(product, PREPARE)
    time.sleep(SECONDS)
    shell(product, APPLY)
    began = time.monotonic()
    while True:
        asked, verified, spans, downs = json.loads(shell(product, LOOK))
        if len(spans) == asked or time.monotonic() - began > 300:
            break
        time.sleep(2)
    assert asked == APPS
    spans, downs = sorted(spans), sorted(downs)
    print(
        f"\n{verified} of {asked} verified; from request to end: first {spans[0]:.0f} s, median "
        f"{spans[len(spans) // 2]:.0f} s, last {spans[-1]:.0f} s; down: median {downs[len(downs) // 2]:.0f} s, "
        f"longest {downs[-1]:.0f} s"
    )
    assert verified == APPS
