"""The parts of this installation in words, worst first: how each one is, since when, and what to do."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Count, Min, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certificates.models import Draft
from notices import watching
from notices.models import Message
from portal.health import probes
from portal.health.probes import Outcome
from portal.health.readiness import NEEDED, SILENT, last, nothing_is_there
from portal.templatetags.page import ago, moment, size
from rollouts.models import Destination, Pulse, Rollout
from rollouts.pulses import CLOCK, SWEEP, TIDY, WORKER
from rollouts.stages import title
from rollouts.states import ACTIVE
from vault import soundness
from vault.errors import VaultError
from vault.models import SealedObject

# Lower is worse.
NOT_READY, WRONG, GOOD = range(3)
STARTED = timezone.now()
NAMED = 10
# A worker that was silent for this long is taken for one that nobody misses; a day later its row goes too.
MISSED = timedelta(minutes=15)
# A rollout is taken up by a worker at once; the queue may lose a nudge, and the sweep repeats it within seconds.
TAKEN_UP = timedelta(minutes=1)
# Tidied every ten minutes.
UNTIDIED = timedelta(minutes=30)
LITTLE, LITTLE_SHARE = 500_000_000, 0.10


@dataclass(frozen=True)
class Part:
    """One line: `key` names it in /readyz and in docs/operations.md; `links` are (address, words)."""

    key: str
    name: str
    rank: int
    sentence: str
    since: datetime | None = None
    to_do: str = ""
    links: list[tuple[str, str]] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return self.key.replace("_", "-")

    @property
    def chip(self) -> tuple[str, str, str]:
        return {
            NOT_READY: (_("Not ready"), "bad", "alert"),
            WRONG: (_("Look at it"), "warn", "alert"),
            GOOD: (_("OK"), "good", "check"),
        }[self.rank]


def parts(*, started: datetime | None) -> list[Part]:
    """All of them, worst first. `started`: nobody is called silent for what was before this moment (None: always).

    A constant number of queries, and no more than probes.LIMIT seconds for what hangs.
    """
    found = probes.outcomes(name for name in probes.PROBES if name != "writing")
    pulses: list[Pulse] = found["database"].facts.get("pulses", [])
    # What shows no sign of life may live and be unable to leave one.
    silent = any(is_silent(kind, last(pulses, kind), started) for kind in SILENT)
    written = probes.outcomes(["writing"])["writing"] if silent and found["database"].ok else None
    told = [
        _database(found["database"], written),
        _storage(found["storage"], found["sample"]),
        _vault_key(found["vault_key"]),
        _broker(found["broker"]),
        _workers(pulses, started),
        _clock(pulses, started),
        _sweep(pulses, started),
        _rollouts(),
        _apps(),
        _disk(found["disk"]),
        _drafts(),
        _watch(),
        _notices(),
        _web(),
    ]
    return sorted(told, key=lambda part: part.rank)


def _bad(key: str, name: str, outcome: Outcome, to_do: str) -> Part:
    rank = NOT_READY if key in NEEDED else WRONG
    return Part(key, name, rank, outcome.sentence, outcome.since, to_do)


# --- What the portal depends on ---------------------------------------------------------------------------------------


def _database(outcome: Outcome, written: Outcome | None) -> Part:
    name = _("Database")
    if not outcome.ok:
        return _bad(
            "database", name, outcome, _("Pages fail until it is back; apps run on, and nothing has to be restarted.")
        )
    if written is not None and not written.ok:
        to_do = _(
            "What is there can be looked at and nothing can be changed; look at its disk, and at who holds it locked."
        )
        return Part("database", name, WRONG, written.sentence, written.since, to_do)
    values = {"what": _engine(), "ms": max(1, round(outcome.facts["took"] * 1000))}
    return Part(
        "database", name, GOOD, _("%(what)s; it was read within %(ms)d ms, and all migrations are applied.") % values
    )


def _engine() -> str:
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        files = [Path(f"{values['NAME']}{ending}") for ending in ("", "-wal")]
        return _("SQLite, %(size)s in %(file)s") % {
            "size": size(sum(file.stat().st_size for file in files if file.exists())),
            "file": values["NAME"],
        }
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version'), pg_database_size(current_database())")
        version, used = cursor.fetchone()
    where = f"{values['HOST'] or 'localhost'}:{values['PORT'] or 5432}/{values['NAME']}"
    return _("PostgreSQL %(version)s, %(size)s in %(where)s") % {
        "version": version.split()[0],
        "size": size(used),
        "where": where,
    }


def _storage(outcome: Outcome, sample: Outcome) -> Part:
    name = _("Storage of sealed files")
    if not outcome.ok:
        return _bad("storage", name, outcome, _("No certificate can be added, applied or exported until it is back."))
    if sample.ok and nothing_is_there(sample):
        said = _("%(where)s has none of the %(n)d sealed objects just looked for.")
        to_do = _("Mount or name the right one; nothing has to be restarted.")
        values = {"where": _where(), "n": sample.facts["looked_for"]}
        return Part("storage", name, NOT_READY, said % values, sample.since, to_do)
    if sample.ok and sample.facts["missing"]:
        said = _("%(where)s lacks %(file)s, which was to be there.")
        to_do = _("Restore it from the storage's backup; until then what needs it is refused, and nothing else.")
        values = {"where": _where(), "file": sample.facts["missing"][0]}
        return Part("storage", name, WRONG, said % values, sample.since, to_do)
    known = SealedObject.objects.filter(destroyed_at=None).count()
    found = ngettext("%(n)d sealed object is known", "%(n)d sealed objects are known", known) % {"n": known}
    if sample.ok and sample.facts["looked_for"]:
        values = {"known": found, "n": sample.facts["looked_for"]}
        found = (
            ngettext("%(known)s; of %(n)d, the file is there", "%(known)s; of %(n)d, the files are there", values["n"])
            % values
        )
    return Part("storage", name, GOOD, _("%(where)s takes and gives; %(found)s.") % {"where": _where(), "found": found})


def _where() -> str:
    configured: Any = settings.STORAGES["vault"]
    options: dict[str, Any] = configured.get("OPTIONS", {})
    if "bucket_name" in options:
        return _("The bucket %(name)s at %(where)s") % {
            "name": options["bucket_name"],
            "where": options.get("endpoint_url") or "S3",
        }
    return _("The folder %(name)s") % {"name": options.get("location", "")}


def _vault_key(outcome: Outcome) -> Part:
    name = _("Vault key")
    if not outcome.ok:
        return _bad("vault_key", name, outcome, _("Put the key back from its copy; nothing has to be restarted."))
    try:
        where = soundness.key_is_kept()
    except VaultError as error:
        return Part("vault_key", name, NOT_READY, str(error))
    used = ngettext("%(n)d key is in use", "%(n)d keys are in use", outcome.facts["used"]) % {
        "n": outcome.facts["used"]
    }
    return Part(
        "vault_key",
        name,
        GOOD,
        _("It is in %(where)s and fits; %(used)s. Keep a copy in another place than the backups.")
        % {"where": where, "used": used},
    )


def _broker(outcome: Outcome) -> Part:
    name = _("Broker")
    if not outcome.ok:
        return _bad(
            "broker", name, outcome, _("What is asked for waits, and begins by itself when it is back; pages work.")
        )
    where = outcome.facts["where"]
    if outcome.facts["kind"] == "files":
        return Part("broker", name, GOOD, _("The queue of files in %(where)s takes messages.") % {"where": where})
    return Part("broker", name, GOOD, _("%(where)s answers.") % {"where": where})


# --- Who works --------------------------------------------------------------------------------------------------------


def is_silent(kind: str, at: datetime | None, started: datetime | None) -> bool:
    since = max((moment for moment in (at, started) if moment is not None), default=None)
    return since is None or timezone.now() - since > SILENT[kind]


def here_works(kind: str, host: str) -> bool:
    """Whether a worker (or clock) of this machine showed itself lately."""
    lately = timezone.now() - SILENT[kind]
    return any(
        pulse.kind == kind and pulse.host == host and pulse.at >= lately
        for pulse in probes.PROBES["database"].outcome().facts.get("pulses", [])
    )


def _workers(pulses: list[Pulse], started: datetime | None) -> Part:
    name = _("Workers")
    ours = [pulse for pulse in pulses if pulse.kind == WORKER and pulse.host]
    newest = last(pulses, WORKER)
    if is_silent(WORKER, newest, started):
        said = (
            _("No worker has shown itself since %(when)s.") % {"when": moment(newest)}
            if newest
            else _("No worker has shown itself yet.")
        )
        if is_silent(CLOCK, last(pulses, CLOCK), started):
            return Part(
                "worker",
                name,
                WRONG,
                said,
                newest,
                _("They show themselves when the clock ticks: look at the clock first, then at the workers' log."),
            )
        return Part(
            "worker",
            name,
            WRONG,
            said,
            newest,
            _("What is asked for waits and nothing is lost. Look at the worker's log, and start it."),
        )
    now = timezone.now()
    living = [pulse for pulse in ours if now - pulse.at <= SILENT[WORKER]]
    missed = [pulse for pulse in ours if SILENT[WORKER] < now - pulse.at <= MISSED]
    if not living:
        return Part("worker", name, GOOD, _("A worker is being waited for; it has just been started."))
    if missed:
        works = ngettext("%(n)d worker works", "%(n)d workers work", len(living)) % {"n": len(living)}
        said = _("%(works)s; silent: %(who)s.") % {"works": works, "who": _who(missed)}
        to_do = _("If it was stopped on purpose, this line goes by itself; otherwise look at its log.")
        return Part("worker", name, WRONG, said, min(pulse.at for pulse in missed), to_do)
    return Part(
        "worker",
        name,
        GOOD,
        ngettext("%(n)d worker works: %(who)s.", "%(n)d workers work: %(who)s.", len(living))
        % {"n": len(living), "who": _who(living)},
    )


def _who(rows: Iterable[Pulse]) -> str:
    """“host-a (process 12, since …), host-b (…)”."""
    rows = list(rows)
    said = [
        _("%(host)s (process %(pid)d, since %(since)s)")
        % {"host": row.host, "pid": row.pid, "since": moment(row.since)}
        for row in sorted(rows, key=lambda row: (row.host, row.pid))[:NAMED]
    ]
    if len(rows) > NAMED:
        said.append(_("%(n)d more") % {"n": len(rows) - NAMED})
    return ", ".join(said)


def _clock(pulses: list[Pulse], started: datetime | None) -> Part:
    name = _("Clock")
    newest = last(pulses, CLOCK)
    if is_silent(CLOCK, newest, started):
        said = (
            _("It has not ticked since %(when)s.") % {"when": moment(newest)} if newest else _("It has not ticked yet.")
        )
        to_do = _(
            "Rollouts go on, but apps are not looked after, and what the queue loses is not repeated. "
            "Look at the broker first, then at the clock's log."
        )
        return Part("clock", name, WRONG, said, newest, to_do)
    now = timezone.now()
    living = [pulse for pulse in pulses if pulse.kind == CLOCK and now - pulse.at <= SILENT[CLOCK]]
    if len(living) > 1:
        return Part(
            "clock",
            name,
            GOOD,
            _("%(n)d clocks tick: %(who)s. One is enough; more do no harm.") % {"n": len(living), "who": _who(living)},
        )
    return Part(
        "clock",
        name,
        GOOD,
        _("It ticked %(when)s.") % {"when": ago(newest)}
        if living
        else _("It is being waited for; it has just been started."),
    )


def _sweep(pulses: list[Pulse], started: datetime | None) -> Part:
    name = _("Looking after")
    swept, tidied = last(pulses, SWEEP), last(pulses, TIDY)
    said = _("Apps were last looked after %(when)s.") % {"when": ago(swept)}
    if tidied is not None:
        said += " " + _("Expired drafts were last removed %(when)s.") % {"when": ago(tidied)}
    late = started is None or timezone.now() - started > UNTIDIED
    if late and (tidied is None or timezone.now() - tidied > UNTIDIED):
        return Part(
            "sweep",
            name,
            WRONG,
            said,
            tidied,
            _("The worker's log says why; what is left over is sealed and only takes room."),
        )
    return Part("sweep", name, GOOD, said)


# --- What they work on ------------------------------------------------------------------------------------------------


def _rollouts() -> Part:
    name = _("Rollouts")
    now = timezone.now()
    active = list(
        Rollout.objects.filter(state__in=ACTIVE)
        .select_related("environment__application", "revision")
        .order_by("state_since")[:200]
    )
    late = [r for r in active if r.overdue or (r.state == "requested" and now - r.state_since > TAKEN_UP)]
    if not active:
        return Part("rollouts", name, GOOD, _("None is under way."))
    if not late:
        return Part(
            "rollouts",
            name,
            GOOD,
            ngettext(
                "%(n)d is under way, none longer than expected.",
                "%(n)d are under way, none longer than expected.",
                len(active),
            )
            % {"n": len(active)},
        )
    return Part(
        "rollouts", name, WRONG,
        ngettext("%(n)d takes longer than expected.", "%(n)d take longer than expected.", len(late)) % {"n": len(late)},
        late[0].state_since,
        _("Their pages say what they wait for; a worker that lives takes them up by itself."),
        [(r.get_absolute_url(), f"{r.environment}: {title(r)}") for r in late[:NAMED]],
    )  # fmt: skip


def _apps() -> Part:
    name = _("Apps")
    wanted = Destination.objects.filter(wanted_running=True, environment__archived_at=None)
    away = Q(observed_status__in=("unreachable", "stopped"))
    counted = wanted.aggregate(all=Count("pk"), away=Count("pk", filter=away))
    if not counted["all"]:
        return Part("apps", name, GOOD, _("None should run."))
    if not counted["away"]:
        return Part(
            "apps",
            name,
            GOOD,
            ngettext(
                "%(n)d app should run and was reached.", "%(n)d apps should run, and all were reached.", counted["all"]
            )
            % {"n": counted["all"]},
        )
    lost = wanted.filter(away).select_related("environment__application").order_by("observed_at")[:NAMED]
    said = ngettext(
        "%(n)d of %(all)d apps that should run cannot be reached.",
        "%(n)d of %(all)d apps that should run cannot be reached.",
        counted["away"],
    ) % {"n": counted["away"], "all": counted["all"]}
    to_do = _("Look at the app on its server; nothing here restarts an app that nobody asked to.")
    links = [(d.environment.get_absolute_url(), str(d.environment)) for d in lost]
    return Part("apps", name, WRONG, said, None, to_do, links)


def _disk(outcome: Outcome) -> Part:
    name = _("Disk")
    if not outcome.ok:
        return _bad("disk", name, outcome, _("Look at the data folder's disk."))
    free, total = outcome.facts["free"], outcome.facts["total"]
    said = _("%(free)s of %(total)s are free where the data folder is.") % {"free": size(free), "total": size(total)}
    if free < LITTLE or free < LITTLE_SHARE * total:
        return Part(
            "disk",
            name,
            WRONG,
            said,
            outcome.since,
            _("Make room before it is full: then nothing can be saved, and apps run on as they are."),
        )
    return Part("disk", name, GOOD, said)


def _drafts() -> Part:
    name = _("Drafts")
    forgotten = Q(expires_at__lt=timezone.now() - UNTIDIED)
    counted = Draft.objects.aggregate(all=Count("pk"), old=Count("pk", filter=forgotten), since=Min("expires_at"))
    said = ngettext("%(n)d upload waits to be confirmed.", "%(n)d uploads wait to be confirmed.", counted["all"]) % {
        "n": counted["all"]
    }
    if not counted["all"]:
        return Part("drafts", name, GOOD, _("No upload waits to be confirmed."))
    if counted["old"]:
        old = ngettext("%(n)d should be gone by now.", "%(n)d should be gone by now.", counted["old"]) % {
            "n": counted["old"]
        }
        return Part(
            "drafts",
            name,
            WRONG,
            f"{said} {old}",
            counted["since"],
            _("They are sealed, and cannot be used any more; the worker's log says why they stay."),
        )
    return Part("drafts", name, GOOD, said)


def _watch() -> Part:
    name, now, last = _("Watch"), timezone.now(), watching.last()
    if last is None or last.ended_at is None:
        return Part("watch", name, GOOD, _("Nobody has looked at what expires yet; the next look is due."))
    values = {"when": ago(last.ended_at), "n": last.checked, "next": moment(watching.next_due_at(now))}
    said = _("What expires was looked at %(when)s, %(n)d in all; the next look is due %(next)s.") % values
    if watching.overdue_since(now):
        to_do = _("Nobody is told of what expires; worker and clock make the look, and the worker's log says why not.")
        return Part("watch", name, WRONG, said, last.ended_at, to_do)
    if last.unreadable:
        unread = ngettext("%(n)d could not be read.", "%(n)d could not be read.", last.unreadable) % {
            "n": last.unreadable
        }
        return Part("watch", name, WRONG, f"{said} {unread}", None, _("The worker's log names them."))
    return Part("watch", name, GOOD, said)


def _notices() -> Part:
    name, now = _("Notices"), timezone.now()
    waiting = Q(state__in=("waiting", "sending"))
    lost = Q(state="given-up", created_at__gt=now - timedelta(days=30)) & ~Q(kind="test")
    counted = Message.objects.filter(channel__removed_at=None).aggregate(
        late=Count("pk", filter=waiting & Q(created_at__lt=now - timedelta(hours=1))),
        lost=Count("pk", filter=lost),
        since=Min("created_at", filter=waiting | lost),
    )
    if not counted["late"] and not counted["lost"]:
        return Part("notices", name, GOOD, _("No message waits for longer than an hour."))
    said = _("Messages that wait for longer than an hour: %(late)d; given up in the last 30 days: %(lost)d.") % counted
    to_do = _("Each application's page Notices has them, with what the mail server or the service said.")
    return Part("notices", name, WRONG, said, counted["since"], to_do)


def _web() -> Part:
    values = {"pid": os.getpid(), "host": socket.gethostname(), "when": moment(STARTED)}
    return Part(
        "web", _("Web server"), GOOD, _("Process %(pid)d on %(host)s answered this; it was started %(when)s.") % values
    )
