"""The supervisor with real processes: it runs in a process of its own, as it does for `manage.py run`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

SUPERVISOR = """
import json, sys
from pathlib import Path
from portal import supervisor
from portal.supervisor import Child, Supervisor
order = json.loads(sys.argv[1])
supervisor.LOG_LIMIT = order["log_limit"]
children = [Child(name, name, (sys.executable, "-c", code), patience) for name, code, patience in order["children"]]
said = lambda sentence: print(sentence, flush=True)
folder = Path(order["folder"])
Supervisor(children, logs=folder / "logs", folder=folder, say=said).run(lambda: None)
print("over", flush=True)
"""

# Each notes its number in a file named for it, so that a test sees every start.
NOTE = "import os, signal, subprocess, sys, time\nopen('{}.pids', 'a').write(f'{{os.getpid()}}\\n')\n"
STEADY = NOTE + "time.sleep(600)"
STUBBORN = NOTE + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(600)"
DEAF_CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
PARENT = NOTE + (
    f"child = subprocess.Popen([sys.executable, '-c', '{DEAF_CHILD}'])\n"
    "open('grandchild.pids', 'a').write(f'{{child.pid}}\\n')\n"
    "time.sleep(600)"
)
FAILING = NOTE + "sys.exit(7)"
TALKATIVE = NOTE + "for n in range(10**9):\n    print('x' * 1000, flush=True)\n    time.sleep(0.01)"


class Running:
    def __init__(self, folder: Path, children: dict[str, str], *, patience: float = 5, log_limit: int = 10**6) -> None:
        self.folder = folder
        listed = [(name, code.format(name), patience) for name, code in children.items()]
        order = {"folder": str(folder), "log_limit": log_limit, "children": listed}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, json.dumps(order)],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def pids(self, name: str) -> list[int]:
        try:
            return [int(line) for line in (self.folder / f"{name}.pids").read_text().split()]
        except FileNotFoundError:
            return []

    def log(self, name: str) -> str:
        try:
            return (self.folder / "logs" / f"{name}.log").read_text()
        except FileNotFoundError:
            return ""

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        self.process.send_signal(number)
        return self.process.communicate(timeout=30)[0]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def run(children: dict[str, str], **options: float) -> Running:
        started.append(Running(tmp_path, children, **options))  # type: ignore[arg-type]
        return started[-1]

    yield run
    for running in started:
        running.process.kill()
        running.process.communicate()
        for file in running.folder.glob("*.pids"):
            for pid in running.pids(file.stem):
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_every_child(start: Callable[..., Running], number: signal.Signals) -> None:
    running = start({"one": STEADY, "two": STEADY})
    until(lambda: running.pids("one") and running.pids("two"))

    said = running.end(number)

    assert said == "over\n"
    assert running.process.returncode == 0
    assert not [pid for name in ("one", "two") for pid in running.pids(name) if alive(pid)]


@pytest.mark.chaos
def test_a_killed_child_is_started_again_and_that_is_said_in_one_line(start: Callable[..., Running]) -> None:
    running = start({"one": STEADY, "two": STEADY})
    until(lambda: running.pids("one") and running.pids("two"))

    os.kill(running.pids("one")[0], signal.SIGKILL)
    until(lambda: len(running.pids("one")) == 2)

    assert alive(running.pids("one")[1])
    assert len(running.pids("two")) == 1
    line, over = running.end().splitlines()
    assert line.startswith("The one ended (killed by SIGKILL) and is started again in 0.5 s; its log is ")
    assert over == "over"


@pytest.mark.chaos
def test_what_a_killed_child_leaves_behind_goes_before_it_is_started_again(start: Callable[..., Running]) -> None:
    running = start({"one": PARENT})
    until(lambda: running.log("one"))
    (grandchild,) = running.pids("grandchild")

    os.kill(running.pids("one")[0], signal.SIGKILL)
    until(lambda: len(running.pids("one")) == 2)

    assert not alive(grandchild)


def test_a_grandchild_that_ignores_the_request_goes_too(start: Callable[..., Running]) -> None:
    running = start({"one": PARENT})
    until(lambda: running.log("one"))
    running.end()
    assert not alive(running.pids("grandchild")[0])


def test_a_child_that_ignores_the_request_is_ended_after_its_patience(start: Callable[..., Running]) -> None:
    running = start({"one": STUBBORN}, patience=0.5)
    until(lambda: "deaf" in running.log("one"))
    before = time.monotonic()
    running.end()
    assert 0.5 <= time.monotonic() - before < 4
    assert not alive(running.pids("one")[0])


def test_a_second_signal_ends_the_waiting(start: Callable[..., Running]) -> None:
    running = start({"one": STUBBORN, "two": STEADY}, patience=60)
    until(lambda: "deaf" in running.log("one") and running.pids("two"))
    running.process.send_signal(signal.SIGINT)
    until(lambda: not alive(running.pids("two")[0]))
    assert alive(running.pids("one")[0])
    running.end()
    assert not alive(running.pids("one")[0])


def test_a_child_that_cannot_run_is_tried_less_and_less_often(start: Callable[..., Running]) -> None:
    running = start({"one": FAILING})
    until(lambda: len(running.pids("one")) == 4)
    said = running.end()
    assert re.findall(r"ended \(exit 7\) and is started again in ([\d.]+) s", said)[:3] == ["0.5", "1", "2"]


@pytest.mark.chaos
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_children_end_when_the_supervisor_is_killed(start: Callable[..., Running]) -> None:
    running = start({"one": STEADY, "two": STEADY})
    until(lambda: running.pids("one") and running.pids("two"))
    running.process.kill()
    until(lambda: not alive(running.pids("one")[0]) and not alive(running.pids("two")[0]))


def test_logs_stay_bounded_and_private(start: Callable[..., Running]) -> None:
    running = start({"one": TALKATIVE}, log_limit=20_000)
    logs = running.folder / "logs"
    until(lambda: (logs / "one.1.log").exists() and running.log("one"))
    running.end()
    # Between two looks it may grow by what a child prints in a quarter of a second.
    assert all(file.stat().st_size < 100_000 for file in logs.iterdir())
    assert {file.name for file in logs.iterdir()} == {"one.log", "one.1.log"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in logs.iterdir())
