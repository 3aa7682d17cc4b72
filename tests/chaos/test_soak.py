"""`make soak`: random deaths at random points, on both set-ups. COUNTERSIGN_SEED repeats what a run printed."""

from __future__ import annotations

import collections
import os
import random
import secrets
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import services
from tests.chaos.world import DEATHS, POINTS, World, judge

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
EACH = 100


@pytest.mark.parametrize("setup", ["SQLite and files", "PostgreSQL and Valkey"])
def test_random_deaths_leave_every_app_running(setup: str, tmp_path: Path):
    seed = os.environ.get("COUNTERSIGN_SEED") or secrets.token_hex(4)
    print(f"\n{setup}: COUNTERSIGN_SEED={seed}")
    chance = random.Random(seed)
    with ExitStack() as stack:
        environ: dict[str, str] = {}
        broker = None
        if setup.startswith("PostgreSQL"):
            broker = stack.enter_context(services.Valkey())
            environ = {
                "DATABASE_URL": stack.enter_context(services.postgresql()),
                "COUNTERSIGN_BROKER_URL": broker.url,
            }
        world = World(tmp_path / "world", environ, broker)
        stack.callback(world.close)
        world.start_workers(6, 1)
        ends: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        wrong: list[str] = []
        for first in range(0, EACH, 10):
            points = chance.sample(POINTS, min(10, EACH - first))
            # Somebody must be left to take over from those who are suspended.
            deaths = [chance.choice(list(DEATHS)) for _ in points]
            asleep = [n for n, death in enumerate(deaths) if death == "suspended"]
            for n in asleep[3:]:
                deaths[n] = "child"
            rollouts = world.die(dict(zip(points, deaths, strict=True)))
            wrong += judge(world, rollouts)
            world.disarm()
            for rollout in rollouts:
                count = ends[rollout["death"]]
                count["rollouts"] += 1
                count[rollout["state"]] += 1
                count["stops"] += rollout["stops"]
                count["starts"] += rollout["starts"]
                count["left stopped"] += rollout["observed"][0] != "running"
        columns = ["rollouts", "verified", "rolled_back", "refused", "stops", "starts", "left stopped"]
        print("| death | " + " | ".join(columns) + " |")
        for death, count in sorted(ends.items()):
            print(f"| {death} | " + " | ".join(str(count[column]) for column in columns) + " |")
        assert not wrong, "\n".join(wrong)
