"""What can go wrong at a boundary of a move, done to the worker that has just reached it.

An order is a file `armed/<environment>` that names one kill point and one death; whoever gets there first carries it
out, once. Everything here is real: signals, a locked table, a limit of the kernel, a broker that is gone.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings

from certificates import pkcs12
from rollouts import holding, moves, tasks, unseal
from rollouts.models import Rollout
from tests.contracts.worlds import handed_out

# Seconds. The lease is as short as the world's pace allows; whoever is suspended sleeps until others have gone on.
LEASE = 3.0
LOCKED = 1.5
FULL = 1.5


def arm() -> None:
    holding.LEASE = timedelta(seconds=LEASE)
    # A thousand exports are written here, and nobody attacks them.
    pkcs12.WRITTEN_ROUNDS = 1000  # type: ignore[misc]
    holding.PAUSE = timedelta(seconds=1)
    tasks.NUDGE_AGAIN = timedelta(seconds=1)
    for module in (holding, moves):
        module.reached = reached
    # A receiver fetches an export from a file here; from the portal it is fetched in tests/rollouts/test_platforms.py.
    if (handed := settings.WORLD / "handed").is_dir():
        unseal.hand_out = lambda _environment, files: handed_out(handed, files)


def reached(rollout: Rollout, call: str, moment: str) -> None:
    name = rollout.environment.slug
    try:
        order = json.loads((settings.WORLD / "armed" / name).read_text())
        if order["point"] != f"{rollout.state}.{call}.{moment}":
            return
        (settings.WORLD / "armed" / name).rename(settings.WORLD / "reached" / name)
    except FileNotFoundError:
        return
    DEATHS[order["death"]](rollout)


def child(rollout: Rollout) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def parent(rollout: Rollout) -> None:
    os.kill(os.getppid(), signal.SIGKILL)


def suspended(rollout: Rollout) -> None:
    """Until the test lets it go on, which is after another worker has taken over."""
    note = {"pid": os.getpid(), "rollout": str(rollout.pk), "fence": rollout.fence}
    aside = settings.WORLD / f"{os.getpid()}.new"
    aside.write_text(json.dumps(note))
    aside.rename(settings.WORLD / "suspended" / rollout.environment.slug)
    os.kill(os.getpid(), signal.SIGSTOP)


def locked(rollout: Rollout) -> None:
    """The whole database refuses to be written for longer than anybody waits for it."""
    held = threading.Event()

    def hold() -> None:
        database = settings.DATABASES["default"]
        try:
            if database["ENGINE"].endswith("sqlite3"):
                other = sqlite3.connect(database["NAME"], isolation_level=None, timeout=60)
                other.execute("BEGIN IMMEDIATE")
            else:
                import psycopg

                other = psycopg.connect(
                    host=database["HOST"], port=database["PORT"] or None, user=database["USER"],
                    password=database["PASSWORD"], dbname=database["NAME"],
                )  # fmt: skip
                tables = "rollouts_rollout, rollouts_step, rollouts_destination, rollouts_pulse, audit_event"
                other.execute(f"LOCK TABLE {tables} IN EXCLUSIVE MODE")
            held.set()
            time.sleep(LOCKED)
            other.execute("ROLLBACK")
            other.close()
        finally:
            held.set()

    threading.Thread(target=hold, daemon=True).start()
    held.wait(60)


def disk_full(rollout: Rollout) -> None:
    """Names can be made and contents cannot, for this worker and all that it starts, until space returns."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    back = threading.Timer(FULL, resource.setrlimit, (resource.RLIMIT_FSIZE, (hard, hard)))
    back.daemon = True
    back.start()


def broker_gone(rollout: Rollout) -> None:
    """The test takes it away, and brings it back a second later; here it is gone when this returns."""
    request = settings.WORLD / "broker" / rollout.environment.slug
    request.touch()
    deadline = time.monotonic() + 20
    while request.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


DEATHS: dict[str, Callable[[Rollout], None]] = {
    "child": child,
    "parent": parent,
    "suspended": suspended,
    "locked": locked,
    "disk-full": disk_full,
    "broker-gone": broker_gone,
}
