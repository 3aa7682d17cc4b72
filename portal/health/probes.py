"""Looks at what the portal depends on, each look in a thread with a limit, so that what hangs hangs nobody else.

Of each probe at most one thread is ever under way in a process, and an outcome is good for FRESH seconds: whoever asks,
and however often, the database and its companions are asked no more than that.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import Error, connection, connections, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from portal.logs import described
from rollouts.models import Pulse
from vault import soundness
from vault.errors import VaultError

# Seconds.
FRESH = 2.0
LIMIT = 2.0
DATABASE_LIMIT = 1.5  # the vault's key is looked at after it, within the other's limit
BROKER_LIMIT = 1.0
# How often a storage elsewhere is written to while all is well: there each writing may have its price.
TRY_WRITING = 60.0
SAMPLE = 5


@dataclass(frozen=True)
class Outcome:
    """`sentence` is for owners and says what is wrong, "" when nothing is; `since` is when this process first saw it
    so. `facts` are what was found on the way."""

    ok: bool
    sentence: str = ""
    since: datetime = field(default_factory=timezone.now)
    at: datetime = field(default_factory=timezone.now)
    facts: Mapping[str, Any] = field(default_factory=dict)


class NotOk(Exception):
    """One sentence: what is wrong with what was looked at."""


class _Look:
    """One look under way."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.done = threading.Event()


class Probe:
    """Asks one question, whose answer is a mapping of facts, or an exception whose text is for owners.

    Always from the same thread, because a client of S3 is costly to make and each thread makes its own.
    """

    def __init__(self, ask: Callable[[], Mapping[str, Any]], limit: float) -> None:
        self._ask = ask
        self._limit = limit
        self._lock = threading.Lock()
        self._wanted = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._look: _Look | None = None
        self._outcome: Outcome | None = None
        self._asked = float("-inf")

    def begin(self) -> None:
        """Starts a look, unless one is under way or the last one is fresh."""
        with self._lock:
            if self._look is not None or time.monotonic() - self._asked < FRESH:
                return
            self._look = _Look()
            if self._thread is None:
                self._thread = threading.Thread(target=self._stay, name="health", daemon=True)
                self._thread.start()
        self._wanted.release()

    def outcome(self) -> Outcome:
        """What was found. Waits until the look under way has lasted for the limit, then says that it did not end; who
        asks meanwhile is told so at once."""
        self.begin()
        with self._lock:
            look, last = self._look, self._outcome
        if look is not None and not look.done.wait(max(0.0, look.begun + self._limit - time.monotonic())):
            late = Outcome(False, _("It does not answer within %(n)g seconds.") % {"n": self._limit})
            with self._lock:
                if self._look is look:
                    self._outcome = late = _since(late, last)
            return late
        with self._lock:
            assert self._outcome is not None
            return self._outcome

    def _stay(self) -> None:
        while True:
            self._wanted.acquire()
            self._run()

    def _run(self) -> None:
        try:
            found = Outcome(True, facts=self._ask())
        except (NotOk, VaultError) as error:
            found = Outcome(False, str(error))
        except Exception as error:  # what is asked has families of its own; their texts may hold addresses
            found = Outcome(False, _("It cannot be used (%(why)s).") % {"why": described(error)})
        finally:
            connections.close_all()
        with self._lock:
            look, self._look = self._look, None
            self._outcome = _since(found, self._outcome)
            self._asked = time.monotonic()
        assert look is not None
        look.done.set()


def _since(now: Outcome, before: Outcome | None) -> Outcome:
    since = before.since if before is not None and before.ok == now.ok else now.at
    return Outcome(now.ok, now.sentence, since, now.at, now.facts)


# --- What is asked ----------------------------------------------------------------------------------------------------


