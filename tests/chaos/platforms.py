"""A world of platforms: one of each kind that stands in for a real one (tests/contracts/worlds.py), an app on each, and
workers that die at the kill points of its rollouts.

Each platform goes through its points one after another, and all of them at the same time. What makes a rollout go back
is the app's own health page, which is unwell until the rollout has turned.
"""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

from rollouts.connectors import LISTED, Abilities, connector_class
from tests.chaos.world import BACK, FORWARD, POINTS, STARTS, World
from tests.contracts.worlds import WORLDS

# local-process is what the other worlds are made of.
KINDS = sorted(set(WORLDS) - {"local-process"})
# Seconds that a stand-in lives.
LIFETIME = 3000


def passes(able: Abilities, where: str) -> bool:
    """Whether a rollout on a platform of these abilities makes this call in this state (rollouts/moves.py)."""
    state, _dot, call = where.partition(".")
    stops_first = not (able.restarts or able.reloads or able.delivery_restarts)
    match state, call:
        case (("delivering" | "rolling_back"), "deliver") | ("rolling_back", "test"):
            return not able.hands_over
        case (("stopping" | "rolling_back"), "stop"):
            return stops_first
        case (("stopping" | "rolling_back"), "start"):
            return not able.delivery_restarts
        case "starting", "start":
            return able.stops
    return True


class Platforms(World):
    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        folder.mkdir(exist_ok=True)
        self.one_at_a_time = threading.Lock()
        self.unwell: set[str] = set()
        self.health = self._health()
        with mock.patch.dict(os.environ, {"STAND_IN_SECONDS": str(LIFETIME)}):
            self.there: dict[str, Any] = {}
            for kind in KINDS:
                (folder / "platforms" / kind).mkdir(parents=True)
                self.there[kind] = WORLDS[kind](folder / "platforms" / kind)
        reach = [[host, port] for one in self.there.values() for host, port, _at in one.settings.get("_reach", [])]
        (folder / "reach.json").write_text(json.dumps([*reach, ["health.test", self.health.server_port]]))
        (folder / "handed").mkdir()
        self.able = {kind: connector_class(kind).able(one.settings) for kind, one in self.there.items()}
        super().__init__(folder, environ)

    def _health(self) -> ThreadingHTTPServer:
        unwell = self.unwell

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(500 if self.path.strip("/") in unwell else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def _places(self) -> dict[str, dict[str, Any]]:
        known = {kind: self.there[kind].settings for kind in LISTED if kind in self.there}
        hidden = {kind: {setting.name for setting in connector_class(kind).asks} for kind in known}
        return {
            kind: {"title": kind, "connector": kind, "exporter": "mendix-settings", "address": ""}
            | {name: told for name, told in given.items() if not name.startswith("_") and name not in hidden[kind]}
            for kind, given in known.items()
        }

    def _build(self) -> None:
        platforms = {kind: one.settings for kind, one in self.there.items()}
        self.do("build_platforms", platforms=platforms, health=f"http://health.test:{self.health.server_port}")

    def do(self, order: str, **arguments: Any) -> Any:
        with self.one_at_a_time:
            return super().do(order, **arguments)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self.health.shutdown()
            self.health.server_close()

    # --- One platform, through its points ---

    def through(self, kind: str, points: list[str]) -> list[str]:
        """A worker dies at each of these, in a rollout each. Returns a sentence for each broken promise."""
        wrong = []
        for number, point in enumerate(points):
            began = time.monotonic()
            wrong += self._through(kind, point, number)
            took = time.monotonic() - began
            print(f"{kind}, {point}: {took:.1f} s")
        return wrong

    def _through(self, kind: str, point: str, number: int) -> list[str]:
        where = point.rpartition(".")[0]
        starts, goes_back = point in STARTS and self.able[kind].stops, where.startswith("rolling_back")
        if starts:
            self.do("stop", points=[kind])
            self._until_idle(kind)
        before = self.there[kind].calls()
        if goes_back:
            self.unwell.add(kind)
        restart = point in STARTS and not starts
        rollout = self.do("ask_platform", kind=kind, point=point, round=number, restart=restart)
        told = self._until_over(kind, rollout)
        self.unwell.discard(kind)
        after = self.there[kind].calls()[len(before) :]
        seen = self._until_up(kind)
        wrong = []
        ends = ("needs_help" if self.able[kind].hands_over else "rolled_back") if goes_back else "verified"
        if told["state"] != ends:
            wrong.append(f"it ended as {told['state']}: {told['sentence']} {told['failure']}")
        if seen["status"] != "running":
            wrong.append(f"the app was left {seen['status']}: {seen['note']}")
        expected = told["previous"] if goes_back else told["bundle"]
        if expected and seen["delivered"] is not None and seen["delivered"] != expected:
            wrong.append(f"{seen['delivered']} lies there instead of {expected}")
        if expected and seen["reports"] is not None and seen["reports"] != expected:
            wrong.append(f"the app runs with {seen['reports']} instead of {expected}")
        planned = BACK if goes_back else FORWARD
        if too_many := {call for call in after if after.count(call) > planned + 1}:
            wrong.append(f"{sorted(too_many)} of {after}, {planned} were planned")
        if (self.folder / "armed" / kind).exists():
            (self.folder / "armed" / kind).unlink()
            wrong.append("it was never reached")
        said = [f"{kind}, {point}: {sentence}" for sentence in wrong]
        return said + (["    " + line for line in self.do("log", rollout=rollout)] if said else [])

    def _until_over(self, kind: str, rollout: str) -> dict[str, Any]:
        deadline = time.monotonic() + 90
        while True:
            told: dict[str, Any] = self.do("look", ids=[rollout])[0]
            if told["state"] == "rolling_back" or told["final"]:
                self.unwell.discard(kind)
            if told["state"] == "handing_over":
                self.do("confirm", rollout=rollout)
            if told["final"] or time.monotonic() > deadline:
                return told
            time.sleep(0.2)

    def _until_idle(self, kind: str) -> None:
        deadline = time.monotonic() + 60
        while self.do("platform", kind=kind)["status"] != "stopped" or self.do("at_work", name=kind):
            assert time.monotonic() < deadline, f"{kind} did not stop"
            time.sleep(0.2)

    def _until_up(self, kind: str) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while True:
            seen: dict[str, Any] = self.do("platform", kind=kind)
            if seen["status"] == "running" or time.monotonic() > deadline:
                return seen
            time.sleep(0.2)

    def all_through(self, points: dict[str, list[str]]) -> list[str]:
        """All platforms at the same time."""
        self.start_workers(3, 4)
        try:
            with ThreadPoolExecutor(len(points)) as pool:
                found = pool.map(lambda kind: self.through(kind, points[kind]), points)
                return [sentence for sentences in found for sentence in sentences]
        finally:
            self.stop_workers()


def points_of(able: Abilities) -> list[str]:
    return [point for point in POINTS if passes(able, point.rpartition(".")[0])]
