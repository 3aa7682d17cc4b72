"""An app as one session of processes that is nobody's child, known by pid *and* start time.

What lies in the app's folder for it:

    process                a link to nowhere whose target says who runs: <pid>-<kernel start time>-<boot>. Made before
                           the app's first instruction. A link, because its target lies in the directory itself: it can
                           be made where not one more byte can be written, and it is never half there
    app.log, app.log.1     what the app prints, since its last start and since the one before
    platform-log.jsonl     every start and stop that was carried out; nothing here reads it
    lock                   one change at a time, over all threads and processes

An intermediate process starts the app and is gone, so a worker that dies takes nothing along. Pids are given out again,
so a process is known by its start time too (/proc/<pid>/stat, field 22, proc(5)). Linux only (/proc, pidfd). No Django.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rollouts.connectors import ConnectorError
from rollouts.connectors.folders import link_to, sync

# Seconds. The longest way through one call (lock, term, kill) stays below CALL_LIMIT.
LOCK_LIMIT = 10.0
TERM_LIMIT = 10.0
LEFTOVER_LIMIT = 2.0
KILL_LIMIT = 2.0
LAUNCH_LIMIT = 8.0
NOTE_LIMIT = 300
# The platform log is put aside once at this size, in bytes.
LOG_LIMIT = 1024 * 1024
# What records who runs; the second one as release 0.1.0 did.
RECORDS = ("process", "process.json")
ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Never unlocked, only closed: the lock lives on in a launcher that still holds the descriptor."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not poll(lambda: taken(descriptor), LOCK_LIMIT):
            raise ConnectorError("Another call is changing this app at the moment; try again in half a minute.")
        yield descriptor
    finally:
        os.close(descriptor)


def taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def poll(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def last_lines(log: Path) -> str:
    """The end of the log in one line of at most NOTE_LIMIT printable characters."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            text = file.read(4096).decode(errors="replace")
    except OSError:
        return ""
    lines = ["".join(c for c in line if c.isprintable()).strip() for line in text.splitlines()]
    return " · ".join(line for line in lines if line)[-NOTE_LIMIT:]


@dataclass(frozen=True)
class Started:
    """Who runs. Start times count from the boot, so they mean nothing in another one."""

    pid: int
    start_time: int
    boot: str

    @property
    def incarnation(self) -> str:
        return f"{self.pid}-{self.start_time}"


class _Stat(NamedTuple):
    state: str
    session: int
    start_time: int


def _stat(pid: int) -> _Stat | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (
        FileNotFoundError,
        ProcessLookupError,
        PermissionError,
    ):  # the last: somebody else's, where /proc hides those
        return None
    fields = line.rpartition(")")[2].split()  # from field 3 on; field 2 is a name that may hold anything
    return _Stat(fields[0], int(fields[3]), int(fields[19]))


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")


def me() -> Started:
    """The process that asks. Raises ConnectorError where /proc is not mounted."""
    now = _stat(os.getpid())
    if now is None:
        raise ConnectorError("/proc is not mounted; mount it.")
    return Started(os.getpid(), now.start_time, boot())


def lives(started: Started) -> bool:
    """A zombie does not live: where process 1 collects nobody (a container), it stays for ever."""
    now = _stat(started.pid)
    return bool(now and now.state not in "ZX" and now.start_time == started.start_time and boot() == started.boot)


def age(started: Started) -> float:
    """Seconds since the process was made, by the clock that its start time is counted in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started.start_time / os.sysconf("SC_CLK_TCK")


def _members(folder: Path, started: Started) -> list[tuple[int, int]]:
    """Pid and start time of each living process of the app: its session, even where its first process is gone."""
    first = _stat(started.pid)
    if boot() != started.boot or (first and first.start_time != started.start_time):
        return []
    found: list[tuple[int, int]] = []
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()):
        now = _stat(pid)
        # The kernel gives a number out again only when no session bears it, so with the first process in sight the
        # number is enough. Without it, what is left must print to this app's log.
        if now and now.session == started.pid and now.state not in "ZX" and (first or _prints_to(folder, pid)):
            found.append((pid, now.start_time))
    return found


def _prints_to(folder: Path, pid: int) -> bool:
    try:
        log = (folder / "app.log").stat()
        return any(os.path.samestat(log, Path(f"/proc/{pid}/fd/{n}").stat()) for n in (1, 2))
    except OSError:
        return False


def _signal(pid: int, start_time: int, number: signal.Signals) -> None:
    """Through a pidfd that is opened before the start time is compared, so that no recycled pid is ever hit."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            now = _stat(pid)
            if now and now.start_time == start_time:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def end(folder: Path, started: Started, patience: float) -> bool:
    """Ends what is left of the app; False where nothing was. The record is gone afterwards."""
    members = _members(folder, started)
    if members:
        append_to_platform_log(folder, "stop", started.pid)

        def gone(number: signal.Signals | None = None) -> bool:
            left = _members(folder, started)
            for member in left if number else ():
                _signal(*member, number or signal.SIGKILL)
            return not left

        for member in members:
            _signal(*member, signal.SIGTERM)
        if not poll(gone, patience) and not poll(lambda: gone(signal.SIGKILL), KILL_LIMIT):
            raise ConnectorError(f"Process {started.pid} does not end even when killed; look at it on the server.")
    (folder / "process").unlink(missing_ok=True)
    (folder / "process.json").unlink(missing_ok=True)
    sync(folder)
    return bool(members)


