"""One function a move. A task makes one move, saves and ends; resuming is the normal path, not a second one.

The rules that keep an app from staying down by our hand (DESIGN §3):
- the intent is committed before each call to the outside, the outcome after it;
- a worker holds a rollout by lease and fencing number, and a call's limit is below half the lease;
- each move looks before it acts, so that making it again does nothing twice;
- the start that follows our own stop waits for neither database nor audit log; it is recorded afterwards.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import Error, connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from audit import trail
from certificates.content import Bundle as Files
from rollouts import exporters, unseal
from rollouts.connectors import CALL_LIMIT, Connector, ConnectorError, Observation
from rollouts.models import Bundle, Destination, Rollout, Step
from rollouts.states import ACTIVE, STATES, Kind, Proof
from vault.envelope import VaultError

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=2.4 * CALL_LIMIT)
# One move waits this long for the app to come up before it gives the rollout back, to be nudged again.
WATCH = 10.0
POLL = 0.4
PAUSE = timedelta(seconds=5)


class Fenced(Exception):
    """Another worker holds this rollout now; this one must not touch anything."""


class CannotGoOn(Exception):
    """One sentence: why the rollout does not go forward."""


# --- Taking a rollout -------------------------------------------------------------------------------------------------


def advance(rollout_id: UUID | str) -> bool:
    """Makes the next move of a rollout, if nobody else is at it. Returns whether there is another move to make."""
    rollout = take(rollout_id)
    if rollout is None:
        return False
    try:
        # These look before they judge: what was asked for in time may have come true meanwhile.
        looks = rollout.state in ("verifying", "rolling_back") or rollout.kind == Kind.STOP
        if rollout.overdue and not looks:
            _overdue(rollout)
        else:
            MOVES[rollout.state](rollout)
    except Fenced:
        return False
    except Error:
        # Nothing can be recorded now; the lease runs out and the sweep comes back to it.
        log.exception("rollout %s: the database did not answer", rollout.pk)
        return False
    except (CannotGoOn, ConnectorError, VaultError, exporters.ExportError, unseal.ReadBackError) as error:
        _fail(rollout, str(error))
    except Exception:
        log.exception("rollout %s: unexpected in %s", rollout.pk, rollout.state)
        _fail(rollout, "The portal met an error of its own, which its log describes.")
    return release(rollout)


def take(rollout_id: UUID | str) -> Rollout | None:
    """Claims the right to make one move, by a conditional update: of two workers, one gets it."""
    now = timezone.now()
    taken = (
        Rollout.objects.filter(pk=rollout_id, state__in=ACTIVE)
        .filter(Q(lease_until=None) | Q(lease_until__lt=now))
        .update(lease_until=now + LEASE, fence=F("fence") + 1)
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


def release(rollout: Rollout) -> bool:
    """Gives the rollout back; returns whether its next move can be made at once (otherwise the sweep comes to it)."""
    until = timezone.now() + PAUSE if rollout.pause else None
    Rollout.objects.filter(pk=rollout.pk, fence=rollout.fence).update(lease_until=until)
    return not rollout.pause and Rollout.objects.filter(pk=rollout.pk, state__in=ACTIVE).exists()


def _hold(rollout: Rollout, **values: Any) -> None:
    """Renews the lease and saves; raises Fenced when another worker has taken over. Called before each outside call."""
    held = Rollout.objects.filter(pk=rollout.pk, fence=rollout.fence, state=rollout.state)
    if not held.update(lease_until=timezone.now() + LEASE, **values):
        raise Fenced
    for name, value in values.items():
        setattr(rollout, name, value)


def _enter(rollout: Rollout, state: str, **values: Any) -> None:
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
            values |= {"running": rollout.revision, "bundle": rollout.bundle}
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


def _overdue(rollout: Rollout) -> None:
    state = STATES[rollout.state]
    sentence = f"It did not get past “{rollout.state.replace('_', ' ')}” within {state.timeout} seconds."
    if state.overdue == "cancelled":
        _enter(rollout, "cancelled", sentence="No worker came within a day; nothing was changed.")
    else:
        _fail(rollout, sentence)


def _fail(rollout: Rollout, sentence: str) -> None:
    """The way out of the current state when it cannot go forward."""
    try:
        match rollout.state:
            case "requested" | "exporting" | "checking":
                _say(rollout, sentence, "failed")
                _enter(rollout, "refused", failure=sentence, sentence="Nothing was delivered; what ran before runs on.")
            case "delivering" if not rollout.steps.filter(state="delivering").exists():
                # A delivery begins with its step, so nothing has been touched yet.
                _say(rollout, sentence, "failed")
                _enter(rollout, "refused", failure=sentence, sentence="Nothing was delivered; what ran before runs on.")
            case "stopping" if rollout.kind == Kind.STOP:
                _say(rollout, sentence, "failed")
                _enter(rollout, "refused", failure=sentence, sentence="The app was not stopped.")
            case "delivering" | "stopping" | "starting" | "verifying":
                _say(rollout, sentence, "failed")
                _enter(rollout, "rolling_back", failure=sentence, phase="deliver", incarnation_back="")
            case "rolling_back" if rollout.overdue:
                _needs_help(rollout, sentence)
            case "rolling_back":
                # The old configuration must come back: try again until the time is over.
                _say(rollout, sentence, "failed")
                rollout.pause = True
    except (Fenced, Error):
        log.warning("rollout %s: its failure is left to the next worker", rollout.pk)


# --- The log ----------------------------------------------------------------------------------------------------------


def _say(rollout: Rollout, text: str, outcome: str = "ok") -> None:
    Step.objects.create(
        rollout=rollout, state=rollout.state, fence=rollout.fence, text=text, outcome=outcome, ended_at=timezone.now()
    )


class _Line:
    """A step under way: its intent stands in the database before the call, its outcome is added after it."""

    def __init__(self, rollout: Rollout, text: str) -> None:
        self.step = Step.objects.create(rollout=rollout, state=rollout.state, fence=rollout.fence, text=text)

    def ended(self, outcome: str, result: str = "", at: datetime | None = None) -> None:
        Step.objects.filter(pk=self.step.pk).update(outcome=outcome, result=result, ended_at=at or timezone.now())


@contextmanager
def _step(rollout: Rollout, text: str) -> Iterator[Callable[[str], None]]:
    """Commits the intent, and the outcome whatever it is; the body may say more by calling what it gets."""
    _hold(rollout)
    line, said = _Line(rollout, text), [""]
    try:
        yield lambda result: said.__setitem__(0, result)
    except Exception as error:
        line.ended("failed", str(error) if isinstance(error, (CannotGoOn, ConnectorError, VaultError)) else said[0])
        raise
    line.ended("ok", said[0])


# --- The moves, in the order in which a rollout makes them ------------------------------------------------------------


def begin(rollout: Rollout) -> None:
    """Looks at what runs now, so that the end can be told from it."""
    if rollout.kind in (Kind.APPLY, Kind.ROLL_BACK):
        _enter(rollout, "exporting")
        return
    seen = _connector(rollout).observe()
    _hold(rollout, incarnation_before=seen.incarnation)
    # A start finds nothing running, or what it is to run; anything else was started by others and has to be restarted.
    as_wanted = not seen.incarnation or (seen.digest is not None and seen.digest == _expected(rollout))
    _enter(rollout, "starting" if rollout.kind == Kind.START and as_wanted else "stopping")


def export(rollout: Rollout) -> None:
    """Writes the bundle once; also the one to go back to where nothing ran through the portal before."""
    revision, destination = _revision(rollout), rollout.environment.destination
    if rollout.bundle is None:
        with _step(rollout, f"Write revision {revision.number} for {destination.exporter}") as say:
            bundle = unseal.write_bundle(
                environment=rollout.environment,
                revision=revision,
                content=revision.frozen,
                exporter=destination.exporter,
                by=None,
            )
            _hold(rollout, bundle=bundle)
            say(f"{_n(bundle.files, 'file')}, read back and compared; digest {bundle.digest[:12]}")
    if rollout.previous_bundle is None:
        previous = destination.bundle or unseal.write_bundle(
            environment=rollout.environment,
            revision=None,
            content=revision.frozen,
            exporter=destination.exporter,
            by=None,
        )
        _hold(rollout, previous_bundle=previous)
    _enter(rollout, "checking")


def check(rollout: Rollout) -> None:
    """Reads both sealed bundles back before anything is touched: the new one, and the one to go back to."""
    with _step(rollout, "Open the export, and the one to go back to, from the vault") as say:
        new = unseal.open_bundle(_bundle(rollout), reason="checked before the delivery")
        unseal.open_bundle(_previous_bundle(rollout), reason="checked before the delivery")
        say(f"{_n(len(new.files), 'file')} to deliver; both can be opened")
    with _step(rollout, "Ask the platform") as say:
        say(_connector(rollout).check())
    _enter(rollout, "delivering")


def deliver(rollout: Rollout) -> None:
    connector = _connector(rollout)
    seen = connector.observe()
    _note(rollout, seen)
    if seen.incarnation and not rollout.start_after:
        raise CannotGoOn("The app runs, although it was stopped from here; apply again and choose to start it.")
    files = unseal.open_bundle(_bundle(rollout), reason=f"delivered for revision {_revision(rollout).number}")
    with _step(rollout, f"Deliver {_n(len(files.files), 'file')}") as say:
        _deliver(connector, files)
        say("switched at once, and read back")
    # Seen after the delivery: a start before it read the old files, whoever made it.
    _hold(rollout, incarnation_before=connector.observe().incarnation)
    if rollout.start_after:
        _enter(rollout, "stopping" if rollout.incarnation_before else "starting")
    else:
        _enter(
            rollout,
            "verified",
            proof=Proof.DELIVERED,
            sentence="Delivered; the app is stopped and starts with it.",
        )


def stop(rollout: Rollout) -> None:
    """Stops the app, and, when it is to run, starts it in the same breath."""
    connector = _connector(rollout)
    seen = connector.observe()
    ours = seen.incarnation == rollout.incarnation_before
    if rollout.start_after and seen.incarnation and not ours:
        _say(rollout, "The app was restarted meanwhile")
        _enter(rollout, "verifying", running_at=timezone.now())
        return
    if rollout.kind == Kind.STOP:
        with _step(rollout, "Stop the app") as say:
            connector.stop()
            seen = connector.observe()
            _note(rollout, seen)
            if seen.status != "stopped":
                raise CannotGoOn("The app was asked to stop and still runs; look at it on its server.")
            say("stopped, and seen to be")
        _enter(rollout, "verified", proof=Proof.STOPPED, stopped_at=timezone.now(), sentence="The app is stopped.")
        return
    _restart(rollout, connector, after="verifying")


def start(rollout: Rollout) -> None:
    connector = _connector(rollout)
    seen = connector.observe()
    if not seen.incarnation:
        with _step(rollout, "Start the app"):
            connector.start()
    _enter(rollout, "verifying")


def verify(rollout: Rollout) -> None:
    """Waits until a new start of the app runs with what was delivered, as far as this platform can prove it."""
    seen, proof = _watch(rollout, rollout.incarnation_before, _expected(rollout))
    if proof is None:
        if seen.status == "stopped":
            raise CannotGoOn("The app did not come up: " + (seen.note or "it ended at once and left no message."))
        if rollout.overdue or _contradicts(rollout, seen, rollout.incarnation_before, _expected(rollout)):
            raise CannotGoOn(_why_not_verified(seen, _expected(rollout)))
        return  # give it back; the next nudge goes on watching
    running = f"revision {rollout.revision.number}" if rollout.revision else "what was there before"
    _say(rollout, f"The app runs with {running}: {PROVED[proof]}")
    _enter(
        rollout,
        "verified",
        proof=proof,
        running_at=rollout.running_at or timezone.now(),
        sentence=f"The app runs with {running}.",
    )


def go_back(rollout: Rollout) -> None:
    """Puts back what ran before: deliver it, restart the app unless it never noticed, and verify."""
    connector = _connector(rollout)
    bundle = _previous_bundle(rollout) if rollout.kind in (Kind.APPLY, Kind.ROLL_BACK) else rollout.bundle
    match rollout.phase:
        case "deliver":
            if bundle is not None:
                files = unseal.open_bundle(bundle, reason="going back")
                with _step(rollout, "Deliver what ran before"):
                    _deliver(connector, files)
            seen = connector.observe()
            if not rollout.start_after:
                _rolled_back(rollout, "It is delivered again; the app stays stopped.")
            elif seen.status == "running" and seen.incarnation and seen.incarnation == rollout.incarnation_before:
                _rolled_back(rollout, "The app was not interrupted.")
            else:
                _hold(rollout, phase="stop" if seen.incarnation else "start", incarnation_back=seen.incarnation)
        case "stop":
            seen = connector.observe()
            if seen.incarnation and seen.incarnation != rollout.incarnation_back:
                _hold(rollout, phase="verify")
            else:
                _restart(rollout, connector, after="")
        case "start":
            seen = connector.observe()
            if not seen.incarnation:
                with _step(rollout, "Start the app with what ran before"):
                    connector.start()
            _hold(rollout, phase="verify")
        case _:
            expected = bundle.digest if bundle is not None else None
            seen, proof = _watch(rollout, rollout.incarnation_back, expected)
            if proof is not None:
                _rolled_back(rollout, "The app runs with what ran before.")
            elif rollout.overdue or _contradicts(rollout, seen, rollout.incarnation_back, expected):
                _needs_help(rollout, seen.note or _why_not_verified(seen, expected))
            elif seen.status == "stopped":
                # A crash or a reboot on the way: the old configuration is worth another start, until the time is over.
                _say(rollout, seen.note or "The app does not run", "failed")
                _hold(rollout, phase="start")
                rollout.pause = True


def _restart(rollout: Rollout, connector: Connector, *, after: str) -> None:
    """Our stop and the start that follows it. Between the two nothing is waited for but the platform."""
    going_back = rollout.state == "rolling_back"
    with_what = "what ran before" if going_back else "what was delivered" if rollout.bundle else "what is there"
    _hold(rollout)
    stopping = _Line(rollout, "Stop the app")
    asked = time.monotonic()
    try:
        connector.stop()
    except ConnectorError as error:
        stopping.ended("failed", str(error))
        raise
    took, stopped_at = time.monotonic() - asked, timezone.now()

    held = Rollout.objects.filter(pk=rollout.pk, fence=rollout.fence)

    def record_stop() -> None:
        """In rows alone, and the same whether it is done once or twice: the thread below may come late."""
        stopping.ended("ok", f"stopped after {took:.1f} s", stopped_at)
        if going_back:
            held.filter(state="rolling_back", phase="stop").update(phase="start")
        else:
            held.filter(state="stopping").update(state="starting", state_since=stopped_at, stopped_at=stopped_at)

    _without_waiting(record_stop)
    connector.start()
    started_at = timezone.now()
    # The app has been asked to run again; from here on the records may take their time.
    record_stop()
    rollout.refresh_from_db(fields=["state", "state_since", "phase", "stopped_at"])
    Step.objects.create(
        rollout=rollout,
        state=rollout.state,
        fence=rollout.fence,
        text=f"Start the app with {with_what}",
        outcome="ok",
        started_at=stopped_at,
        ended_at=started_at,
    )
    if going_back:
        _hold(rollout, phase="verify")
    else:
        _enter(rollout, after)


def _without_waiting(record: Callable[[], None], seconds: float = 0.3) -> None:
    """Tries to record in a thread with a connection of its own, and goes on whether or not that worked."""
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            record()
        except BaseException as error:  # whatever it is, the start must follow
            failed.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        log.warning("the stop will be recorded after the start: %s", failed[0])


# --- Watching ---------------------------------------------------------------------------------------------------------

PROVED = {
    Proof.REPORTED: "the app itself reports the digest of what was delivered",
    Proof.READ_BACK: "restarted, and the files read back as delivered",
    Proof.RESTARTED: "restarted",
}


def _watch(rollout: Rollout, before: str, expected: str | None) -> tuple[Observation, Proof | None]:
    """Polls for WATCH seconds. A proof needs two looks in a row that agree, so that a crash loop is not a success."""
    connector, until = _connector(rollout), time.monotonic() + WATCH
    last: Observation | None = None
    while True:
        seen = connector.observe()
        _note(rollout, seen)
        proof = _proof(connector, seen, before, expected, rollout)
        if last is not None and last.incarnation == seen.incarnation:
            if proof is not None:
                return seen, proof
            if seen.status == "stopped" or _contradicts(rollout, seen, before, expected):
                return seen, None
        last = seen
        if time.monotonic() > until:
            return seen, None
        _hold(rollout)
        time.sleep(POLL)


def _proof(
    connector: Connector, seen: Observation, before: str, expected: str | None, rollout: Rollout
) -> Proof | None:
    if seen.status != "running" or not seen.incarnation:
        return None
    if seen.incarnation == before and not (rollout.kind == Kind.START and expected and seen.digest == expected):
        return None
    if expected is None:
        return Proof.RESTARTED
    if seen.digest is not None:
        return Proof.REPORTED if seen.digest == expected else None
    return Proof.READ_BACK if connector.delivered_digest() == expected else None


def _contradicts(rollout: Rollout, seen: Observation, before: str, expected: str | None) -> bool:
    """A new start of the app that runs with something else: more waiting would not change it."""
    if seen.status != "running" or not seen.incarnation or seen.incarnation == before or expected is None:
        return False
    return (seen.digest or _connector(rollout).delivered_digest()) != expected


def _why_not_verified(seen: Observation, expected: str | None) -> str:
    if seen.status == "running" and expected and seen.digest is not None and seen.digest != expected:
        return (
            f"The app runs, but reports the configuration {seen.digest[:12]} "
            f"instead of {expected[:12]}, which was delivered."
        )
    if seen.status == "running" and expected and seen.digest is None:
        return "The app runs, but the files there are not those that were delivered, or it was not restarted."
    if seen.status == "running":
        return "The app runs, but was not restarted."
    return f"The app did not come up in time; it was last seen {seen.status}. {seen.note}".strip()


def _note(rollout: Rollout, seen: Observation) -> None:
    note_observation(rollout.environment.destination, seen)


def note_observation(destination: Destination, seen: Observation) -> None:
    """Keeps what was seen, for the pages; `running_since` changes with the incarnation."""
    now = timezone.now()
    values: dict[str, Any] = {
        "observed_at": now,
        "observed_status": seen.status,
        "observed_incarnation": seen.incarnation,
        "observed_digest": seen.digest or "",
        "observed_note": seen.note[:1000],
    }
    if seen.incarnation != destination.observed_incarnation:
        values["running_since"] = now if seen.incarnation else None
    Destination.objects.filter(pk=destination.pk).update(**values)
    for name, value in values.items():
        setattr(destination, name, value)


# --- Ends of the going back -------------------------------------------------------------------------------------------


def _rolled_back(rollout: Rollout, sentence: str) -> None:
    before = f"{rollout.previous.number} is running" if rollout.previous else "what was there before is running"
    if not rollout.start_after:
        before = f"{rollout.previous.number} is back in place" if rollout.previous else "what was there before is back"
    _say(rollout, f"Rolled back: {before}")
    _enter(rollout, "rolled_back", running_at=timezone.now(), sentence=f"Rolled back, {before}. {sentence}")


def _needs_help(rollout: Rollout, sentence: str) -> None:
    _say(rollout, sentence, "failed")
    _enter(
        rollout,
        "needs_help",
        sentence=f"The portal could not bring the app back: {sentence} Look at the app’s log, then restart it here.",
    )


# --- What a rollout is about ------------------------------------------------------------------------------------------


def _connector(rollout: Rollout) -> Connector:
    return rollout.environment.destination.connect()


def _deliver(connector: Connector, files: Files) -> None:
    connector.deliver(files)
    if connector.delivered_digest() != files.digest:
        raise CannotGoOn(
            "What was delivered does not read back as what was sent; look at the folder's disk and rights."
        )


def _revision(rollout: Rollout) -> Any:
    assert rollout.revision is not None
    return rollout.revision


def _bundle(rollout: Rollout) -> Bundle:
    assert rollout.bundle is not None
    return rollout.bundle


def _previous_bundle(rollout: Rollout) -> Bundle:
    assert rollout.previous_bundle is not None
    return rollout.previous_bundle


def _expected(rollout: Rollout) -> str | None:
    return rollout.bundle.digest if rollout.bundle else None


def _n(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


MOVES: dict[str, Callable[[Rollout], None]] = {
    "requested": begin,
    "exporting": export,
    "checking": check,
    "delivering": deliver,
    "stopping": stop,
    "starting": start,
    "verifying": verify,
    "rolling_back": go_back,
}

assert set(MOVES) == set(ACTIVE), "every active state has its move"
