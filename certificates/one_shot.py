"""A child process that reads one file and ends: the half of whoever asks. The children's half is `reader_child`.

No Django here. Parsers of untrusted files are where memory errors are found, and deriving keys cannot be interrupted or
bounded from inside. So each file has a process of its own, with limits and an empty environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cryptography

from certificates.diagnosis import Refusal
from certificates.intake import Reading
from certificates.question import Question, understand
from certificates.reader_child import Order

WALL_SECONDS: Final = 10
CPU_SECONDS: Final = 8
# For a place to come free, and with the reading: whoever uploads has an answer before a proxy or a person gives up.
WAIT_SECONDS: Final = 8
ALL_SECONDS: Final = 10.5
# How many requests of one web process may be here, and how many seconds one more waits for that. Each holds one of the
# process's threads (four: gunicorn.conf.py), and pages need one that is free.
SEATS: Final = 3
SEAT_SECONDS: Final = 0.2
MAX_ANSWER: Final = 4 * 1024 * 1024

_PROJECT: Final = Path(__file__).resolve().parent.parent
# -I leaves the working folder and PYTHONPATH out; these two folders are where the project and its library are.
_FOLDERS: Final = (str(_PROJECT), str(Path(cryptography.__file__).resolve().parent.parent))
_START: Final = "import sys; sys.path.extend(sys.argv[1:]); from certificates.reader_child import serve; serve()"
# Seconds beyond its time after which a child is given up: it should have been stopped, and that told.
_PATIENCE: Final = 1


def read(question: Question, *, places: Path | None = None) -> Reading:
    """As `intake.read`, in a process of its own that ends with it. Raises Refusal: the child's own, `too_slow`, `busy`
    or `reader_stopped`.

    Files and passwords travel through a socket: neither arguments nor environment carry anything of them. `places` is
    the folder of lock files that limits how many are read at once on this machine (default: `default_places()`).
    """
    return understand(_ask(question, places))


def inspect(question: Question, *, places: Path | None = None) -> dict[str, Any]:
    """As `inspection.inspect`, in the same way. Raises Refusal for what keeps the child from answering."""
    try:
        return dict(json.loads(_ask(question, places)[1:]))
    except (ValueError, TypeError):
        raise Refusal("reader_stopped") from None


def _ask(question: Question, places: Path | None) -> bytes:
    asked_at = time.monotonic()
    with _seat(), _place(places or default_places()) as held:
        seconds = min(WALL_SECONDS, asked_at + ALL_SECONDS - time.monotonic())
        try:
            answer, code, stopped = _nursery.converse(question.pack(), held, seconds)
        except OSError:
            raise Refusal("reader_stopped") from None
    if stopped and code != 0:
        # What was stopped early for having waited long may be an ordinary file.
        raise Refusal("too_slow", seconds=WALL_SECONDS) if seconds == WALL_SECONDS else Refusal("busy")
    if code == -signal.SIGXCPU:
        raise Refusal("too_slow", seconds=CPU_SECONDS)
    if code != 0 or len(answer) > MAX_ANSWER:
        raise Refusal("reader_stopped")
    return answer


def default_places() -> Path:
    """The folder of lock files that all processes of this user share: COUNTERSIGN_READER_PLACES, or a temporary one."""
    given = os.environ.get("COUNTERSIGN_READER_PLACES")
    return Path(given) if given else Path(tempfile.gettempdir()) / f"countersign-readers-{os.getuid()}"


class Nursery:
    """One process of ours that forks a child for every file (`reader_child.serve`), started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None
        self._owner = 0

    def converse(self, question: bytes, held: int, seconds: float) -> tuple[bytes, int, bool]:
        """What one child answers, its exit status, and whether it was stopped after `seconds`; `held` locks its place.

        Raises OSError where there is no child to talk to.
        """
        order = Order(CPU_SECONDS, time.monotonic() + seconds)
        deadline = order.deadline + _PATIENCE
        for _attempt in range(2):
            ours, line = socket.socketpair()
            verdict, told = socket.socketpair()
            with ours, line, verdict, told:
                self._send(order, [line.fileno(), told.fileno(), held])
                line.close()
                told.close()
                with contextlib.suppress(ConnectionError):
                    ours.settimeout(_left(deadline))
                    ours.sendall(question)
                    ours.shutdown(socket.SHUT_WR)
                answer = _receive(ours, deadline, MAX_ANSWER + 1)
                if len(answer) > MAX_ANSWER:
                    return answer, 0, False  # with the verdict's socket closed, the child is ended
                if said := _receive(verdict, deadline, 64).split():
                    return answer, int(said[0]), said[1] == b"1"
            # The nursery ended before it had read the order: it had nothing to do for long, or a child of it crashed.
        raise OSError("no child")

    def close(self) -> None:
        """Ends the nursery and, with it, its children."""
        with self._lock:
            self._close()

    def _send(self, order: Order, descriptors: list[int]) -> None:
        with self._lock:
            if self._orders is not None and self._owner == os.getpid():
                with contextlib.suppress(OSError):
                    socket.send_fds(self._orders, [order.pack()], descriptors)
                    return
            self._close()
            socket.send_fds(self._start(), [order.pack()], descriptors)

    def _start(self) -> socket.socket:
        orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-c", _START, *_FOLDERS],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        # Buried as soon as it ends, whenever that is.
        threading.Thread(target=self._process.wait, daemon=True).start()
        orders.settimeout(_PATIENCE)
        self._orders, self._owner = orders, os.getpid()
        return orders

    def _close(self) -> None:
        if self._orders is not None:
            self._orders.close()
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
        self._process = self._orders = None


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


def _receive(line: socket.socket, deadline: float, limit: int) -> bytes:
    """What arrives until the other end is closed, at most `limit` bytes. Raises TimeoutError (an OSError)."""
    parts: list[bytes] = []
    size = 0
    with contextlib.suppress(ConnectionError):
        while size < limit:
            line.settimeout(_left(deadline))
            part = line.recv(min(65536, limit - size))
            if not part:
                break
            parts.append(part)
            size += len(part)
    return b"".join(parts)


_nursery = Nursery()
_seats = threading.BoundedSemaphore(SEATS)


@contextlib.contextmanager
def _seat() -> Iterator[None]:
    if not _seats.acquire(timeout=SEAT_SECONDS):
        raise Refusal("busy")
    try:
        yield
    finally:
        _seats.release()


@contextlib.contextmanager
def _place(folder: Path) -> Iterator[int]:
    """Hold one of the machine's places for a reader: one fewer than its cores, so that pages stay quick."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError("the folder of reader places belongs to someone else")
    count = max(1, len(os.sched_getaffinity(0)) - 1)
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        for number in range(count):
            held = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(held)
                continue
            try:
                yield held
            finally:
                os.close(held)
            return
        if time.monotonic() > deadline:
            raise Refusal("busy")
        time.sleep(0.02)
