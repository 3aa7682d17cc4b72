"""A world in which workers die: the product's workers and clock, and an app for each kill point, watched from outside.

What counts is the platform's record: what each app's machine saw (tests/chaos/app.py). The portal's own rows are only
asked for the names of things.
"""

from __future__ import annotations

import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rollouts.states import STATES, kill_points
from tests import ports, services

PROJECT = Path(__file__).resolve().parents[2]
POINTS = [str(point) for point in kill_points(STATES)]
# These need the app to be stopped beforehand.
STARTS = [point for point in POINTS if point.startswith(("requested.observe", "starting.start"))]
# How many stops and starts a rollout makes that goes forward, and one that goes back.
FORWARD, BACK = 1, 2
# death -> how many workers, and how many rollouts each has in hand. A parent takes all of its children along, so it has
# one.
DEATHS = {
    "child": (2, 3),
    "parent": (4, 1),
    "suspended": (2, 8),
    "locked": (2, 3),
    "disk-full": (2, 3),
    "broker-gone": (2, 3),
}


class World:
    def __init__(self, folder: Path, environ: dict[str, str], broker: services.Server | None = None) -> None:
        self.folder = folder
        self.broker = broker
        self.round = 0
        folder.mkdir(exist_ok=True)
        for name in ("armed", "reached", "suspended", "broker"):
            (folder / name).mkdir()
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(("COUNTERSIGN_", "DATABASE_"))} | {
            "COUNTERSIGN_DATA": str(folder / "data"),
            "CHAOS_WORLD": str(folder),
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            **environ,
        }
        self.witness = folder / "witness.jsonl"
        self.places = self._places()
        (folder / "places.json").write_text(json.dumps(self.places))
        self.people = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.drive"],
            cwd=PROJECT, env=self.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=(folder / "people.log").open("w"),
        )  # fmt: skip
        self.workers: subprocess.Popen[bytes] | None = None
        self._build()

    def _places(self) -> dict[str, dict[str, Any]]:
        numbers = ports.free_ports(len(POINTS))
        return {slug(point): self._place(slug(point), port) for point, port in zip(POINTS, numbers, strict=True)}

    def _build(self) -> None:
        self.do("build", points=POINTS)

    def _place(self, name: str, port: int) -> dict[str, Any]:
        app = str(Path(__file__).with_name("app.py"))
        return {
            "title": name,
            "address": f"http://127.0.0.1:{port}/",
            "folder": str(self.folder / "apps" / name),
            "status_url": f"http://127.0.0.1:{port}/status",
            "argv": [sys.executable, "-S", "-E", app, name, str(port), "{configuration}", str(self.witness)],
        }

    def do(self, order: str, **arguments: Any) -> Any:
        assert self.people.stdin
        assert self.people.stdout
        self.people.stdin.write(json.dumps([order, arguments]) + "\n")
        self.people.stdin.flush()
        line = self.people.stdout.readline()
        assert line, (self.folder / "people.log").read_text()[-4000:]
        answer = json.loads(line)
        assert "refused" not in answer, (order, answer)
        return answer["answer"]

    def start_workers(self, workers: int, concurrency: int) -> None:
        self.workers = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.workers", str(workers), str(concurrency)],
            cwd=PROJECT, env=self.environ, stdout=(self.folder / "workers.log").open("ab"), stderr=subprocess.STDOUT,
        )  # fmt: skip

    def stop_workers(self) -> None:
        if self.workers is not None:
            self._wake(everybody=True)
            self.workers.terminate()
            self.workers.wait(60)
            self.workers = None

    def close(self) -> None:
        try:
            self.stop_workers()
            assert self.people.stdin
            self.people.stdin.close()
            self.people.wait(20)
        finally:
            self.people.kill()
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[int]:
        """Everything that bears this world's folder in its environment or its command line."""
        mark = str(self.folder).encode()
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (place / "environ").read_bytes() or mark in (place / "cmdline").read_bytes():
                    found.append(int(place.name))
        return [pid for pid in found if pid != os.getpid()]

    # --- One round: a death for each of these points ---

    def die(self, orders: dict[str, str], limit: float = 240.0) -> list[dict[str, Any]]:
        """`orders`: kill point to death. Asks for the rollouts, waits for all of them to end, and for whoever was
        suspended to have done what it still wanted to do. Returns the rollouts with what their platforms saw."""
        self.round += 1
        began = time.monotonic()
        sleepers = [point for point in orders if point in STARTS]
        self.do("stop", points=sleepers)
        self._until_quiet(limit)
        seen_before = len(self.saw())
        ids = self.do("ask", orders=orders, round=self.round)
        rollouts = self._until_final(list(ids.values()), limit)
        self._wake(everybody=True)
        self._until_quiet(limit)
        calls: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
        for line in self.saw()[seen_before:]:
            calls[line["app"]].append(line)
        print(f"{len(orders)} deaths in {time.monotonic() - began:.0f} s")
        observed = self._until_all_run(30)
        for rollout in rollouts:
            name = slug(rollout["point"])
            rollout |= {
                "death": orders[rollout["point"]],
                "stops": sum(line["saw"] == "stop" for line in calls[name]),
                "starts": sum(line["saw"] == "start" for line in calls[name]),
                "read": [line["digest"] for line in calls[name] if line["saw"] == "start"],
                "observed": observed[name],
            }
        return rollouts

    def disarm(self) -> list[str]:
        """The kill points that nobody came by."""
        armed = list((self.folder / "armed").iterdir())
        missed = [json.loads(order.read_text())["point"] for order in armed]
        for order in armed:
            order.unlink()
        return missed

    def saw(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.witness.read_text().splitlines()]

    def _until_final(self, ids: list[str], limit: float) -> list[dict[str, Any]]:
        deadline = time.monotonic() + limit
        while True:
            self._serve_broker()
            rollouts: list[dict[str, Any]] = self.do("look", ids=ids)
            self._wake_overtaken(rollouts)
            left = [rollout for rollout in rollouts if not rollout["final"]]
            if not left:
                return rollouts
            if time.monotonic() > deadline:
                told = "\n".join("\n".join([str(r), *self.do("log", rollout=r["id"])]) for r in left[:3])
                raise AssertionError(f"{len(left)} rollouts did not end:\n{told}")
            time.sleep(0.2)

    def _until_quiet(self, limit: float) -> None:
        """Nothing is under way any more, what was made good included; for two sweeps in a row."""
        quiet, deadline = 0, time.monotonic() + limit
        while quiet < 6:
            quiet = 0 if self.do("busy") else quiet + 1
            assert time.monotonic() < deadline, self.do("busy")
            time.sleep(0.3)

    def _until_all_run(self, limit: float) -> dict[str, list[str]]:
        deadline = time.monotonic() + limit
        while True:
            observed: dict[str, list[str]] = self.do("observed")
            if all(status == "running" for status, _digest in observed.values()) or time.monotonic() > deadline:
                return observed
            time.sleep(0.3)

    def _wake_overtaken(self, rollouts: list[dict[str, Any]]) -> None:
        """Half of the suspended go on as soon as another worker holds their rollout, the others when it has ended."""
        now = {rollout["id"]: rollout for rollout in rollouts}
        for note in (self.folder / "suspended").iterdir():
            told = json.loads(note.read_text())
            rollout = now.get(told["rollout"])
            early = int(told["pid"]) % 2
            if rollout and (rollout["final"] or (early and rollout["fence"] != told["fence"])):
                self._wake_one(note, told["pid"])

    def _wake(self, *, everybody: bool) -> None:
        for note in (self.folder / "suspended").iterdir():
            self._wake_one(note, json.loads(note.read_text())["pid"])

    def _wake_one(self, note: Path, pid: int) -> None:
        note.unlink()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _serve_broker(self) -> None:
        """Takes the broker away where somebody's death asks for it, and brings it back a second later."""
        requests = list((self.folder / "broker").iterdir())
        if not requests:
            return
        self._take_broker()
        for request in requests:
            request.unlink()
        time.sleep(1.0)
        self._bring_broker()

    def _take_broker(self) -> None:
        if self.broker is not None:
            self.broker.stop()
        else:
            self.queue.rename(self.queue.with_name("queue-aside"))
            self.queue.touch()

    def _bring_broker(self) -> None:
        if self.broker is not None:
            self.broker.start()
            return
        self.queue.unlink()
        aside = self.queue.with_name("queue-aside")
        try:
            aside.rename(self.queue)
        except OSError:
            shutil.rmtree(aside)  # somebody was quicker and made a new one; what lay in the old one is lost

    @property
    def queue(self) -> Path:
        return self.folder / "data" / "queue"


