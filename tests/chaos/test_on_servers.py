"""Every kill point, once with each kind of death, on PostgreSQL and Valkey: no app is left stopped, whatever dies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import services
from tests.chaos.world import DEATHS, World, every_point

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with services.postgresql() as database, services.Valkey() as broker:
        environ = {"DATABASE_URL": database, "COUNTERSIGN_BROKER_URL": broker.url}
        world = World(tmp_path_factory.mktemp("world"), environ, broker)
        yield world
        world.close()


@pytest.mark.parametrize("death", DEATHS)
def test_whoever_dies_at_whichever_boundary_every_app_runs_afterwards(world: World, death: str):
    wrong = every_point(world, death)
    assert not wrong, "\n".join(wrong)