def recorded(folder: Path) -> Started | None:
    """Who was started last. Raises ConnectorError for a record that cannot be read: taken for "nothing runs", it would
    start a second app."""
    try:
        pid, start_time, its_boot = (folder / "process").readlink().name.split("-")
        return Started(int(pid), int(start_time), its_boot)
    except FileNotFoundError:
        return _recorded_by_the_first_release(folder)
    except (OSError, ValueError):
        raise ConnectorError(
            f"{folder / 'process'} cannot be read; see which process runs, end it, and delete the file."
        ) from None


def _recorded_by_the_first_release(folder: Path) -> Started | None:
    """0.1.0 kept a JSON file, and an app that it started may still run."""
    try:
        stored = json.loads((folder / "process.json").read_bytes())
        return Started(int(stored["pid"]), int(stored["start_time"]), str(stored["boot"]).replace("-", ""))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise ConnectorError(
            f"{folder / 'process.json'} cannot be read; see which process runs, end it, and delete the file."
        ) from None


def append_to_platform_log(folder: Path, call: str, pid: int) -> None:
    """For people who look for what happened. A full disk costs the line, and not the app."""
    log = folder / "platform-log.jsonl"
    line = json.dumps({"time": datetime.now(UTC).isoformat(), "call": call, "pid": pid}) + "\n"
    with contextlib.suppress(OSError):
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_name("platform-log.1.jsonl"))
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


# ---- the intermediate process: `python -m rollouts.connectors.sessions`, the order on standard input ----


def launch(folder: Path, lock: int, *, argv: Sequence[str], cwd: str, env: Mapping[str, str]) -> None:
    """Returns when the command runs, recorded. Raises ConnectorError if it cannot be executed. `lock` is the folder's
    lock, held by the caller."""
    # By standard input, since everybody may read a command line. The lock goes along: it is free again when the app
    # runs, even where the caller was killed meanwhile.
    order = {"folder": str(folder), "lock": lock, "argv": list(argv), "cwd": cwd, "env": dict(env)}
    try:
        launched = subprocess.run(
            [sys.executable, "-P", "-m", "rollouts.connectors.sessions"],
            input=json.dumps(order).encode(),
            capture_output=True,
            timeout=LAUNCH_LIMIT,
            check=False,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=[lock],
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise ConnectorError(
            f"The app was not started within {LAUNCH_LIMIT:.0f} seconds; look at the server's load and disk."
        ) from None
    if launched.stdout or launched.returncode:
        reason = launched.stdout or b"the launcher ended: " + launched.stderr.strip().rpartition(b"\n")[2]
        said = reason.decode(errors="replace")[:NOTE_LIMIT]
        failed = recorded(folder)
        if failed:  # it closed its end of the report a moment before it is gone
            poll(lambda: not lives(failed), KILL_LIMIT)
        raise ConnectorError(f"The app could not be started ({said}); correct its command.")


def _launch() -> None:
    """Forks once and is gone. The fork records itself and becomes the app, so there is no app without a record."""
    order = json.loads(sys.stdin.buffer.read())
    if os.fork():
        os._exit(0)
    report = os.dup(1)
    try:
        os.setsid()
        # Both close themselves when the app begins: then the caller sees the end of the report, and the lock is free.
        os.set_inheritable(report, False)
        os.set_inheritable(order["lock"], False)
        os.umask(0o077)
        _become_quiet(Path(order["folder"]))
        _record_myself(Path(order["folder"]))
        for number in signal.valid_signals():  # what a worker ignores or blocks, the app should not
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.chdir(order["cwd"])
        os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606 (no shell is what is wanted)
    except Exception as error:  # nobody is above this frame to tell
        reason = f"{order['argv'][0]}: {getattr(error, 'strerror', None) or error}".encode()
        os.write(2, reason + b"\n")
        os.write(report, reason)
    finally:
        os._exit(127)


def _become_quiet(folder: Path) -> None:
    """Nothing to read, and the log for what is printed: one log a start, and the one before."""
    log = folder / "app.log"
    if log.exists():
        log.replace(log.with_name("app.log.1"))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, number)


def _record_myself(folder: Path) -> None:
    myself = me()
    link_to(folder / "process", Path(f"{myself.pid}-{myself.start_time}-{myself.boot}"))
    append_to_platform_log(folder, "start", myself.pid)


if __name__ == "__main__":
    _launch()
