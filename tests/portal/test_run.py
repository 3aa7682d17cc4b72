"""`manage.py run` for real: every program of the portal, out of an empty data folder, on free ports."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import ports

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.chaos


class Run:
    def __init__(self, data: Path, ports: list[int]) -> None:
        self.data = data
        self.port, sandbox_port = ports
        self.output = data.with_suffix(".out")
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")},
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            "COUNTERSIGN_DATA": str(data),
            "COUNTERSIGN_PORT": str(self.port),
            "COUNTERSIGN_SANDBOX": "true",
            "COUNTERSIGN_SANDBOX_PORT": str(sandbox_port),
        }
        self.start()

    def start(self) -> None:
        with self.output.open("w") as output:
            self.process = subprocess.Popen(self.command(), cwd=PROJECT, env=self._env, stdout=output, stderr=output)

    def command(self) -> list[str]:
        return [sys.executable, "manage.py", "run"]

    def again(self, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(), cwd=PROJECT, env=self._env | env, capture_output=True, text=True, timeout=60
        )

    def said(self) -> str:
        return self.output.read_text()

    def wait_until_ready(self) -> None:
        until(lambda: "Ready in" in self.said() or self.process.poll() is not None, 90)
        assert self.process.poll() is None, self.said()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2) as response:
                return response.status == 200
        except OSError:
            return False

    def programs(self) -> dict[str, int]:
        """What runs out of this data folder, by the module that it runs (first of its kind only)."""
        found: dict[str, int] = {}
        for pid, words in processes():
            if "-m" in words and str(self.data) in " ".join(words + environment(pid)):
                found.setdefault(words[words.index("-m") + 1], pid)
        return found

    def everything(self) -> list[int]:
        return [pid for pid, words in processes() if f"COUNTERSIGN_DATA={self.data}" in environment(pid)]


def processes() -> list[tuple[int, list[str]]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if words[0]:
                found.append((int(entry.name), words))
    return sorted(found)


def environment(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return []


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.1)


@contextlib.contextmanager
def started(data: Path) -> Iterator[Run]:
    run = Run(data, [ports.free_port(), ports.together(0, 363)])
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGTERM)
            try:
                run.process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                run.process.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with started(tmp_path_factory.mktemp("run") / "data") as run:
        run.wait_until_ready()
        yield run


def test_an_empty_folder_becomes_a_portal_that_answers(running: Run) -> None:
    assert running.answers()
    assert f"http://127.0.0.1:{running.port}/" in running.said()
    assert re.search(r"Sign in +as owner with \S+, once", running.said())
    assert {"gunicorn", "celery", "sandbox.partner"} <= set(running.programs())


def test_only_its_owner_may_look_into_the_data_folder(running: Run) -> None:
    assert stat.S_IMODE(running.data.stat().st_mode) == 0o700
    for name in ("secret-key", "vault-key.json", "countersign.sqlite3", "logs/web.log", "logs/worker.log"):
        assert stat.S_IMODE((running.data / name).stat().st_mode) == 0o600, name


def test_a_second_run_on_the_same_folder_is_refused_in_one_sentence(running: Run) -> None:
    second = running.again()
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == f"Countersign already runs on {running.data}; stop it there first.\n"
    assert running.answers()


def test_a_port_that_is_taken_is_named_in_one_sentence(running: Run, tmp_path: Path) -> None:
    second = running.again(COUNTERSIGN_DATA=str(tmp_path / "other"))
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr.startswith(f"Port {running.port} cannot be used (")
    assert second.stderr.count("\n") == 1


def test_the_clock_reaches_the_worker(running: Run) -> None:
    """The worker notes in the database that it lives, whenever the sweep that the clock sends has arrived."""

    def pulse() -> object:
        with sqlite3.connect(running.data / "countersign.sqlite3") as database:
            return database.execute("SELECT max(at) FROM rollouts_pulse WHERE kind = 'worker'").fetchone()[0]

    until(pulse, 20)
    first = pulse()
    until(lambda: pulse() != first, 20)


def ready(run: Run) -> tuple[int, list[str]]:
    """What /readyz answers: the status, and the parts that are not ok."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{run.port}/readyz", timeout=10) as response:
            status, told = response.status, json.load(response)
    except urllib.error.HTTPError as error:
        status, told = error.code, json.load(error)
    except OSError:
        return 0, []
    return status, [name for name, word in told.items() if word != "ok"]


def children_of_the_worker(run: Run) -> list[int]:
    worker = [pid for pid, words in processes() if "worker" in words and pid in run.everything()]
    return [pid for pid in worker if parent(pid) in worker]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_it_says_of_each_part_that_it_is_ok(running: Run) -> None:
    until(lambda: ready(running) == (200, []), 60)


def test_a_stopped_clock_is_noticed_and_keeps_nobody_away(running: Run) -> None:
    (clock,) = (pid for pid, words in processes() if "beat" in words and pid in running.everything())
    os.kill(clock, signal.SIGSTOP)
    try:
        until(lambda: "clock" in ready(running)[1], 60)
        assert ready(running)[0] == 200
    finally:
        os.kill(clock, signal.SIGCONT)
    until(lambda: ready(running) == (200, []), 60)


def test_a_vault_key_that_is_put_away_and_back_needs_no_restart(running: Run) -> None:
    key = running.data / "vault-key.json"
    key.rename(running.data / "put-away")
    try:
        until(lambda: ready(running) == (503, ["vault_key"]), 30)
        assert running.answers(), "the process is well"
    finally:
        (running.data / "put-away").rename(key)
    until(lambda: ready(running) == (200, []), 30)


def test_children_of_the_worker_that_are_killed_while_they_wait_take_nothing_along(running: Run) -> None:
    """Of several that share one pipe, the killed one could hold its lock, and none of the others would work again."""
    until(lambda: ready(running) == (200, []), 60)
    before = children_of_the_worker(running)
    assert len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    killed_at = time.time()
    until(lambda: len(children_of_the_worker(running)) == 2, 60)

    def worked_since() -> bool:
        with sqlite3.connect(running.data / "countersign.sqlite3") as database:
            (at,) = database.execute("SELECT max(at) FROM rollouts_pulse WHERE kind = 'sweep'").fetchone()
        return datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() > killed_at + 1

    until(worked_since, 60)


@pytest.mark.parametrize("program", ["gunicorn", "celery", "sandbox.partner"])
def test_a_killed_program_is_back_within_seconds(running: Run, program: str) -> None:
    before, said = running.programs(), len(running.said())
    os.kill(before[program], signal.SIGKILL)
    until(lambda: "(killed by SIGKILL) and is started again in" in running.said()[said:], 20)
    until(lambda: running.programs().keys() >= before.keys() and running.answers(), 20)


def test_it_leaves_nothing_running_even_when_it_is_killed_and_starts_again(tmp_path: Path) -> None:
    with started(tmp_path / "data") as run:
        run.wait_until_ready()
        assert len(run.everything()) > 5

        # Killed, it cannot end its programs itself: they notice.
        run.process.kill()
        until(lambda: not run.everything(), 40)

        run.start()
        run.wait_until_ready()
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(timeout=40) == 0
        assert run.everything() == []
        assert run.said().endswith("Stopped; nothing was left running.\n")
