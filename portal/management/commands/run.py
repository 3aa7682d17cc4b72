"""Runs all of Countersign on one machine: web server, worker, clock and sandbox, out of one data folder."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from portal import first_owner
from portal.supervisor import Child, Supervisor
from rollouts import actions
from rollouts.connectors import ConnectorError, local_process
from vault import keyrings
from vault.errors import KeyringAbsent

# Seconds that the apps get to answer before the portal is called ready without them.
APPS_LIMIT = 8.0


class Command(BaseCommand):
    """Exit 0: stopped as asked. Exit 1: could not start, with the reason in a sentence."""

    help = "Run the web server, the worker, the clock and the sandbox until Ctrl-C. Makes what is missing first."
    # They run below, once there is a database to look at.
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.run_all()
        except CommandError as error:
            self.stderr.write(str(error))
            sys.exit(1)
        self.say("Stopped; nothing was left running.")

    def run_all(self) -> None:
        started_at = time.monotonic()
        os.umask(0o077)
        settings.DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        with only_one(settings.DATA_DIR) as cut_short:
            # What was killed leaves programs that are still on their way out.
            ports_are_free(patience=10 if cut_short else 0)
            greeting = Greeting(self.say, prepare(self.say), started_at)
            supervisor = Supervisor(children(), logs=settings.LOGS_DIR, folder=settings.BASE_DIR, say=self.say)
            try:
                supervisor.run(greeting.look)
            finally:
                self.stop_apps()

    def stop_apps(self) -> None:
        """The apps that rollouts started outlive the worker on purpose; here they end with everything else. Those that
        should run are started again by the next run."""
        try:
            local_process.stop_all(settings.APPS_DIR)
        except ConnectorError as error:
            raise CommandError(str(error)) from error

    def say(self, sentence: str) -> None:
        # The terminal may be gone; that must not keep anything from being stopped.
        with contextlib.suppress(OSError, ValueError):
            print(sentence, flush=True)


def prepare(say: Callable[[str], None]) -> tuple[str, str | None]:
    """Brings the data folder and the database to the state that this version needs. Returns the first owner's name, and
    a one-time password if that account was made just now. Several at once wait for one another."""
    with taking_turns(say) as waited:
        return _prepare(say, just_done_elsewhere=waited)


def _prepare(say: Callable[[str], None], *, just_done_elsewhere: bool) -> tuple[str, str | None]:
    call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
    # Before a key is made: where sealed objects exist, a key that is gone must be put back and not be replaced.
    errors = [message for message in checks.run_checks(databases=["default"]) if message.is_serious(checks.ERROR)]
    if errors:
        raise CommandError("\n".join(f"{error.msg} ({error.id})" for error in errors))
    kind, options = keyrings.configured(settings.VAULT_KEYRING)
    try:
        kind.from_options(options)
    except KeyringAbsent:
        call_command("generate_vault_key", stdout=io.StringIO())
        say(f"Made the vault's key in {kind.whereabouts(options)}; keep a copy of it away from this machine.")
    call_command("collectstatic", interactive=False, verbosity=0, skip_checks=True)
    return first_owner.ensure(just_done_elsewhere=just_done_elsewhere)


# A number of our own in PostgreSQL's space of advisory locks; two of us agree on it, nothing else does.
TURN = 0x_C047_E251


@contextlib.contextmanager
def taking_turns(say: Callable[[str], None]) -> Iterator[bool]:
    """One preparation at a time for a data folder, and for a database that machines share. Yields whether another one
    had to end first. Locks are let go when their holder is gone, however it went."""
    with (settings.DATA_DIR / "prepare.lock").open("a") as lock:
        waited = False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            say("Waiting for another preparation to end.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if connection.vendor != "postgresql":
            yield waited
            return
        with connection.cursor() as cursor:
            # What a page may not take, an upgrade may; and a turn is waited for without an end.
            cursor.execute("SET statement_timeout TO 0")
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [TURN])
            if not cursor.fetchone()[0]:
                waited = True
                say("Waiting for another preparation of this database to end.")
                cursor.execute("SET lock_timeout TO 0")
                cursor.execute("SELECT pg_advisory_lock(%s)", [TURN])
                cursor.execute("RESET lock_timeout")
        try:
            yield waited
        finally:
            connection.close()  # with it go the lock and the longer limit


class Greeting:
    """Says once that the portal answers, and how to get in."""

    def __init__(self, say: Callable[[str], None], owner: tuple[str, str | None], started_at: float) -> None:
        self._say = say
        self._username, self._password = owner
        self._started_at = started_at
        self._apps_started_at: float | None = None
        self._done = False

    def look(self) -> None:
        needed = [f"http://127.0.0.1:{settings.PORT}/healthz"]
        if settings.SANDBOX:
            needed.append(f"http://127.0.0.1:{settings.SANDBOX_PORT}/samples.json")
        if self._done or not all(map(answers, needed)):
            return
        if self._apps_started_at is None:
            self._apps_started_at = time.monotonic()
            for failure in actions.start_what_should_run():
                self._say(failure)
        late = actions.still_starting()
        if late and time.monotonic() - self._apps_started_at < APPS_LIMIT:
            return
        self._done = True
        for title in late:
            self._say(f"{title} is still starting; its environment's page says when it runs.")
        self._say(f"Ready in {time.monotonic() - self._started_at:.0f} s.")
        self._say(f"  Portal    http://127.0.0.1:{settings.PORT}/")
        if self._password:
            self._say(f"  Sign in   as {self._username} with {self._password}, once; it is not shown again")
        if settings.SANDBOX:
            self._say(f"  Sandbox   http://127.0.0.1:{settings.SANDBOX_PORT}/ has sample files and shows who called")
        self._say(f"  Data      {settings.DATA_DIR}")
        self._say("Ctrl-C stops everything.")


def children() -> list[Child]:
    python = (sys.executable, "-m")
    temporary = settings.DATA_DIR / "tmp"
    temporary.mkdir(mode=0o700, exist_ok=True)
    web = Child(
        "web",
        "web server",
        (
            *python, "gunicorn", "portal.wsgi:application",
            "--bind", f"127.0.0.1:{settings.PORT}",
            # What is the same everywhere stands in gunicorn.conf.py.
            "--workers", "2", "--graceful-timeout", "5",
            "--worker-tmp-dir", str(temporary),
        ),
    )  # fmt: skip
    worker = Child(
        "worker",
        "worker",
        (
            *python, "celery", "--app", "portal.celery", "--quiet", "worker",
            "--pool", "prefork", "--concurrency", "2", "--loglevel", "INFO",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ),
        # A move in progress is finished; one that takes longer is taken up again after the next start.
        patience=20,
    )  # fmt: skip
    clock = Child(
        "clock",
        "clock",
        (
            *python, "celery", "--app", "portal.celery", "--quiet", "beat",
            "--schedule", str(settings.DATA_DIR / "clock"),
            # only_one() already sees to it; a number in a file outlives its process.
            "--pidfile", "", "--loglevel", "WARNING",
        ),
    )  # fmt: skip
    return [web, worker, clock, *sandbox()]


def sandbox() -> list[Child]:
    if not settings.SANDBOX:
        return []
    settings.SANDBOX_DIR.mkdir(mode=0o700, exist_ok=True)
    return [
        Child(
            "partner",
            "sandbox partner",
            (
                sys.executable, "-m", "sandbox.partner",
                "--folder", str(settings.SANDBOX_DIR),
                "--port", str(settings.SANDBOX_TLS_PORT),
                "--http-port", str(settings.SANDBOX_PORT),
            ),
        )
    ]  # fmt: skip


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310  # the address is our own
            return bool(response.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[bool]:
    """One run at a time for a data folder. The kernel frees the lock when its holder is gone, however it went; yields
    whether the run before was cut short."""
    with (folder / "run.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"Countersign already runs on {folder}; stop it there first.") from None
        cut_short = lock.tell() > 0
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        try:
            yield cut_short
        finally:
            lock.truncate(0)


def ports_are_free(patience: float) -> None:
    """Refuses where a port is still taken after `patience` seconds."""
    ports = {"COUNTERSIGN_PORT": [settings.PORT]}
    if settings.SANDBOX:
        ports["COUNTERSIGN_SANDBOX_PORT"] = [settings.SANDBOX_PORT, settings.SANDBOX_TLS_PORT]
    deadline = time.monotonic() + patience
    for variable, numbers in ports.items():
        for number in numbers:
            while reason := why_not(number):
                if time.monotonic() > deadline:
                    raise CommandError(f"Port {number} cannot be used ({reason}); choose another with {variable}=…")
                time.sleep(0.2)


def why_not(port: int) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror or "no reason given"
    return ""
