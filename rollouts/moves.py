"""One function a move. A task makes one move, saves and ends; resuming is the normal path, not a second one.

The rules that keep an app from staying down by our hand (DESIGN §3):
- the intent is committed before each call to the outside, the outcome after it;
- a worker holds a rollout by lease and fencing number, and a call's limit is below half the lease;
- each move looks before it acts, so that making it again does nothing twice;
- the start that follows our own stop waits for neither database nor audit log; it is recorded afterwards.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db import Error, connection
from django.utils import timezone

from audit.actors import PORTAL
from certificates import pkcs12
from certificates.content import Bundle as Files
from rollouts import connections, exporters, health, unseal
from rollouts.connectors import Connector, ConnectorError, NotYet, Observation, OutOfOrder
from rollouts.holding import (
    CannotGoOn,
    Fenced,
    Line,
    calling,
    connector,
    enter,
    hold,
    looking,
    reached,
    release,
    say,
    take,
)
from rollouts.models import Bundle, ConnectionTest, Destination, Revision, Rollout, Step
from rollouts.states import ACTIVE, STATES, Kind, Proof
from rollouts.watching import PROVED, look, look_again_in, note, why_not_verified
from vault.envelope import VaultError

log = logging.getLogger(__name__)


def advance(rollout_id: UUID | str) -> float | None:
    """Makes the next move of a rollout, if nobody else is at it. Returns the seconds until another move is to be made;
    None where there is none, or where the sweep comes to it."""
    rollout = take(rollout_id)
    if rollout is None:
        return None
    try:
        # These look before they judge: what was asked for in time may have come true meanwhile.
        looks = rollout.state in ("verifying", "rolling_back") or rollout.kind == Kind.STOP
        if rollout.overdue and not looks:
            _overdue(rollout)
        else:
            MOVES[rollout.state](rollout)
    except Fenced:
        _after_all(rollout)
        return None
    except Error:
        # Nothing can be recorded now. What was done stays done, and each move looks before it acts.
        log.exception("rollout %s: the database did not answer", rollout.pk)
        rollout.pause = True
    except NotYet as error:
        log.info("rollout %s: %s", rollout.pk, error)
        if rollout.overdue:
            _fail(rollout, str(error))
        rollout.again_in = look_again_in(rollout)
    except OutOfOrder as error:
        log.warning("rollout %s: %s", rollout.pk, error)
        rollout.pause = True
    except (ConnectorError, VaultError) as error:
        if rollout.state == "verifying" and not rollout.overdue:
            # A platform that cannot be asked at the moment says nothing against what was delivered.
            log.info("rollout %s: %s", rollout.pk, error)
            rollout.again_in = look_again_in(rollout)
        else:
            _fail(rollout, str(error))
    except (CannotGoOn, exporters.ExportError, unseal.ReadBackError) as error:
        _fail(rollout, str(error))
    except Exception:
        log.exception("rollout %s: unexpected in %s", rollout.pk, rollout.state)
        _fail(rollout, "The portal met an error of its own, which its log describes.")
    try:
        return release(rollout)
    except Error:
        log.warning("rollout %s: could not be given back; its lease runs out", rollout.pk)
        return None


def _after_all(rollout: Rollout) -> None:
    """This worker was held up, others went on, and it may have touched the app after them: the app is looked at again
    (rollouts.actions.make_good)."""
    log.warning("rollout %s: another worker has taken over", rollout.pk)
    with contextlib.suppress(Error):
        Destination.objects.filter(pk=rollout.environment_id).update(observed_at=None)


def _overdue(rollout: Rollout) -> None:
    state = STATES[rollout.state]
    sentence = f"It did not get past “{rollout.state.replace('_', ' ')}” within {state.timeout} seconds."
    if state.overdue == "cancelled":
        enter(rollout, "cancelled", sentence="No worker came within a day; nothing was changed.")
    else:
        _fail(rollout, sentence)


def _fail(rollout: Rollout, sentence: str) -> None:
    """The way out of the current state when it cannot go forward."""
    try:
        match rollout.state:
            case "requested" | "exporting" | "checking" | "handing_over":
                say(rollout, sentence, "failed")
                enter(rollout, "refused", failure=sentence, sentence="Nothing was delivered; what ran before runs on.")
            case "delivering" if not rollout.steps.filter(state="delivering").exists():
                # A delivery begins with its step, so nothing has been touched yet.
                say(rollout, sentence, "failed")
                enter(rollout, "refused", failure=sentence, sentence="Nothing was delivered; what ran before runs on.")
            case "stopping" if rollout.kind == Kind.STOP:
                say(rollout, sentence, "failed")
                enter(rollout, "refused", failure=sentence, sentence="The app was not stopped.")
            case "delivering" | "stopping" | "starting" | "verifying":
                say(rollout, sentence, "failed")
                enter(rollout, "rolling_back", failure=sentence, phase="deliver", incarnation_back="")
            case "rolling_back" if rollout.overdue:
                _needs_help(rollout, sentence)
            case "rolling_back":
                # The old configuration must come back: try again until the time is over.
                say(rollout, sentence, "failed")
                rollout.pause = True
    except (Fenced, Error):
        log.warning("rollout %s: its failure is left to the next worker", rollout.pk)


# --- The moves, in the order in which a rollout makes them ------------------------------------------------------------


def begin(rollout: Rollout) -> None:
    """Looks at what runs now, so that the end can be told from it."""
    if rollout.kind in (Kind.APPLY, Kind.ROLL_BACK):
        enter(rollout, "exporting")
        return
    with looking(rollout):
        seen = connector(rollout).observe()
        reached(rollout, "observe", "after-call")
        hold(rollout, incarnation_before=seen.incarnation or seen.ended)
        # A start finds nothing running, or what it is to run; anything else was started by others and is restarted.
        as_wanted = not seen.incarnation or (seen.digest is not None and seen.digest == _expected(rollout))
        then = "starting" if rollout.kind == Kind.START and as_wanted else "stopping"
    enter(rollout, then)


def export(rollout: Rollout) -> None:
    """Writes the bundle once; also the one to go back to where nothing ran through the portal before."""
    revision, destination = _revision(rollout), rollout.environment.destination
    if rollout.bundle is None:
        with calling(rollout, "export", f"Write revision {revision.number} for {destination.exporter}") as tell:
            bundle = unseal.write_bundle(
                environment=rollout.environment,
                revision=revision,
                content=revision.frozen,
                exporter=destination.exporter,
                by=None,
            )
            hold(rollout, bundle=bundle)
            tell(f"{_n(bundle.files, 'file')}, read back and compared; digest {bundle.digest[:12]}")
    if rollout.previous_bundle is None:
        # What was imported was never written from here: it is now, so that there is something to go back to.
        imported = destination.running
        previous = destination.bundle or unseal.write_bundle(
            environment=rollout.environment,
            revision=imported,
            content=imported.frozen if imported is not None else revision.frozen,
            exporter=destination.exporter,
            by=None,
        )
        hold(rollout, previous_bundle=previous)
    enter(rollout, "checking")


def check(rollout: Rollout) -> None:
    """Reads both sealed bundles back before anything is touched: the new one, and the one to go back to."""
    with calling(rollout, "open", "Open the export, and the one to go back to, from the vault") as tell:
        new = unseal.open_bundle(_bundle(rollout), reason="checked before the delivery")
        unseal.open_bundle(_previous_bundle(rollout), reason="checked before the delivery")
        tell(f"{_n(len(new.files), 'file')} to deliver; both can be opened")
    with calling(rollout, "check", "Ask the platform") as tell:
        tell(connector(rollout).check())
    _try_connections(rollout, _revision(rollout), new, "before")
    enter(rollout, "delivering")


def _try_connections(rollout: Rollout, revision: Revision, files: Files, moment: str) -> None:
    """Tries the pinned connections with what the files of this revision carry. Raises CannotGoOn where one is turned
    away before the restart, and the rollout is not to go on then; afterwards it is only said."""
    if rollout.connection_tests == "skip":
        return
    environment, content = rollout.environment, revision.frozen
    tests = rollout.tests.filter(moment=moment)
    done = set(tests.values_list("key", flat=True))  # by a worker that died on the way
    asked = [
        one for one in connections.of_content(environment, environment.destination, content) if one.key not in done
    ]
    if not asked and not done:
        return
    with calling(rollout, "test", f"Test {_n(len(asked), 'connection')}") as tell:
        versions = {e.slug: e.version for e in revision.entries.select_related("version")}
        identities = {slug: pkcs12.read(pfx.pfx, pfx.password) for slug, pfx in files.sent.items()}
        trusted = connections.trusted(environment, environment.destination, content)
        for one, finding in connections.tried(asked, identities, trusted):
            hold(rollout)
            version = versions.get(one.slot.slug) if one.slot else None
            connections.kept(
                environment, one, finding, version=version, by=PORTAL, rollout=rollout, moment=moment
            )  # fmt: skip
        found = list(tests.order_by("key"))
        bad = [test for test in found if test.verdict in connections.IN_THE_WAY]
        if bad and moment == "before" and rollout.connection_tests == "block":
            more = f" And {len(bad) - 1} more." if len(bad) > 1 else ""
            raise CannotGoOn(f"{bad[0].key}: {bad[0].sentence}{more}")
        tell(connections.in_words(found), "warn" if any(_is_odd(test) for test in found) else "ok")


def _try_connections_again(rollout: Rollout, revision: Revision, bundle: Bundle, moment: str) -> None:
    """After the restart. The app runs with this revision, and that is proved: whatever goes wrong here is said, and is
    no reason to go back."""
    if rollout.connection_tests == "skip":
        return
    try:
        files = unseal.open_bundle(bundle, reason="connections tested after the restart")
        _try_connections(rollout, revision, files, moment)
    except (Fenced, Error):
        raise
    except Exception:
        log.exception("rollout %s: the connections could not be tested after the restart", rollout.pk)
        say(rollout, "The connections could not be tested again after the restart", "warn")


def _is_odd(test: ConnectionTest) -> bool:
    return test.verdict != "accepted" or bool(test.caution)


def deliver(rollout: Rollout) -> None:
    app = connector(rollout)
    seen = app.observe()
    note(rollout, seen)
    if seen.incarnation and not rollout.start_after:
        raise CannotGoOn("The app runs, although it was stopped from here; apply again and choose to start it.")
    able = rollout.environment.destination.able
    if able.hands_over:
        enter(rollout, "handing_over", incarnation_before=seen.incarnation or seen.ended)
        return
    files = unseal.open_bundle(_bundle(rollout), reason=f"delivered for revision {_revision(rollout).number}")
    if able.delivery_restarts and not rollout.steps.filter(state="delivering").exists():
        hold(rollout, incarnation_before=seen.incarnation or seen.ended)
    with calling(rollout, "deliver", f"Deliver {_n(len(files.files), 'file')}") as tell:
        _deliver(app, files)
        tell("switched at once, and read back")
    if able.delivery_restarts and rollout.start_after and seen.incarnation:
        say(rollout, "The platform restarts the app by itself with what was delivered")
        enter(rollout, "verifying", stopped_at=timezone.now())
        return
    # Seen after the delivery: a start before it read the old files, whoever made it.
    seen = app.observe()
    hold(rollout, incarnation_before=seen.incarnation or seen.ended)
    if rollout.start_after:
        enter(rollout, "stopping" if seen.incarnation else "starting")
    else:
        enter(
            rollout,
            "verified",
            proof=Proof.DELIVERED,
            sentence="Delivered; the app is stopped and starts with it.",
        )


def wait_for_hands(rollout: Rollout) -> None:
    """People deliver, and say when they have (rollouts.actions.confirm_handover). Only a start after that counts."""
    if rollout.phase != "confirmed":
        rollout.again_in = None
        return
    seen = connector(rollout).observe()
    note(rollout, seen)
    before = seen.incarnation or seen.ended
    if rollout.start_after:
        enter(rollout, "stopping" if seen.incarnation else "starting", phase="", incarnation_before=before)
    else:
        enter(
            rollout,
            "verified",
            proof=Proof.DELIVERED,
            sentence="Uploaded by hand; the app is stopped and starts with it.",
        )


def stop(rollout: Rollout) -> None:
    """Stops the app, and, when it is to run, starts it in the same breath."""
    app = connector(rollout)
    seen = app.observe()
    # Where a reload is what counts, one more does no harm, and another sign of life is no proof of one.
    if rollout.start_after and not _reads_anew(rollout) and _started_since(seen, rollout.incarnation_before):
        say(rollout, "The app was restarted meanwhile")
        enter(rollout, "verifying", running_at=timezone.now())
        return
    if rollout.kind == Kind.STOP:
        with calling(rollout, "stop", "Stop the app") as tell:
            app.stop()
            seen = app.observe()
            note(rollout, seen)
            if seen.status != "stopped":
                raise CannotGoOn("The app was asked to stop and still runs; look at it on its server.")
            tell("stopped, and seen to be")
        enter(rollout, "verified", proof=Proof.STOPPED, stopped_at=timezone.now(), sentence="The app is stopped.")
        return
    _restart(rollout, app, after="verifying")


def start(rollout: Rollout) -> None:
    app = connector(rollout)
    seen = app.observe()
    if not seen.incarnation and not _started_since(seen, rollout.incarnation_before):
        with calling(rollout, "start", "Start the app"):
            app.start()
    enter(rollout, "verifying")


def _started_since(seen: Observation, before: str) -> bool:
    """Another start than the one before runs, or came to its end before it could be recorded: verifying tells which."""
    return (seen.incarnation or seen.ended) not in ("", before)


def verify(rollout: Rollout) -> None:
    """Waits until a new start of the app runs with what was delivered, as far as this platform can prove it."""
    with looking(rollout):
        seen, proof, wrong = look(rollout, rollout.incarnation_before, _expected(rollout))
        reached(rollout, "observe", "after-call")
    if proof is None:
        if wrong and seen.status == "stopped":
            raise CannotGoOn("The app did not come up: " + (seen.note or "it ended at once and left no message."))
        if wrong or rollout.overdue:
            raise CannotGoOn(why_not_verified(seen, _expected(rollout)))
        rollout.again_in = look_again_in(rollout)
        return
    if not _is_healthy(rollout):
        return
    if rollout.kind in (Kind.APPLY, Kind.ROLL_BACK):
        _try_connections_again(rollout, _revision(rollout), _bundle(rollout), "after")
    running = f"revision {rollout.revision.number}" if rollout.revision else "what was there before"
    say(rollout, f"The app runs with {running}: {PROVED[proof]}")
    enter(
        rollout,
        "verified",
        proof=proof,
        running_at=rollout.running_at or timezone.now(),
        sentence=f"The app runs with {running}.",
    )


def _is_healthy(rollout: Rollout) -> bool:
    """Whether the app's own page answers as it should, where there is one to ask. False while it may still come; raises
    CannotGoOn when its time is over."""
    destination = rollout.environment.destination
    if not destination.health_url or rollout.kind == Kind.STOP:
        return True
    if rollout.running_at is None:
        hold(rollout, running_at=timezone.now())
    found = health.ask(destination, seconds=5.0)
    if found.is_well:
        say(rollout, f"Health check: {found.sentence}")
        return True
    began = rollout.running_at or timezone.now()
    if (timezone.now() - began).total_seconds() > destination.health_seconds:
        say(rollout, f"Health check: {found.sentence}", "failed")
        raise CannotGoOn(f"The app came up, but not well within {destination.health_seconds} seconds. {found.sentence}")
    rollout.again_in = look_again_in(rollout)
    return False


def go_back(rollout: Rollout) -> None:
    """Puts back what ran before: deliver it, restart the app unless it never noticed, and verify."""
    app = connector(rollout)
    bundle = _previous_bundle(rollout) if rollout.kind in (Kind.APPLY, Kind.ROLL_BACK) else rollout.bundle
    match rollout.phase:
        case "deliver":
            able = rollout.environment.destination.able
            before = app.observe()
            changed = False
            if bundle is not None and not able.hands_over:
                files = unseal.open_bundle(bundle, reason="going back")
                changed = app.delivered_digest() != files.digest
                with calling(rollout, "deliver", "Deliver what ran before"):
                    _deliver(app, files)
            seen = before if able.delivery_restarts and changed else app.observe()
            if able.delivery_restarts and changed and rollout.start_after and seen.incarnation:
                hold(rollout, phase="verify", incarnation_back=seen.incarnation)
            elif not rollout.start_after:
                _rolled_back(rollout, "It is delivered again; the app stays stopped.")
            elif seen.status == "running" and seen.incarnation and seen.incarnation == rollout.incarnation_before:
                _rolled_back(rollout, "The app was not interrupted.")
            else:
                phase = "stop" if seen.incarnation else "start"
                hold(rollout, phase=phase, incarnation_back=seen.incarnation or seen.ended)
        case "stop":
            if _started_since(app.observe(), rollout.incarnation_back):
                hold(rollout, phase="verify")
            else:
                _restart(rollout, app, after="")
        case "start":
            seen = app.observe()
            if not seen.incarnation and not _started_since(seen, rollout.incarnation_back):
                with calling(rollout, "start", "Start the app with what ran before"):
                    app.start()
            hold(rollout, phase="verify")
        case _:
            by_hand = rollout.environment.destination.able.hands_over
            expected = bundle.digest if bundle is not None and not by_hand else None
            with looking(rollout):
                seen, proof, wrong = look(rollout, rollout.incarnation_back, expected)
                reached(rollout, "observe", "after-call")
            if proof is not None:
                if rollout.previous is not None and bundle is not None and not by_hand:
                    _try_connections_again(rollout, rollout.previous, bundle, "back")
                _rolled_back(rollout, "The app runs with what ran before.")
            elif rollout.overdue or (wrong and seen.status != "stopped"):
                _needs_help(rollout, seen.note or why_not_verified(seen, expected))
            elif not wrong:
                rollout.again_in = look_again_in(rollout)
            else:
                # A crash or a reboot on the way: the old configuration is worth another start, until the time is over.
                say(rollout, seen.note or "The app does not run", "failed")
                hold(rollout, phase="start", incarnation_back=seen.ended)
                rollout.pause = True


def _restart(rollout: Rollout, app: Connector, *, after: str) -> None:
    """Our stop and the start that follows it. Between the two nothing is waited for but the platform."""
    going_back = rollout.state == "rolling_back"
    with_what = "what ran before" if going_back else "what was delivered" if rollout.bundle else "what is there"
    able = rollout.environment.destination.able
    reads_anew = _reads_anew(rollout)
    if reads_anew or able.restarts:
        with calling(rollout, "start", f"Let the app read {with_what}" if reads_anew else f"Restart with {with_what}"):
            if reads_anew:
                app.reload()
            else:
                hold(rollout, stopped_at=rollout.stopped_at or timezone.now())
                app.restart()
        if going_back:
            hold(rollout, phase="verify")
        else:
            enter(rollout, after)
        return
    reached(rollout, "stop", "before-intent")
    hold(rollout)
    stopping = Line(rollout, "stop", "Stop the app")
    reached(rollout, "stop", "after-intent")
    asked = time.monotonic()
    try:
        app.stop()
    except ConnectorError as error:
        stopping.ended("warn" if isinstance(error, OutOfOrder | NotYet) else "failed", str(error))
        raise
    took, stopped_at = time.monotonic() - asked, timezone.now()
    reached(rollout, "stop", "after-call")

    held = Rollout.objects.filter(pk=rollout.pk, fence=rollout.fence)
    one_at_a_time = threading.Lock()

    def record_stop() -> None:
        """In rows alone, and the same whether it is done once or twice: the thread below may come late."""
        with one_at_a_time:
            stopping.ended("ok", f"stopped after {took:.1f} s", stopped_at)
            Step.objects.get_or_create(
                rollout=rollout,
                state=rollout.state,
                fence=rollout.fence,
                call="start",
                started_at=stopped_at,
                defaults={"text": f"Start the app with {with_what}"},
            )
            if going_back:
                held.filter(state="rolling_back", phase="stop").update(phase="start")
            else:
                held.filter(state="stopping").update(state="starting", state_since=stopped_at, stopped_at=stopped_at)

    reached(rollout, "start", "before-intent")
    _without_waiting(record_stop)
    reached(rollout, "stop", "after-outcome")
    reached(rollout, "start", "after-intent")
    app.start()
    started_at = timezone.now()
    reached(rollout, "start", "after-call")
    # The app has been asked to run again; from here on the records may take their time.
    record_stop()
    Step.objects.filter(rollout=rollout, fence=rollout.fence, call="start", started_at=stopped_at, outcome="").update(
        outcome="ok", ended_at=started_at
    )
    reached(rollout, "start", "after-outcome")
    now = Rollout.objects.get(pk=rollout.pk)
    if now.fence != rollout.fence:
        raise Fenced
    rollout.state, rollout.state_since, rollout.phase, rollout.stopped_at = (
        now.state, now.state_since, now.phase, now.stopped_at
    )  # fmt: skip
    if going_back:
        hold(rollout, phase="verify")
    else:
        enter(rollout, after)


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


def _reads_anew(rollout: Rollout) -> bool:
    """Whether a running app is to read what was delivered without being stopped."""
    return rollout.environment.destination.able.reloads and rollout.kind in (Kind.APPLY, Kind.ROLL_BACK)


# --- Ends of the going back -------------------------------------------------------------------------------------------


def _rolled_back(rollout: Rollout, sentence: str) -> None:
    if rollout.environment.destination.health_url and rollout.start_after:
        found = health.ask(rollout.environment.destination, seconds=5.0)
        say(rollout, f"Health check: {found.sentence}", "ok" if found.is_well else "warn")
    if rollout.environment.destination.able.hands_over and rollout.kind in (Kind.APPLY, Kind.ROLL_BACK):
        # It was seen to run, or not to have been touched; the files are not ours to take back.
        say(rollout, "The app is as it was before, but for what was uploaded by hand", "failed")
        enter(
            rollout,
            "needs_help",
            sentence="Put back by hand what ran before, in the platform's own pages, and restart the app here.",
        )
        return
    if rollout.previous:
        before = f"{rollout.previous.number} is {'running' if rollout.start_after else 'back in place'}"
    elif rollout.environment.destination.able.keeps_what_was or rollout.kind not in (Kind.APPLY, Kind.ROLL_BACK):
        before = f"what was there before is {'running' if rollout.start_after else 'back'}"
    else:
        before = "as before the first apply, nothing from here is in place"
    say(rollout, f"Rolled back: {before}")
    enter(rollout, "rolled_back", running_at=timezone.now(), sentence=f"Rolled back, {before}. {sentence}")


def _needs_help(rollout: Rollout, sentence: str) -> None:
    say(rollout, sentence, "failed")
    enter(
        rollout,
        "needs_help",
        sentence=f"The portal could not bring the app back: {sentence} Look at the app’s log, then restart it here.",
    )


# --- What a rollout is about ------------------------------------------------------------------------------------------


def _deliver(app: Connector, files: Files) -> None:
    app.deliver(files)
    if app.delivered_digest() != files.digest:
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
    "handing_over": wait_for_hands,
    "stopping": stop,
    "starting": start,
    "verifying": verify,
    "rolling_back": go_back,
}

assert set(MOVES) == set(ACTIVE), "every active state has its move"
