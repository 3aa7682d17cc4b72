"""An app on this server: versioned folders, a link that is switched at once, and one session of processes.

What lies in the app's folder, which belongs to this connector alone:

    versions/<digest>/     a delivered bundle (folders 0700, files 0600); the current one and the one before are kept
    current, previous      links into versions/; the app is given the path of `current`
    process.json           who runs: pid, kernel start time, boot; written before the app's first instruction
    app.log, app.log.1     what the app prints, since its last start and since the one before
    platform-log.jsonl     every start and stop that was carried out; nothing here reads it
    lock                   one change at a time, over all threads and processes

The app is nobody's child: an intermediate process starts it and is gone, so a worker that dies takes nothing along.
A process is known by pid *and* start time (/proc/<pid>/stat, field 22, proc(5)), since pids are given out again.
Linux only (/proc, pidfd). No Django here.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from certificates.content import Bundle, digest_of_files
from rollouts.connectors import ConnectorError, Observation

# Seconds. The longest way through one call (lock, term, kill) stays below CALL_LIMIT.
LOCK_LIMIT = 10.0
TERM_LIMIT = 10.0
LEFTOVER_LIMIT = 2.0
KILL_LIMIT = 2.0
LAUNCH_LIMIT = 8.0
STATUS_LIMIT = 2.0
# How long a living process that does not answer counts as starting; a large Mendix app takes about a minute.
START_GRACE = 90.0

ANSWER_LIMIT = 64 * 1024
NOTE_LIMIT = 300
ROOT = Path(__file__).resolve().parents[2]


class LocalProcess:
    """Settings: `folder` (absolute, for this app alone), `argv` (`{configuration}` becomes the path of `current`),
    `status_url` (http on a loopback address), and optionally `cwd` and `env`. Never a shell.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        folder, argv, cwd = settings.get("folder"), settings.get("argv"), settings.get("cwd")
        env = settings.get("env") or {}
        if not isinstance(folder, str) or not folder.startswith("/") or ".." in Path(folder).parts:
            raise ConnectorError("The app's folder is not an absolute path; correct it in the server's settings.")
        if not isinstance(argv, list | tuple) or not argv or not all(isinstance(a, str) and a for a in argv):
            raise ConnectorError("The app's command is not a list of words; correct it in the server's settings.")
        if not isinstance(env, Mapping) or not all(isinstance(v, str) for pair in env.items() for v in pair):
            raise ConnectorError(
                "The app's environment variables are not texts; correct them in the server's settings."
            )
        if cwd is not None and (not isinstance(cwd, str) or not cwd.startswith("/")):
            raise ConnectorError(
                "The app's working folder is not an absolute path; correct it in the server's settings."
            )
        self.folder = Path(folder)
        self.argv = [a.replace("{configuration}", str(self.folder / "current")) for a in argv]
        self.cwd = cwd or folder
        self.env = {
            "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "HOME": os.environ.get("HOME", "/"),
            **env,
        }
        self.host, self.port, self.path = _loopback(settings.get("status_url"))

    def check(self) -> str:
        """Changes nothing. Raises ConnectorError for a folder that cannot be written or a command that is not there."""
        place = self.folder
        while not place.exists():
            place = place.parent
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            raise ConnectorError(f"{place} cannot be written; let the user that runs Countersign own it.")
        # A word with a slash counts from the working folder, as it will when it is started.
        command = str(Path(self.cwd, self.argv[0])) if "/" in self.argv[0] else self.argv[0]
        if shutil.which(command, path=self.env["PATH"]) is None:
            raise ConnectorError(
                f"The command {self.argv[0]} is not found or not executable; correct it or install it."
            )
        started = _read_record(self.folder)
        runs = f"runs as process {started.pid}" if started and _lives(started) else "does not run"
        return f"The folder can be written, the command is there, and the app {runs}."

    def deliver(self, bundle: Bundle) -> None:
        """Writes `versions/<digest>`, switches `current` to it, and deletes all but it and the one before.

        Raises ConnectorError, before anything is written, for a path that could leave the folder.
        """
        _refuse_bad_paths(bundle)
        with _spoken(f"The configuration could not be written to {self.folder}"), _locked(self.folder):
            versions = self.folder / "versions"
            versions.mkdir(mode=0o700, exist_ok=True)
            versions.chmod(0o700)
            digest = bundle.digest
            # A damaged version is never mended in place: the app may be reading it.
            found = [v.name for v in versions.glob(f"{digest}*") if _whole(v, digest)]
            current = _target(self.folder / "current")
            name = current if current in found else found[0] if found else _write_version(versions, bundle)
            if name != current:
                if current and not current.startswith(digest):  # a damaged one is nothing to go back to
                    _point(self.folder / "previous", current)
                _point(self.folder / "current", name)
            kept = {name, _target(self.folder / "previous")}
            for version in versions.iterdir():  # what a killed delivery left behind goes too: keys must not lie around
                if version.name in kept:
                    continue
                if version.is_dir() and not version.is_symlink():
                    shutil.rmtree(version)
                else:
                    version.unlink()
            _sync(versions)

    def delivered_digest(self) -> str:
        """SHA-256 (hex, certificates.content.digest_of_files) over what lies behind `current` now."""
        with _spoken(f"The configuration in {self.folder} could not be read back"):
            return digest_of_files(_files((self.folder / "current").resolve()))

    def start(self) -> None:
        """Returns when the command runs (or ran already), recorded. Raises ConnectorError if it cannot be executed."""
        with _spoken(f"The app in {self.folder} could not be started"), _locked(self.folder) as lock:
            started = _read_record(self.folder)
            if started and _lives(started):
                return
            if started:
                _end(self.folder, started, LEFTOVER_LIMIT)
            # By standard input, since everybody may read a command line. The lock goes along: it is free again when
            # the app runs, even where the caller was killed meanwhile.
            order = {"folder": str(self.folder), "lock": lock, "argv": self.argv, "cwd": self.cwd, "env": self.env}
            try:
                launched = subprocess.run(
                    [sys.executable, "-P", "-m", "rollouts.connectors.local_process"],
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
                failed = _read_record(self.folder)
                if failed:  # it closed its end of the report a moment before it is gone
                    _poll(lambda: not _lives(failed), KILL_LIMIT)
                raise ConnectorError(f"The app could not be started ({said}); correct its command.")

    def stop(self) -> None:
        """SIGTERM to all of the app's session, SIGKILL after TERM_LIMIT seconds; returns when all are gone."""
        _stop(self.folder)

    def observe(self) -> Observation:
        """Asks the kernel whether the recorded process lives, and then the app what it loaded."""
        started = _read_record(self.folder)
        if started is None:
            return Observation("stopped")
        if _lives(started):
            answer, reason = self._ask()
            if _lives(started):  # still: otherwise the answer came from somebody else
                return self._alive(started, answer, reason)
        lines = _last_lines(self.folder / "app.log")
        return Observation("stopped", note=f"The app ended by itself. {lines}" if lines else "The app ended by itself.")

    def _alive(self, started: _Started, answer: dict[str, Any], reason: str) -> Observation:
        incarnation = f"{started.pid}-{started.start_time}"
        digest = answer.get("digest")
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            digest = None
        if answer.get("status") == "running":
            return Observation("running", incarnation, digest)
        young = _age(started) < START_GRACE
        if young or answer.get("status") == "starting":
            return Observation("starting", incarnation, digest, reason)
        return Observation("unreachable", incarnation, digest, reason)

    def _ask(self) -> tuple[dict[str, Any], str]:
        """The app's own status, or {} and why there is none. No proxy and no redirect: http.client knows neither."""
        where = f"The app's process lives, but its status page on port {self.port}"
        try:
            code, body = _get(self.host, self.port, self.path)
            if code != 200 or len(body) > ANSWER_LIMIT:
                return {}, f"{where} answers {code} with {min(len(body), ANSWER_LIMIT)} bytes, not its status."
            answer = json.loads(body)
        except (OSError, http.client.HTTPException) as error:
            return {}, f"{where} does not answer ({getattr(error, 'strerror', None) or 'no answer in time'})."
        except (ValueError, RecursionError):
            return {}, f"{where} does not answer in JSON."
        if not isinstance(answer, dict):
            return {}, f"{where} does not answer with a JSON object."
        status = answer.get("status")
        return answer, "" if status == "running" else f"The app says that its status is {str(status)[:40]!r}."


def stop_all(folder: Path) -> int:
    """Stops every app whose folder lies in `folder`, all at once, and returns how many ran.

    Tries each one before it raises ConnectorError for the first that could not be stopped.
    """
    apps = sorted(record.parent for record in folder.glob("*/process.json"))
    with ThreadPoolExecutor(max_workers=8) as pool:
        calls = [pool.submit(_stop, app) for app in apps]
    return sum(call.result() for call in calls)


# ---- settings ----


def _loopback(url: object) -> tuple[str, int, str]:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port = None, 0
    if host not in ("127.0.0.1", "localhost", "::1") or parts.scheme != "http" or parts.username is not None:
        raise ConnectorError("The app's status address is not http://127.0.0.1:PORT/…; correct it in the settings.")
    return host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Status code and at most ANSWER_LIMIT + 1 bytes, in 2 * STATUS_LIMIT seconds at the most."""
    connection = http.client.HTTPConnection(host, port, timeout=STATUS_LIMIT)
    with contextlib.closing(connection):
        connection.connect()
        # The timeout above is for one read; an answer that drips is cut off by this one.
        limit = threading.Timer(STATUS_LIMIT, _hang_up, [connection.sock])
        limit.daemon = True
        limit.start()
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            response = connection.getresponse()
            return response.status, response.read(ANSWER_LIMIT + 1)
        finally:
            limit.cancel()


def _hang_up(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


# ---- files ----


def _refuse_bad_paths(bundle: Bundle) -> None:
    seen: set[str] = set()
    for file in bundle.files:
        parts = file.path.split("/")
        if any(p in ("", ".", "..") or len(p.encode(errors="replace")) > 200 or not p.isprintable() for p in parts):
            raise ConnectorError(f"The export holds a file with the path {file.path[:80]!r}; nothing was delivered.")
        seen.add(file.path)
    folders = {"/".join(path.split("/")[:n]) for path in seen for n in range(1, path.count("/") + 1)}
    if len(seen) < len(bundle.files) or seen & folders:
        raise ConnectorError("The export holds two files with the same path; nothing was delivered.")


def _write_version(versions: Path, bundle: Bundle) -> str:
    """Writes the bundle under a name that is not in use, whole or not at all; returns the name."""
    new = versions / f".new-{secrets.token_hex(4)}"
    new.mkdir(mode=0o700)
    folders = {new}
    for file in bundle.files:
        path = new / file.path
        for folder in reversed([p for p in path.parents if new in p.parents]):
            folder.mkdir(mode=0o700, exist_ok=True)
            folders.add(folder)
        _write(path, file.content)
    for folder in sorted(folders, key=lambda f: len(f.parts), reverse=True):
        folder.chmod(0o700)
        _sync(folder)
    name = bundle.digest
    if os.path.lexists(versions / name):
        name = f"{name}-{secrets.token_hex(4)}"
    new.rename(versions / name)
    _sync(versions)
    return name


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _point(link: Path, name: str) -> None:
    """Switches the link at once: rename(2) replaces the old one, so there is no moment without any."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(Path("versions", name))
    new.replace(link)
    _sync(link.parent)


def _target(link: Path) -> str:
    """The name of the version that the link points at; "" for none."""
    try:
        target = link.readlink()
    except FileNotFoundError:
        return ""
    return target.name if target.parent == Path("versions") else ""


def _files(folder: Path) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISDIR(mode):
            # We write regular files only. Anything else must never digest like one.
            content = path.read_bytes() if stat.S_ISREG(mode) else b"\0not a regular file\0"
            found.append((path.relative_to(folder).as_posix(), content))
    return found


def _whole(version: Path, digest: str) -> bool:
    private = all(path.lstat().st_mode & 0o077 == 0 for path in (version, *version.rglob("*")) if not path.is_symlink())
    return private and digest_of_files(_files(version)) == digest


@contextlib.contextmanager
def _spoken(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConnectorError(
            f"{what} ({error.strerror or 'no reason given'}); look at the disk and the rights there."
        ) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Never unlocked, only closed: the lock lives on in a launcher that still holds the descriptor."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _poll(lambda: _taken(descriptor), LOCK_LIMIT):
            raise ConnectorError("Another call is changing this app at the moment; try again in half a minute.")
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _poll(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _last_lines(log: Path) -> str:
    """The end of the log in one line of at most NOTE_LIMIT printable characters."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            text = file.read(4096).decode(errors="replace")
    except OSError:
        return ""
    lines = ["".join(c for c in line if c.isprintable()).strip() for line in text.splitlines()]
    return " · ".join(line for line in lines if line)[-NOTE_LIMIT:]


# ---- processes ----


@dataclass(frozen=True)
class _Started:
    """process.json. Start times count from the boot, so they mean nothing in another one."""

    pid: int
    start_time: int
    boot: str
    started_at: str


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


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _lives(started: _Started) -> bool:
    """A zombie does not live: where process 1 collects nobody (a container), it stays for ever."""
    now = _stat(started.pid)
    return bool(now and now.state not in "ZX" and now.start_time == started.start_time and _boot() == started.boot)


def _age(started: _Started) -> float:
    """Seconds since the process was made, by the clock that its start time is counted in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started.start_time / os.sysconf("SC_CLK_TCK")


def _members(folder: Path, started: _Started) -> list[tuple[int, int]]:
    """Pid and start time of each living process of the app: its session, even where its first process is gone."""
    first = _stat(started.pid)
    if _boot() != started.boot or (first and first.start_time != started.start_time):
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


def _end(folder: Path, started: _Started, patience: float) -> bool:
    """Ends what is left of the app; False where nothing was. The record is gone afterwards."""
    members = _members(folder, started)
    if members:
        _append_to_platform_log(folder, "stop", started.pid)

        def gone(number: signal.Signals | None = None) -> bool:
            left = _members(folder, started)
            for member in left if number else ():
                _signal(*member, number or signal.SIGKILL)
            return not left

        for member in members:
            _signal(*member, signal.SIGTERM)
        if not _poll(gone, patience) and not _poll(lambda: gone(signal.SIGKILL), KILL_LIMIT):
            raise ConnectorError(f"Process {started.pid} does not end even when killed; look at it on the server.")
    (folder / "process.json").unlink(missing_ok=True)
    _sync(folder)
    return bool(members)


def _stop(folder: Path) -> bool:
    with _spoken(f"The app in {folder} could not be stopped"), _locked(folder):
        started = _read_record(folder)
        return _end(folder, started, TERM_LIMIT) if started else False


def _read_record(folder: Path) -> _Started | None:
    """Raises ConnectorError for a record that cannot be read: taken for "nothing runs", it would start a second app."""
    record = folder / "process.json"
    try:
        stored = json.loads(record.read_bytes())
        return _Started(int(stored["pid"]), int(stored["start_time"]), str(stored["boot"]), str(stored["started_at"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise ConnectorError(f"{record} cannot be read; see which process runs, end it, and delete the file.") from None


def _append_to_platform_log(folder: Path, call: str, pid: int) -> None:
    line = json.dumps({"time": datetime.now(UTC).isoformat(), "call": call, "pid": pid}) + "\n"
    descriptor = os.open(folder / "platform-log.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


# ---- the intermediate process: `python -m rollouts.connectors.local_process`, the order on standard input ----


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
    me = _stat(os.getpid())
    if me is None:
        raise ValueError("/proc is not mounted")
    record = _Started(os.getpid(), me.start_time, _boot(), datetime.now(UTC).isoformat())
    new = folder / ".process.json.new"
    new.unlink(missing_ok=True)
    _write(new, json.dumps(asdict(record)).encode())
    new.replace(folder / "process.json")
    _sync(folder)
    _append_to_platform_log(folder, "start", record.pid)


if __name__ == "__main__":
    _launch()
