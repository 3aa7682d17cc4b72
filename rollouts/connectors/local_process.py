"""An app on this server: versioned folders, a link that is switched at once, and one session of processes.

Its folder belongs to this connector alone; what lies in it is told in `folders` and `sessions`, and

    order                  a link to nowhere whose target is the highest fencing number that was seen

Linux only. No Django here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from certificates.content import Bundle
from rollouts.connectors import (
    Abilities,
    ConnectorError,
    Observation,
    Setting,
    Tick,
    folders,
    gettext_noop,
    orders,
    sessions,
)
from rollouts.connectors.folders import spoken

STATUS_LIMIT = 2.0
# How long a living process that does not answer counts as starting; a large Mendix app takes about a minute.
START_GRACE = 90.0
ANSWER_LIMIT = 64 * 1024


class LocalProcess:
    """Settings: `folder` (absolute, for this app alone), `argv` (`{configuration}` becomes the path of `current`),
    `status_url` (http on a loopback address), and optionally `cwd` and `env`. Never a shell.
    """

    title = gettext_noop("Process on this server")
    asks: tuple[Setting, ...] = ()
    exporters: tuple[str, ...] = ()

    def __init__(self, settings: Mapping[str, Any], order: int = 0) -> None:
        self.order = order
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

    @staticmethod
    def able(settings: Mapping[str, Any]) -> Abilities:
        return Abilities(
            gettext_noop("The app itself can report what it loaded; else the files are read back after a new start.")
        )

    @staticmethod
    def names(settings: Mapping[str, Any]) -> tuple[str, str]:
        return str(settings.get("folder")), str(settings.get("title", settings.get("folder")))

    def ticks(self) -> Iterator[Tick]:
        yield Tick(gettext_noop("Look at the folder and the commands"), "ok", self.check())

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
        started = sessions.recorded(self.folder)
        runs = f"runs as process {started.pid}" if started and sessions.lives(started) else "does not run"
        return f"The folder can be written, the command is there, and the app {runs}."

    def deliver(self, bundle: Bundle) -> None:
        """Writes the files aside and switches `current` to them at once; the bundle before is kept.

        Raises ConnectorError, before anything is written, for a path that could leave the folder.
        """
        folders.refuse_bad_paths(bundle)
        with (
            spoken(f"The configuration could not be written to {self.folder}"),
            sessions.locked(self.folder),
        ):
            self._in_order()
            folders.deliver(self.folder, bundle)

    def delivered_digest(self) -> str:
        """SHA-256 (hex, certificates.content.digest_of_files) over what lies behind `current` now."""
        with spoken(f"The configuration in {self.folder} could not be read back"):
            return folders.delivered_digest(self.folder)

    def start(self) -> None:
        """Returns when the command runs (or ran already), recorded. Raises ConnectorError if it cannot be executed."""
        with spoken(f"The app in {self.folder} could not be started"), sessions.locked(self.folder) as lock:
            self._in_order()
            started = sessions.recorded(self.folder)
            if started and sessions.lives(started):
                return
            if started:
                sessions.end(self.folder, started, sessions.LEFTOVER_LIMIT)
            sessions.launch(self.folder, lock, argv=self.argv, cwd=self.cwd, env=self.env)

    def stop(self) -> None:
        """SIGTERM to all of the app's session, SIGKILL after TERM_LIMIT seconds; returns when all are gone."""
        _stop(self.folder, self._in_order)

    def reload(self) -> None:
        raise ConnectorError("An app that runs as a process is not reloaded; restart it.")

    restart = reload

    def _in_order(self) -> None:
        orders.refuse_late(self.folder, self.order)

    def observe(self) -> Observation:
        """Asks the kernel whether the recorded process lives, and then the app what it loaded."""
        started = sessions.recorded(self.folder)
        if started is None:
            return Observation("stopped")
        if sessions.lives(started):
            answer, reason = self._ask()
            if sessions.lives(started):  # still: otherwise the answer came from somebody else
                return self._alive(started, answer, reason)
        lines = sessions.last_lines(self.folder / "app.log")
        note = f"The app ended by itself. {lines}" if lines else "The app ended by itself."
        return Observation("stopped", note=note, ended=started.incarnation)

    def _alive(self, started: sessions.Started, answer: dict[str, Any], reason: str) -> Observation:
        incarnation = started.incarnation
        digest = answer.get("digest")
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            digest = None
        if answer.get("status") == "running":
            return Observation("running", incarnation, digest)
        young = sessions.age(started) < START_GRACE
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
    found = folder.iterdir() if folder.is_dir() else []
    apps = sorted(app for app in found if any(os.path.lexists(app / name) for name in sessions.RECORDS))
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


def _stop(folder: Path, allowed: Callable[[], None] = lambda: None) -> bool:
    with spoken(f"The app in {folder} could not be stopped"), sessions.locked(folder):
        allowed()
        started = sessions.recorded(folder)
        return sessions.end(folder, started, sessions.TERM_LIMIT) if started else False
