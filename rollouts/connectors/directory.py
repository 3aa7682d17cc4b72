"""A folder on this server, and the commands that start, stop and look at whoever reads it: a service of systemd, nginx,
a container. The commands stand in the server's settings and are never typed on a page; never a shell.

Its folder belongs to this connector alone; what lies in it is told in `folders` and `orders`. What the commands say:

    start, stop    exit code 0. Starting what runs and stopping what is stopped is no mistake.
    reload         optional: makes a running app read its files anew without ending it
    status         exit code 0: it runs, 75: it is starting, 3: it does not run (as LSB's init scripts), other: unknown
                   first line: what identifies this start (a process number and its start time, an invocation), for
                   exit code 3 that of a start that came to its end by itself; second line: the digest of the files
                   that the app reports, "-" for none; the rest: a note for people

No Django here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rollouts.connectors import Abilities, ConnectorError, Observation, Setting, Tick, gettext_noop, orders, sessions
from rollouts.connectors.folders import spoken
from rollouts.connectors.placed import Placed

# Seconds. The longest way through one call (lock, status, command, status) stays below CALL_LIMIT.
STATUS_LIMIT = 2.0
COMMAND_LIMIT = 9.0
# Exit codes of `status`: LSB Core, “Init Script Actions”; sysexits.h EX_TEMPFAIL.
RUNNING, STOPPED, STARTING = 0, 3, 75
ANSWER_LIMIT = 4096
NOTE_LIMIT = 300


class Directory(Placed):
    """Settings: those of Placed; `start`, `stop`, `status` and optionally `reload` as lists of
    words (`{configuration}` becomes the path of `current`); optionally `cwd` and `env`."""

    title = gettext_noop("Folder and commands on this server")
    asks: tuple[Setting, ...] = ()
    exporters: tuple[str, ...] = ()

    def __init__(self, settings: Mapping[str, Any], order: int = 0) -> None:
        super().__init__(settings, order)
        cwd, env = settings.get("cwd"), settings.get("env") or {}
        self.commands: dict[str, list[str]] = {}
        for name in ("start", "stop", "status", "reload"):
            words = settings.get(name)
            if words is None and name == "reload":
                continue
            if not isinstance(words, list | tuple) or not words or not all(isinstance(w, str) and w for w in words):
                raise ConnectorError(f"The app's {name} is not a list of words; correct it in the server's settings.")
            self.commands[name] = [w.replace("{configuration}", str(self.folder / "current")) for w in words]
        if cwd is not None and (not isinstance(cwd, str) or not cwd.startswith("/")):
            raise ConnectorError(
                "The app's working folder is not an absolute path; correct it in the server's settings."
            )
        if not isinstance(env, Mapping) or not all(isinstance(v, str) for pair in env.items() for v in pair):
            raise ConnectorError(
                "The app's environment variables are not texts; correct them in the server's settings."
            )
        self.cwd = cwd or "/"
        self.env = {
            "PATH": os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            "LANG": "C.UTF-8",
            **env,
        }

    @staticmethod
    def able(settings: Mapping[str, Any]) -> Abilities:
        return Abilities(
            gettext_noop("The app itself can report what it loaded; else the files are read back after a new start."),
            reloads=bool(settings.get("reload")),
        )

    def ticks(self) -> Iterator[Tick]:
        yield Tick(gettext_noop("Look at the folder and the commands"), "ok", self.check())

    def check(self) -> str:
        """Changes nothing. Raises ConnectorError for a folder that cannot be written or a command that is not there."""
        self.check_folder()
        for name, argv in self.commands.items():
            command = str(Path(self.cwd, argv[0])) if "/" in argv[0] else argv[0]
            if shutil.which(command, path=self.env["PATH"]) is None:
                raise ConnectorError(f"The command {argv[0]} ({name}) is not found or not executable; correct it.")
        seen = self.observe()
        if seen.status == "unreachable":
            raise ConnectorError(f"The status command does not say how the app is: {seen.note}")
        words = {"running": "runs", "starting": "is starting"}.get(seen.status, "does not run")
        return f"The folder can be written, the commands are there, and the app {words}."

    def start(self) -> None:
        with spoken(f"The app of {self.folder} could not be started"), sessions.locked(self.folder):
            orders.refuse_late(self.folder, self.order)
            if self.observe().status not in ("running", "starting"):
                self._do("start")

    def stop(self) -> None:
        with spoken(f"The app of {self.folder} could not be stopped"), sessions.locked(self.folder):
            orders.refuse_late(self.folder, self.order)
            self._do("stop")
            until = time.monotonic() + STATUS_LIMIT
            while self.observe().incarnation:
                if time.monotonic() > until:
                    raise ConnectorError("The stop command ended well, and the app still runs; look at it.")
                time.sleep(0.1)

    def reload(self) -> None:
        """Makes the running app read what is delivered; one that does not run is started."""
        with spoken(f"The app of {self.folder} could not be reloaded"), sessions.locked(self.folder):
            orders.refuse_late(self.folder, self.order)
            self._do("reload" if self.observe().status in ("running", "starting") else "start")

    def restart(self) -> None:
        raise ConnectorError("A service is stopped and started; no one command does both.")

    def observe(self) -> Observation:
        try:
            code, said = self._run("status", STATUS_LIMIT)
        except ConnectorError as error:
            return Observation("unreachable", note=str(error))
        lines = [_printable(line) for line in said.splitlines()]
        which, digest, note = _identity(lines[0] if lines else ""), "".join(lines[1:2]), " · ".join(lines[2:])
        note = note[:NOTE_LIMIT]
        if code == STOPPED:
            return Observation("stopped", ended=which, note=note)
        if code not in (RUNNING, STARTING):
            said_so = " · ".join(lines)[:NOTE_LIMIT] or "nothing"
            return Observation("unreachable", note=f"The status command ended with {code} and said: {said_so}.")
        if not which:
            return Observation(
                "unreachable", note="The status command does not print what identifies this start; let it do so."
            )
        if code == STARTING:
            return Observation("starting", which, note=note)
        return Observation("running", which, digest if re.fullmatch(r"[0-9a-f]{64}", digest) else None, note)

    def _do(self, name: str) -> None:
        code, said = self._run(name, COMMAND_LIMIT)
        if code:
            lines = " · ".join(_printable(line) for line in said.splitlines() if line.strip())[-NOTE_LIMIT:]
            raise ConnectorError(f"The {name} command ended with {code}: {lines or 'it said nothing'}.")

    def _run(self, name: str, seconds: float) -> tuple[int, str]:
        """Exit code, and what was printed."""
        words = self.commands[name]
        # What start leaves running may go on printing: to a file of the app's folder, as long as that takes.
        if name == "status":
            output = os.memfd_create("said")
        else:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            output = os.open(self.folder / f"{name}.log", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(output, "w+b") as said:
            try:
                running = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, cwd=self.cwd, env=self.env,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise ConnectorError(
                    f"The {name} command {words[0]} cannot be run ({error.strerror or 'no reason given'})."
                ) from None
            try:
                code = running.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
                raise ConnectorError(f"The {name} command did not end within {seconds:.0f} seconds.") from None
            said.seek(0)
            return code, said.read(ANSWER_LIMIT).decode(errors="replace")


def _printable(line: str) -> str:
    return "".join(c for c in line if c.isprintable()).strip()


def _identity(line: str) -> str:
    """What a row has room for."""
    return line if len(line) <= 64 else hashlib.sha256(line.encode()).hexdigest()
