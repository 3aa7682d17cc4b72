"""Keeps programs running side by side, and leaves none behind.

Every child has a process group of its own: a Ctrl-C in the terminal reaches the supervisor alone, which then ends the
children in order; and what a child leaves behind in its group goes with it. If the supervisor itself is killed, the
kernel tells the children (Linux).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

# Seconds before a child that ended is started again: doubled each time, forgotten once it has run for STEADY seconds.
FIRST_PAUSE, LONGEST_PAUSE, STEADY = 0.5, 30.0, 60.0
# A log is put aside once at this size, so that each program keeps between one and two of these, in bytes.
LOG_LIMIT = 5 * 1024 * 1024
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Child:
    name: str
    """The name of its log."""
    title: str
    """How it is called in a sentence."""
    argv: tuple[str, ...]
    patience: float = 10.0
    """Seconds that it gets to end by itself."""


@dataclass
class _Place:
    """A child's place: whoever fills it now, and when it is filled again."""

    child: Child
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    pause: float = FIRST_PAUSE


class Supervisor:
    """Runs in the main thread of a process of its own; all waiting for processes there is done here."""

    def __init__(self, children: Sequence[Child], *, logs: Path, folder: Path, say: Callable[[str], None]) -> None:
        """`logs`: where each child's output goes. `folder`: the working directory of all. `say`: prints a sentence."""
        self._places = [_Place(child) for child in children]
        self._logs = logs
        self._folder = folder
        self._say = say
        self._signals = 0

    def run(self, on_tick: Callable[[], None]) -> None:
        """Starts the children and keeps them running until a signal asks to stop; then ends them. `on_tick` is called
        a few times a second in between. Raises OSError where a child's program or its log cannot be opened."""
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        wake, sleeper = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(sleeper, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_stop_signal)
        try:
            while not self._signals:
                self._bury()
                self._fill()
                on_tick()
                _nap(wake, 0.25)
        finally:
            self._end_all(wake)

    def _on_stop_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _fill(self) -> None:
        now = time.monotonic()
        for place in self._places:
            log = self._log(place.child)
            _bound(log)
            if place.process or now < place.start_at:
                continue
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                place.process = subprocess.Popen(
                    place.child.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._folder,
                    process_group=0,
                    preexec_fn=_follow_parent(os.getpid()),  # safe: this process has one thread
                )
            finally:
                os.close(output)
            place.started_at = now

    def _bury(self) -> None:
        """Notices who ended. The group goes first: while its leader is unburied, nobody else can bear its number."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            place = next((p for p in self._places if p.process and p.process.pid == ended.si_pid), None)
            if place:
                _kill_group(ended.si_pid)
            _pid, status = os.waitpid(ended.si_pid, 0)
            if place and place.process:
                place.process.returncode = os.waitstatus_to_exitcode(status)
                self._after_end(place, place.process.returncode)
                place.process = None

    def _after_end(self, place: _Place, code: int) -> None:
        now = time.monotonic()
        if now - place.started_at > STEADY:
            place.pause = FIRST_PAUSE
        place.start_at = now + place.pause
        if not self._signals:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
            self._say(
                f"The {place.child.title} ended ({how}) and is started again in {place.pause:g} s; "
                f"its log is {self._log(place.child)}."
            )
        place.pause = min(place.pause * 2, LONGEST_PAUSE)

    def _end_all(self, wake: int) -> None:
        """Asks all at once, waits as long as each may take or until a second signal, then ends what is left."""
        asked, signals = time.monotonic(), self._signals
        for process in self._running():
            process.terminate()
        while self._running() and self._signals <= max(signals, 1):
            for place in self._places:
                if place.process and time.monotonic() - asked > place.child.patience:
                    _kill_group(place.process.pid)
            self._bury()
            if self._running():
                _nap(wake, 0.1)
        for process in self._running():
            _kill_group(process.pid)
        while self._running():
            self._bury()
            _nap(wake, 0.05)

    def _running(self) -> list[subprocess.Popen[bytes]]:
        return [place.process for place in self._places if place.process]

    def _log(self, child: Child) -> Path:
        return self._logs / f"{child.name}.log"


def _follow_parent(parent: int) -> Callable[[], None]:
    """What a child does between fork and exec: asks to be ended when its parent is gone, however that happened."""

    def follow() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

    return follow


# Loaded before any fork: a child between fork and exec should load nothing.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _nap(wake: int, seconds: float) -> None:
    select.select([wake], [], [], seconds)
    with contextlib.suppress(BlockingIOError):
        os.read(wake, 4096)


def _bound(log: Path) -> None:
    """Puts a long log aside. It is copied and emptied, not renamed: its writer keeps it open (and appends)."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT:
            shutil.copy(log, log.with_suffix(".1.log"))  # with its mode
            os.truncate(log, 0)
