"""Workers die at the kill points of rollouts on every kind of platform; afterwards nothing secret lies anywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from tests.chaos.platforms import KINDS, Platforms, points_of
from tests.chaos.world import POINTS

pytestmark = [pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platforms]:
    world = Platforms(tmp_path_factory.mktemp("platforms"), {})
    yield world
    world.close()


@pytest.mark.chaos
def test_1_every_call_to_a_platform_ends_well_when_a_worker_dies_after_it(world: Platforms) -> None:
    """The moments that differ from platform to platform: it was called, and nobody wrote that down."""
    points = {
        kind: [point for point in points_of(world.able[kind]) if point.endswith("after-call") and touches(point)]
        for kind in KINDS
    }
    assert sum(map(len, points.values())) > 30
    wrong = world.all_through(points)
    assert not wrong, "\n".join(wrong)


@pytest.mark.chaos
def test_2_no_secret_is_left_by_those_who_died(world: Platforms) -> None:
    secrets = [bytes.fromhex(one) for one in world.do("secrets_of_all")]
    assert len(secrets) > 30
    needles = {form for one in secrets for form in (one, one.hex().encode(), base64.b64encode(one)[:-4])}
    data, logs = world.folder / "data", [world.folder / "workers.log", world.folder / "people.log"]
    left = [path for path in [*data.rglob("*"), *logs] if path.is_file()]
    assert any(b"round-1.example.com" in path.read_bytes() for path in left), "the search reaches the database"
    found = [path for path in left if any(needle in path.read_bytes() for needle in needles)]
    assert not found


@pytest.mark.soak
def test_every_kill_point_on_every_platform(world: Platforms) -> None:
    wrong = world.all_through({kind: points_of(world.able[kind]) for kind in KINDS})
    assert not wrong, "\n".join(wrong)


def touches(point: str) -> bool:
    """Whether the call goes to the platform."""
    return point.split(".")[1] in ("deliver", "stop", "start", "observe")


def test_every_kill_point_is_passed_on_some_platform_or_by_every_one() -> None:
    from rollouts.connectors import connector_class
    from tests.contracts.worlds import WORLDS

    assert set(WORLDS) == {*KINDS, "local-process"}
    passed = {point for kind in KINDS for point in points_of(connector_class(kind).able({}))}
    assert passed == set(POINTS)