@cache
def _latest_migrations() -> frozenset[tuple[str, str]]:
    """The last migration of each part, as this release's files have it."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


def ask_database() -> dict[str, Any]:
    """Reads what everything else here needs too. Six queries, whatever the database holds."""
    begun = time.monotonic()
    try:
        connection.ensure_connection()
        if MigrationRecorder.Migration._meta.db_table not in connection.introspection.table_names():
            raise NotOk(_("It holds no tables of Countersign; run “manage.py prepare”, or put the right one back."))
        applied = set(MigrationRecorder(connection).migration_qs.values_list("app", "name"))
        missing = _latest_migrations() - applied
        if missing:
            raise NotOk(
                ngettext(
                    "%(n)d part of it is older than this release; run “manage.py prepare”.",
                    "%(n)d parts of it are older than this release; run “manage.py prepare”.",
                    len(missing),
                )
                % {"n": len(missing)}
            )
        return {
            "keys": soundness.KeysNeeded.read(),
            "pulses": list(Pulse.objects.order_by("-at")[:200]),
            "took": time.monotonic() - begun,
        }
    except Error as error:
        raise NotOk(_("It cannot be read (%(why)s).") % {"why": described(error)}) from error


def ask_writing() -> dict[str, Any]:
    """Writes a row of no meaning. Asked only when workers or clock are silent: maybe they cannot write either."""
    try:
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA busy_timeout = 1000")
        with transaction.atomic():
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL lock_timeout = '1s'")
            Pulse.objects.update_or_create(name="trial", defaults={"kind": "trial", "at": timezone.now()})
    except Error as error:
        raise NotOk(_("It can be read and not be written (%(why)s).") % {"why": described(error)}) from error
    return {}


class AskStorage:
    """Remembers when it last wrote; every time where that costs nothing, or while something is wrong."""

    def __init__(self) -> None:
        self.wrote = float("-inf")

    def __call__(self) -> dict[str, Any]:
        write = soundness.storage_is_local() or time.monotonic() - self.wrote > TRY_WRITING
        begun = time.monotonic()
        try:
            soundness.storage_answers(write=write)
        except VaultError:
            self.wrote = float("-inf")
            raise
        if write:
            self.wrote = time.monotonic()
        return {"took": time.monotonic() - begun}


class AskSample:
    """Looks for the files of a few living objects, others each time. Elsewhere, while all of them are there, as seldom
    as it is written to."""

    def __init__(self) -> None:
        self.looked = float("-inf")
        self.facts: dict[str, Any] = {}

    def __call__(self) -> dict[str, Any]:
        if soundness.storage_is_local() or time.monotonic() - self.looked > TRY_WRITING:
            names = soundness.sample(SAMPLE)
            self.facts = {"looked_for": len(names), "missing": soundness.missing(names)}
            self.looked = float("-inf") if self.facts["missing"] else time.monotonic()
        return self.facts


def ask_vault_key() -> dict[str, Any]:
    """Whether the key is there and is the right one, as far as the database was heard about that."""
    needed = PROBES["database"].outcome().facts.get("keys", soundness.KeysNeeded())
    ring = soundness.key_fits(needed)
    return {"keys": len(ring.key_ids), "used": len(set(needed.noted) & ring.key_ids)}


def ask_broker() -> dict[str, Any]:
    """Connects as a page does that asks for a rollout."""
    with current_app.connection_for_write(connect_timeout=BROKER_LIMIT) as broker:
        broker.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=BROKER_LIMIT)
        channel = broker.default_channel
        folder = getattr(channel, "folder", None)
        if isinstance(folder, Path):  # our queue of files: nothing has been asked of it yet
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            trial = folder / f".trial-{threading.get_ident()}"
            trial.write_bytes(b"x")
            trial.unlink()
            return {"where": str(folder), "kind": "files"}
        return {"where": broker.as_uri(), "kind": broker.transport.driver_type}


def ask_disk() -> dict[str, Any]:
    usage = shutil.disk_usage(settings.DATA_DIR)
    return {"free": usage.free, "total": usage.total}


def fresh() -> dict[str, Probe]:
    """All probes, which know nothing yet."""
    return {
        "database": Probe(ask_database, DATABASE_LIMIT),
        "writing": Probe(ask_writing, LIMIT),
        "storage": Probe(AskStorage(), LIMIT),
        "vault_key": Probe(ask_vault_key, LIMIT),
        "broker": Probe(ask_broker, BROKER_LIMIT + 0.5),
        "sample": Probe(AskSample(), LIMIT),
        "disk": Probe(ask_disk, LIMIT),
    }


PROBES = fresh()


def outcomes(names: Iterable[str]) -> dict[str, Outcome]:
    """These probes' outcomes; they are asked at the same time."""
    names = list(names)
    for name in names:
        PROBES[name].begin()
    return {name: PROBES[name].outcome() for name in names}
