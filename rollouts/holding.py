"""Who may make a rollout's next move, and what is written down around it.

A worker holds a rollout by lease and fencing number. The number grows with every worker that takes over, and goes with
each call to a platform, so that a platform that can refuse what comes too late does. A holder whose process is gone
from this machine loses its lease at once; of one on another machine nothing is known but that its lease runs out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q, Value
from django.db.models.functions import Greatest
from django.utils import timezone

from audit import trail
from rollouts import unseal
from rollouts.connectors import CALL_LIMIT, Connector, ConnectorError, NotYet, OutOfOrder, sessions
from rollouts.models import Destination, Rollout, Step
from rollouts.states import ACTIVE, STATES, Kind
from vault.envelope import VaultError

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=2.4 * CALL_LIMIT)
PAUSE = timedelta(seconds=5)


class Fenced(Exception):
    """Another worker holds this rollout now; this one must not touch anything."""


class CannotGoOn(Exception):
    """One sentence: why the rollout does not go forward."""


def reached(rollout: Rollout, call: str, moment: str) -> None:
    """A boundary of a move (rollouts.states.KillPoint). Nothing happens here; tests put deaths in its place."""


# --- Taking and giving back -------------------------------------------------------------------------------------------


def take(rollout_id: UUID | str) -> Rollout | None:
    """Claims the right to make one move, by a conditional update: of two workers, one gets it."""
    now = timezone.now()
    # Milliseconds, so that the orders of one rollout are later than those of the one before.
    order = Value(int(now.timestamp() * 1000))
    taken = (
        Rollout.objects.filter(pk=rollout_id, state__in=ACTIVE)
        .filter(Q(lease_until=None) | Q(lease_until__lt=now))
        .update(lease_until=now + LEASE, fence=Greatest(F("fence") + 1, order), holder=_myself())
    )
    if not taken:
        return None
    return Rollout.objects.select_related(
        "environment__application",
        "environment__destination",
        "revision",
        "bundle__sealed",
        "previous",
        "previous_bundle__sealed",
    ).get(pk=rollout_id)


def release(rollout: Rollout) -> float | None:
    """Gives the rollout back; returns the seconds until its next move; None: it has ended, or the sweep sees to it."""
    until = timezone.now() + PAUSE if rollout.pause else None
    Rollout.objects.filter(pk=rollout.pk, fence=rollout.fence).update(lease_until=until)
    if rollout.pause or not Rollout.objects.filter(pk=rollout.pk, state__in=ACTIVE).exists():
        return None
    return rollout.again_in


def hold(rollout: Rollout, **values: Any) -> None:
    """Renews the lease and saves; raises Fenced when another worker has taken over. Called before each outside call."""
    held = Rollout.objects.filter(pk=rollout.pk, fence=rollout.fence, state=rollout.state)
    if not held.update(lease_until=timezone.now() + LEASE, **values):
        raise Fenced
    for name, value in values.items():
        setattr(rollout, name, value)


def free_from_the_dead() -> list[UUID]:
    """Ends the leases of workers that died on this machine, and returns their rollouts. A worker that was only stopped
    lives, and keeps its lease."""
    here = _here()
    held = Rollout.objects.filter(state__in=ACTIVE, lease_until__gt=timezone.now(), holder__startswith=here)
    freed = []
    for rollout in held:
        pid, start_time = rollout.holder.removeprefix(here).split("-")
        if sessions.lives(sessions.Started(int(pid), int(start_time), sessions.boot())):
            continue
        mine = Rollout.objects.filter(pk=rollout.pk, fence=rollout.fence)
        if mine.update(lease_until=None):
            freed.append(rollout.pk)
            # Nothing will come of these any more.
            rollout.steps.filter(fence=rollout.fence, outcome="").update(
                outcome="warn", result="the worker died here; another one goes on"
            )
    return freed


def _here() -> str:
    """What tells this machine, and this container on it, from others: a process number means nothing elsewhere."""
    return f"{sessions.boot()}-{Path('/proc/self/ns/pid').stat().st_ino}-"


def _myself() -> str:
    myself = sessions.me()
    return f"{_here()}{myself.pid}-{myself.start_time}"


# --- Going on ---------------------------------------------------------------------------------------------------------


def enter(rollout: Rollout, state: str, **values: Any) -> None:
    """The next state. Raises Fenced when another worker has taken over; ends are recorded in the audit log with it."""
    before = rollout.state
    if state not in STATES[before].then:
        raise ValueError(f"{before} does not lead to {state}")
    now = timezone.now()
    if STATES[state].final:
        values["finished_at"] = now
    with transaction.atomic():
        held = Rollout.objects.filter(pk=rollout.pk, fence=rollout.fence, state=before)
        if not held.update(state=state, state_since=now, **values):
            raise Fenced
        rollout.state, rollout.state_since = state, now
        for name, value in values.items():
            setattr(rollout, name, value)
        if STATES[state].final:
            _end(rollout)
            trail.record(
                f"rollout.{state.replace('_', '-')}",
                by=None,
                subject=rollout,
                kind=rollout.kind,
                revision=rollout.revision.number if rollout.revision else None,
                failure=rollout.failure,
                sentence=rollout.sentence,
                proof=rollout.proof,
                requested_by=rollout.requested_by,
            )


def _end(rollout: Rollout) -> None:
    """What an end says about the environment: what runs there now, and by which proof."""
    where = Destination.objects.filter(pk=rollout.environment_id)
    now = timezone.now()
    if rollout.state == "verified":
        values: dict[str, Any] = {
            "proof": rollout.proof,
            "proved_at": now,
            "wanted_running": rollout.start_after,
        }
        if rollout.kind in (Kind.APPLY, Kind.ROLL_BACK):
            values |= {
                "running": rollout.revision,
                "bundle": rollout.bundle,
                "observed_files": "",
                "files_read_at": None,
                # While it was verified, the app ran with something else than before: by our hand.
                "drifted_since": None,
            }
        if rollout.kind == Kind.STOP:
            # What was proved about the configuration stays true; only the app does not run.
            del values["proof"], values["proved_at"]
        where.update(**values)
        if rollout.revision:
            where.filter(blocked_digest=rollout.revision.digest).update(blocked_digest="")
    elif rollout.state in ("rolled_back", "needs_help"):
        # It was asked to run, and runs again or ought to.
        where.update(wanted_running=rollout.start_after)
        if rollout.kind == Kind.APPLY and rollout.revision:
            where.update(blocked_digest=rollout.revision.digest)


# --- The log ----------------------------------------------------------------------------------------------------------


def say(rollout: Rollout, text: str, outcome: str = "ok") -> None:
    Step.objects.create(
        rollout=rollout, state=rollout.state, fence=rollout.fence, text=text, outcome=outcome, ended_at=timezone.now()
    )


class Line:
    """A call under way: its intent stands in the database before it, its outcome is added after it."""

    def __init__(self, rollout: Rollout, call: str, text: str) -> None:
        self.step = Step.objects.create(rollout=rollout, state=rollout.state, fence=rollout.fence, call=call, text=text)

    def ended(self, outcome: str, result: str = "", at: datetime | None = None) -> None:
        Step.objects.filter(pk=self.step.pk).update(outcome=outcome, result=result, ended_at=at or timezone.now())


@contextmanager
def calling(rollout: Rollout, call: str, text: str) -> Iterator[Callable[..., None]]:
    """One call to the outside. Commits the intent, and the outcome whatever it is; the body may say more about it by
    calling what it gets, also that it went only so far (`outcome="warn"`)."""
    reached(rollout, call, "before-intent")
    hold(rollout)
    line, said = Line(rollout, call, text), ["", "ok"]
    reached(rollout, call, "after-intent")
    try:
        yield lambda result, outcome="ok": said.__setitem__(slice(None), [result, outcome])
    except Exception as error:
        known = isinstance(error, (CannotGoOn, ConnectorError, VaultError))
        line.ended("warn" if isinstance(error, OutOfOrder | NotYet) else "failed", str(error) if known else said[0])
        raise
    reached(rollout, call, "after-call")
    line.ended(said[1], said[0])
    reached(rollout, call, "after-outcome")


@contextmanager
def looking(rollout: Rollout) -> Iterator[None]:
    """A look at the app: renewing the lease is its intent, what is made of it its outcome. No line in the log."""
    reached(rollout, "observe", "before-intent")
    hold(rollout)
    reached(rollout, "observe", "after-intent")
    yield
    reached(rollout, "observe", "after-outcome")


def connector(rollout: Rollout) -> Connector:
    """The way to the app, with the number of whoever holds the rollout."""
    return unseal.connected(rollout.environment.destination, order=rollout.fence)
