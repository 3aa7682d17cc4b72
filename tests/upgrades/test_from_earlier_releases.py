"""A database that an earlier release filled, with rollouts in flight, is migrated; today's code ends what it finds."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import ports, services
from tests.upgrades import release_0_1_0 as release

TINY_APP = Path(__file__).resolve().parents[1] / "contracts" / "tiny_app.py"
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def empty_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any
) -> Iterator[None]:
    """An empty database in the place of the tests' own, for every connection that is made meanwhile."""
    from django.db import connections

    from portal import engines

    def use(values: dict[str, Any]) -> None:
        connections["default"].close()
        connections.settings["default"] = values
        del connections["default"]

    before = connections.settings["default"]
    with django_db_blocker.unblock():
        if request.param == "sqlite":
            folder = tmp_path_factory.mktemp("database")
            use(before | engines.database(f"sqlite:///{folder / 'old.sqlite3'}"))
            yield
        else:
            with services.postgresql("old") as url:
                use(before | engines.database(url))
                yield
                connections["default"].close()
        use(before)


@pytest.fixture(scope="module")
def machines(empty_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, release.App]]:
    """A place for each rollout in flight."""
    folder = tmp_path_factory.mktemp("apps")
    found = {}
    for number in range(len(release.IN_FLIGHT)):
        place = f"tiny-{number}"
        port = ports.free_port()
        argv = [
            sys.executable, str(TINY_APP), str(port),
            "--configuration", str(folder / place / "current"), "--behaviour", str(folder / place / "behaviour.json"),
        ]  # fmt: skip
        found[place] = release.App(folder / place, argv)
    yield found
    from rollouts.connectors import local_process

    try:
        local_process.stop_all(folder)
    finally:
        # Whatever today's connector made of them, none is left behind.
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if str(folder).encode() in (place / "cmdline").read_bytes():
                    os.kill(int(place.name), signal.SIGKILL)
        for app in found.values():
            if hasattr(app, "process"):
                app.process.wait()


@pytest.fixture(scope="module")
def filled(empty_database: None, machines: dict[str, release.App]) -> release.Filled:
    """The tables of the release, filled by it, with its files and its running apps."""
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    leaves = list({**release.FOUNDATION, **release.LEAVES}.items())
    MigrationExecutor(connection).migrate(leaves)
    historical = MigrationExecutor(connection).loader.project_state(leaves).apps
    places = {one.name: f"tiny-{number}" for number, one in enumerate(release.IN_FLIGHT)}
    return release.Filler(historical, places, machines).fill()


@pytest.fixture(scope="module")
def upgraded(filled: release.Filled, machines: dict[str, release.App]) -> Iterator[release.Filled]:
    """Migrated as `prepare` does it, with the places in today's settings."""
    from django.core.management import call_command
    from django.test import override_settings

    call_command("migrate", interactive=False, verbosity=0)
    places = {
        name: {
            "title": name,
            "address": f"http://127.0.0.1:{app.argv[2]}/",
            "folder": str(app.folder),
            "status_url": f"http://127.0.0.1:{app.argv[2]}/status",
            "argv": app.argv,
        }
        for name, app in machines.items()
    }
    with override_settings(LOCAL_PROCESSES=places):
        yield filled


@pytest.fixture(scope="module")
def before(upgraded: release.Filled, machines: dict[str, release.App]) -> dict[str, str]:
    """Which start of each app runs when today's code first sees it."""
    names = [one.name for one in release.IN_FLIGHT]
    return {name: status(machines[f"tiny-{number}"]).get("incarnation", "") for number, name in enumerate(names)}


@pytest.fixture(scope="module")
def ended(upgraded: release.Filled, machines: dict[str, release.App], before: dict[str, str]) -> dict[str, Any]:
    """Every rollout in flight, after today's sweep and moves have had it."""
    from rollouts import actions, moves, tasks
    from rollouts.models import Rollout

    nudged: list[Any] = []
    patch = pytest.MonkeyPatch()
    patch.setattr(actions, "nudge", lambda number, _after=0: nudged.append(number))  # what the queue carries
    wanted = set(upgraded.rollouts.values())
    deadline = time.monotonic() + 240
    try:
        while wanted and time.monotonic() < deadline:
            tasks.sweep()
            for number in nudged:
                while (again_in := moves.advance(number)) is not None:
                    bury(machines)
                    time.sleep(again_in)
            nudged.clear()
            bury(machines)
            wanted = {r.pk for r in Rollout.objects.filter(pk__in=wanted) if not r.is_final}
            if wanted:
                time.sleep(0.5)
    finally:
        patch.undo()
    return {name: Rollout.objects.get(pk=number) for name, number in upgraded.rollouts.items()}


def bury(machines: dict[str, release.App]) -> None:
    """The apps of the old release are this process's children; elsewhere nobody's, whom process 1 collects."""
    for app in machines.values():
        if hasattr(app, "process"):
            app.process.poll()


def status(app: release.App) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{app.argv[2]}/status", timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return {}


# --- The release ------------------------------------------------------------------------------------------------------


def test_the_released_migrations_are_what_they_were() -> None:
    """Databases out there have had them; a change goes into a new one."""
    project = Path(__file__).resolve().parents[2]
    for app, name in release.LEAVES.items():
        file = project / app / "migrations" / f"{name}.py"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == release.DIGESTS[app], file