def slug(point: str) -> str:
    return point.replace(".", "-").replace("_", "-")


def judge(world: World, rollouts: list[dict[str, Any]]) -> list[str]:
    """What the platforms saw, held against what is promised. Returns a sentence for each broken promise."""
    known = {*world.do("digests"), EMPTY}
    wrong = []
    for rollout in rollouts:
        name = f"{rollout['point']}, {rollout['death']}"
        went_back = rollout["state"] == "rolled_back"
        expected = rollout["previous"] if went_back or rollout["state"] == "refused" else rollout["bundle"]
        planned = BACK if went_back else FORWARD
        status, digest = rollout["observed"]
        if status != "running":
            wrong.append(f"{name}: the app was left {status}")
        elif expected and digest != expected:
            wrong.append(f"{name}: {rollout['state']}, but the app runs with {digest} instead of {expected}")
        if rollout["state"] not in ("verified", "rolled_back", "refused"):
            wrong.append(f"{name}: it ended as {rollout['state']}: {rollout['sentence']}")
        if set(rollout["read"]) - known:
            wrong.append(f"{name}: the app read a configuration that nobody delivered whole")
        if max(rollout["stops"], rollout["starts"]) > planned + 1:
            wrong.append(f"{name}: {rollout['stops']} stops and {rollout['starts']} starts, {planned} were planned")
        if wrong and name in wrong[-1]:
            wrong += ["    " + line for line in world.do("log", rollout=rollout["id"])]
    return wrong


def every_point(world: World, death: str) -> list[str]:
    """Every kill point once with this death, by as many workers as suit it. One that another's death led its rollout
    around (a database that is locked is locked for all) is tried again by itself."""
    world.start_workers(*DEATHS[death])
    wrong: list[str] = []
    # Whoever is suspended occupies its place: others must be left to take over.
    some = 13 if death == "suspended" else len(POINTS)
    try:
        left = [POINTS[first : first + some] for first in range(0, len(POINTS), some)]
        for points in left:
            wrong += judge(world, world.die(dict.fromkeys(points, death)))
            missed = world.disarm()
            if len(left) < 20:
                left += [[point] for point in missed]
            elif missed:
                wrong.append(f"{missed} were never reached")
    finally:
        world.stop_workers()
    return wrong


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
