"""A child process that reads one file and ends: the parent's half. The child's half is `reader_child`.

No Django here. Parsers of untrusted files are where memory errors are found, and deriving keys cannot be interrupted or
bounded from inside. So each file has a process of its own, with limits and an empty environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cryptography

from certificates.diagnosis import Refusal

WALL_SECONDS: Final = 10
CPU_SECONDS: Final = 8
WAIT_SECONDS: Final = 30
MAX_ANSWER: Final = 4 * 1024 * 1024

_PROJECT: Final = Path(__file__).resolve().parent.parent
# -I leaves the working folder and PYTHONPATH out; these two folders are where the project and its library are.
_FOLDERS: Final = (str(_PROJECT), str(Path(cryptography.__file__).resolve().parent.parent))
_START: Final = (
    "import sys; sys.path.extend(sys.argv[2:]); from certificates.reader_child import main; main(int(sys.argv[1]))"
)


def ask(file: bytes, password: str, *, places: Path | None = None) -> bytes:
    """The identity in `file`, packed. Raises Refusal: the child's own, `too_slow`, `busy` or `reader_stopped`.

    File and password travel through a pipe: neither arguments nor environment carry anything of them.
    """
    with _place(places or default_places()) as held:
        answer, code, stopped = _converse(len(file).to_bytes(4, "big") + file + password.encode(), held)
    if code == -signal.SIGXCPU or (stopped and code != 0):
        raise Refusal("too_slow", seconds=WALL_SECONDS if stopped else CPU_SECONDS)
    if code != 0 or len(answer) > MAX_ANSWER:
        raise Refusal("reader_stopped")
    if answer[:1] == b"+":
        return answer[1:]
    raise _refusal(answer[1:])


def default_places() -> Path:
    """The folder of lock files that all processes of this user share: COUNTERSIGN_READER_PLACES, or a temporary one."""
    given = os.environ.get("COUNTERSIGN_READER_PLACES")
    return Path(given) if given else Path(tempfile.gettempdir()) / f"countersign-readers-{os.getuid()}"


def _refusal(answer: bytes) -> Refusal:
    try:
        told = json.loads(answer)
        return Refusal(str(told["code"]), **told["details"])
    except (ValueError, KeyError, TypeError):
        return Refusal("reader_stopped")


def _converse(question: bytes, held: int) -> tuple[bytes, int, bool]:
    """What one child answers, its exit status, and whether it was stopped for its time. `held` is its place's lock."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-B", "-c", _START, str(CPU_SECONDS), *_FOLDERS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
        pass_fds=(held,),  # The place is taken until the child is gone, even if this process goes first.
    )
    assert child.stdin is not None
    assert child.stdout is not None
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        os.killpg(child.pid, signal.SIGKILL)

    clock = threading.Timer(WALL_SECONDS, stop)
    clock.daemon = True
    clock.start()
    answer = b""
    try:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(question)
            child.stdin.close()
        answer = child.stdout.read(MAX_ANSWER + 1)
    finally:
        if len(answer) > MAX_ANSWER:
            os.killpg(child.pid, signal.SIGKILL)
        # Not reaped before the clock is stopped, so that its process id cannot be another's by then.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        clock.cancel()
        clock.join()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.stdout.close()
    return answer, child.returncode, stopped.is_set()


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