def test_every_active_state_of_the_release_has_a_rollout_in_flight_and_is_known_today() -> None:
    from rollouts.states import ACTIVE

    states = {one.state for one in release.IN_FLIGHT}
    assert len(states) == 8
    assert states <= set(ACTIVE)
    assert len({one.name for one in release.IN_FLIGHT}) == len(release.IN_FLIGHT)


# --- The upgrade ------------------------------------------------------------------------------------------------------


def test_every_row_is_there_after_the_migration(upgraded: release.Filled) -> None:
    from audit.models import Event
    from certificates.models import ClientCertificate, Pin, Version
    from environments.models import Environment, Membership, Person
    from rollouts.models import Bundle, Destination, Revision, Rollout

    places = len(release.IN_FLIGHT)
    assert Person.objects.get(username=release.PERSON).check_password(release.PASSWORD)
    assert Membership.objects.get().role == "owner"
    for model, count in (
        (Environment, places + 1), (ClientCertificate, places + 1), (Version, places + 1), (Pin, places + 1),
        (Revision, 2 * places + 2), (Destination, places), (Rollout, places + 6),
    ):  # fmt: skip
        assert model.objects.count() == count, model
    assert Bundle.objects.count() > places
    assert Event.objects.count() == 1 + 2 * places + 1


def test_what_was_sealed_before_can_be_opened(upgraded: release.Filled) -> None:
    from certificates import identities
    from certificates.models import Version
    from rollouts import unseal

    version = Version.objects.get(certificate__environment__pk=upgraded.environments["History"])
    assert unseal.identity_of(version, reason="test", by=None) == identities.unpack(upgraded.secret)


@pytest.mark.parametrize("one", release.IN_FLIGHT, ids=lambda one: one.name.replace(" ", "-"))
def test_todays_worker_ends_what_the_old_one_left(
    one: release.InFlight,
    upgraded: release.Filled,
    ended: dict[str, Any],
    before: dict[str, str],
    machines: dict[str, release.App],
) -> None:
    """As the old one would have: the app runs, on its machine's word, with what the end says."""
    rollout = ended[one.name]
    assert rollout.state == one.ends, f"{rollout.failure} {rollout.sentence}"
    seen = status(machines[f"tiny-{release.IN_FLIGHT.index(one)}"])
    if one.kind == "stop":
        assert seen == {}
        return
    assert seen["status"] == "running"
    old = one.ends == "rolled_back" or one.kind != "apply"
    assert seen["digest"] == (upgraded.old[one.name] if old else rollout.bundle.digest)
    if one.state == "verifying" or one.phase == "verify":
        assert seen["incarnation"] == before[one.name], "it was up already, and is not restarted again"
    else:
        assert seen["incarnation"] != before[one.name]


def test_finished_rollouts_are_left_alone(upgraded: release.Filled, ended: dict[str, Any]) -> None:
    from rollouts.models import Rollout

    for state, number in upgraded.finished.items():
        assert Rollout.objects.get(pk=number).state == state


def test_the_pages_tell_of_what_the_old_release_did(upgraded: release.Filled, ended: dict[str, Any]) -> None:
    from django.test import Client

    from certificates.models import ClientCertificate
    from environments.models import Environment, Person
    from rollouts.models import Rollout

    client = Client()
    client.force_login(Person.objects.get(username=release.PERSON))
    places = list(Environment.objects.select_related("application"))
    addresses = ["/", "/apps/invoicing/", "/audit/"]
    for place in places:
        tabs = ("", "network/", "rollouts/", "export/", "settings/") if place.name == "History" else ("",)
        addresses += [place.get_absolute_url() + tab for tab in tabs]
    addresses += [
        one.get_absolute_url() for one in ClientCertificate.objects.select_related("environment__application")
    ]
    addresses += [one.get_absolute_url() for one in Rollout.objects.select_related("environment__application")]
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 200, address
    rolled_back = ended["apply rolling back stop"]
    page = client.get(rolled_back.get_absolute_url()).content.decode()
    assert "The app did not come up." in page
    network = client.get(next(p for p in places if p.name == "History").get_absolute_url() + "network/")
    assert "Bank payments" in network.content.decode()
    assert "api.bank.example" in network.content.decode()


def test_a_change_can_be_applied_after_the_upgrade(
    upgraded: release.Filled, ended: dict[str, Any], machines: dict[str, release.App]
) -> None:
    """The files that the old release delivered are something to start from, and to go back to."""
    from certificates.models import Pin
    from environments.models import Environment, Person
    from rollouts import actions, moves

    environment = Environment.objects.get(pk=upgraded.environments["apply verifying"])
    Pin.objects.filter(environment=environment).delete()
    rollout = actions.apply(
        environment=environment,
        shown=actions.pending(environment)[0].digest,
        reason="after the upgrade",
        by=Person.objects.get(username=release.PERSON),
    )
    deadline = time.monotonic() + 60
    while not rollout.is_final and time.monotonic() < deadline:
        moves.advance(rollout.pk)
        bury(machines)
        rollout.refresh_from_db()
    assert rollout.state == "verified", rollout.failure
    app = machines[f"tiny-{[one.name for one in release.IN_FLIGHT].index('apply verifying')}"]
    assert status(app)["digest"] == rollout.bundle.digest
