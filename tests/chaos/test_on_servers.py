"""Every kill point on PostgreSQL and Valkey, once with each kind of death that has to do with them: no app is left
stopped, whatever dies. The others are tried on SQLite and files (test_on_one_machine.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import services
from tests.chaos.world import DEATHS, World, every_point

# What a full disk or a dead parent does on this machine is the same beside any database.
HERE = [death for death in DEATHS if death not in ("disk-full", "parent")]

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with services.postgresql() as database, services.Valkey() as broker:
        environ = {"DATABASE_URL": database, "COUNTERSIGN_BROKER_URL": broker.url}
        world = World(tmp_path_factory.mktemp("world"), environ, broker)
        yield world
        world.close()


@pytest.mark.parametrize("death", HERE)
def test_whoever_dies_at_whichever_boundary_every_app_runs_afterwards(world: World, death: str):
    wrong = every_point(world, death)
    assert not wrong, "\n".join(wrong)
