"""What people ask of a running application; the work is done by moves."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Max, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import trail
from audit.actors import PORTAL
from certificates import current
from certificates.compromised import look_up
from certificates.content import Content
from certificates.models import ClientCertificate
from environments import actions as environments
from environments.models import Environment, Person
from environments.refusals import Refused
from environments.tickets import checked_ticket
from rollouts import due, exporters
from rollouts.actions.nudging import nudge
from rollouts.changes import Change, changes, nothing
from rollouts.connectors import Observation
from rollouts.models import Destination, Revision, RevisionEntry, Rollout, Series, Step
from rollouts.states import ACTIVE, CANCELLABLE, FINAL, Kind

# For how long after a rollout's end one of its calls may still come late.
LATE = timedelta(days=1)


def running_content(environment: Environment, wanted: Content) -> Content:
    """What runs, as far as it was applied from here; nothing, in the wanted settings, before the first apply."""
    destination = Destination.objects.filter(environment=environment).select_related("running").first()
    if destination is None or destination.running is None:
        return nothing(wanted)
    return destination.running.frozen


def pending(environment: Environment) -> tuple[Content, tuple[Change, ...]]:
    """The wanted content, and the changes from what runs to it."""
    wanted = current.content(environment)
    return wanted, changes(running_content(environment, wanted), wanted)


def apply(
    *,
    environment: Environment,
    shown: str,
    reason: str,
    ticket: str = "",
    start: bool | None = None,
    insist: bool = False,
    despite_tests: bool = False,
    series: Series | None = None,
    position: int = 0,
    due_at: datetime | None = None,
    replace: bool = False,
    by: Any,
) -> Rollout:
    """Freezes the wanted content as a revision and asks for it to be made to run.

    `shown` is the digest of the content that the person saw; when the content moved on, nothing happens. `start` asks
    for a stopped app to be started. `insist` applies content that failed before. `despite_tests` goes on where a
    connection test is refused. While something else is under way, it waits; a newer one takes its place.

    `due_at` schedules it for then (rollouts.actions.scheduling), in the place of what is scheduled already only with
    `replace`. What is applied now takes the place of what is scheduled, which would go back to something older.
    """
    reason, ticket = checked_reason(reason), checked_ticket(ticket, environment.ticket_pattern)
    if due_at is not None:
        due.check(due_at)
    with transaction.atomic():
        environments.take_turns(environment)
        destination = _destination(environment)
        wanted, found = pending(environment)
        if wanted.digest != shown:
            raise MovedOn(_("Somebody changed something meanwhile; look at the changes once more, then apply."))
        if not found and destination.running is not None:
            raise Refused(
                _("Nothing has changed since revision %(n)d; restart only, if you want to.")
                % {"n": destination.running.number}
            )
        for obstacle in exporters.obstacles(destination.exporter, wanted):
            raise Refused(obstacle)
        if destination.blocked_digest == wanted.digest and not insist:
            raise Refused(
                _("This configuration failed and is blocked; change something, or tick “Try it again all the same”."),
                field="insist",
            )
        before = scheduled_rollout(environment)
        if before is not None and due_at is not None:
            _may_be_replaced(before, wanted, replace)
        revision = freeze(environment, wanted, reason=reason, ticket=ticket, by=by)
        rollout = _request(
            destination,
            Kind.APPLY,
            revision=revision,
            start_after=bool(start) if due_at is not None or start is not None else destination.wanted_running,
            despite_tests=despite_tests,
            series=series,
            position=position,
            due_at=due_at,
            reason=reason,
            ticket=ticket,
            by=by,
        )
        timed: dict[str, Any] = {"due_at": due_at} if due_at is not None else {}
        if before is not None:
            timed["replaces"] = _number(before)
        trail.record(
            "rollout.requested", by=by, subject=rollout, kind="apply", revision=revision.number, changes=len(found),
            reason=reason, ticket=ticket, **timed,
        )  # fmt: skip
    return rollout


def _may_be_replaced(scheduled: Rollout, wanted: Content, replace: bool) -> None:
    named = {"n": _number(scheduled), "when": due.said(scheduled.due_at) if scheduled.due_at else ""}
    if scheduled.revision is not None and scheduled.revision.digest == wanted.digest:
        raise Refused(
            _("Exactly this is scheduled for %(when)s already, as revision %(n)d; change its time instead.") % named
        )
    if not replace:
        raise Refused(
            _("Revision %(n)d is scheduled here for %(when)s already; cancel it, or say that this one replaces it.")
            % named,
            field="replace",
        )


def _number(rollout: Rollout) -> int:
    return rollout.revision.number if rollout.revision else 0


class MovedOn(Refused):
    """The content is not the one that was shown."""


def freeze(environment: Environment, content: Content, *, reason: str, ticket: str, by: Any) -> Revision:
    """The next revision: the whole content, immutable, inside the caller's transaction."""
    newest = Revision.objects.filter(environment=environment).aggregate(Max("number"))["number__max"] or 0
    revision = Revision.objects.create(
        environment=environment,
        number=newest + 1,
        content=content.canonical(),
        digest=content.digest,
        reason=reason,
        ticket=ticket,
        created_by=str(by),
    )
    versions = {
        c.slug: c.in_use
        for c in ClientCertificate.objects.filter(environment=environment, removed_at=None).select_related("in_use")
    }
    RevisionEntry.objects.bulk_create(
        RevisionEntry(revision=revision, slug=slot.slug, version=versions[slot.slug], position=position)
        for position, slot in enumerate(content.slots, start=1)
    )
    return revision


def roll_back(
    *, environment: Environment, revision: Revision, reason: str, ticket: str = "", despite_key: bool = False, by: Any
) -> Rollout:
    """Makes an earlier revision run again. The wanted content stays; what differs then waits as changes. `despite_key`
    goes back although it has a compromised key; otherwise Refused."""
    reason, ticket = checked_reason(reason), checked_ticket(ticket, environment.ticket_pattern)
    with transaction.atomic():
        environments.take_turns(environment)
        destination = _destination(environment)
        if destination.running_id == revision.pk:
            raise Refused(_("Revision %(n)d is running already.") % {"n": revision.number})
        if revision.frozen.base_folder != environment.base_folder:
            raise Refused(
                _("Revision %(n)d was made for another folder; apply what it holds as changes instead.")
                % {"n": revision.number}
            )
        if not revision.rollouts.filter(state="verified").exists():
            raise Refused(_("Revision %(n)d never ran here; apply it as changes instead.") % {"n": revision.number})
        insisted: dict[str, Any] = {"despite": reason} if despite_key else {}
        held = [entry.version for entry in revision.entries.select_related("version__certificate")]
        if not despite_key and (found := look_up(held)):
            raise Refused(
                _("Revision %(n)d has a compromised key: that of %(names)s. Tick that you want it all the same.")
                % {"n": revision.number, "names": ", ".join(f"“{version}”" for version in found[:5])},
                field="despite_key",
            )
        rollout = _request(
            destination,
            Kind.ROLL_BACK,
            revision=revision,
            start_after=destination.wanted_running,
            reason=reason,
            ticket=ticket,
            by=by,
        )
        trail.record(
            "rollout.requested",
            by=by,
            subject=rollout,
            kind="roll-back",
            revision=revision.number,
            reason=reason,
            ticket=ticket,
            **insisted,
        )
    return rollout


def restart(*, environment: Environment, reason: str = "", by: Any) -> Rollout:
    """Restarts with what runs; changes stay waiting."""
    return _without_delivery(environment, Kind.RESTART, reason, by)


def stop(*, environment: Environment, reason: str = "", by: Any) -> Rollout:
    return _without_delivery(environment, Kind.STOP, reason, by)


def start(*, environment: Environment, reason: str = "", by: Any) -> Rollout:
    """Starts a stopped app as it was before; changes stay waiting."""
    return _without_delivery(environment, Kind.START, reason, by)


def _without_delivery(environment: Environment, kind: Kind, reason: str, by: Any) -> Rollout:
    with transaction.atomic():
        destination = _destination(environment)
        if kind in (Kind.STOP, Kind.START) and not destination.able.stops:
            raise Refused(_("Its supervisor brings the app back whenever it ends; stop the supervisor instead."))
        stopped = not destination.wanted_running and destination.observed_status == "stopped"
        if kind in (Kind.STOP, Kind.RESTART) and stopped:
            raise Refused(_("The app is stopped; start it instead."))
        if kind == Kind.START and destination.wanted_running and destination.observed_status == "running":
            raise Refused(_("The app is running already."))
        rollout = _request(
            destination, kind, revision=destination.running, start_after=kind != Kind.STOP, reason=reason.strip()[:500],
            ticket="", by=by,
        )  # fmt: skip
        trail.record("rollout.requested", by=by, subject=rollout, kind=str(kind), reason=reason)
    return rollout


def make_good(destination: Destination, seen: Observation) -> Rollout | None:
    """Puts right what a worker that was held up did after others had gone on: an app that ought to run and was stopped
    late is started again, and the other way round. An app that ended by itself is nobody's late call; it is left alone.

    Late is a stop or start whose outcome came after its rollout's end, or is still open (its worker may yet make it).
    """
    down = destination.wanted_running and seen.status == "stopped"
    up = not destination.wanted_running and bool(seen.incarnation)
    if not (down or up):
        return None
    late = Step.objects.filter(
        rollout__environment=destination.environment_id,
        rollout__state__in=FINAL,
        rollout__finished_at__gt=timezone.now() - LATE,
        call="stop" if down else "start",
    ).filter(Q(outcome="") | Q(ended_at__gt=F("rollout__finished_at"), outcome="ok"))
    with transaction.atomic():
        if not late.update(outcome="warn", result=_("came too late, and is made good")):
            return None
        reason = _("A worker that was held up called the app late.")
        kind = Kind.START if down else Kind.STOP
        rollout = _request(
            destination, kind, revision=destination.running, start_after=down, reason=reason, ticket="", by=PORTAL
        )
        trail.record("rollout.requested", by=PORTAL, subject=rollout, kind=str(kind), reason=reason)
    return rollout


def _request(
    destination: Destination,
    kind: Kind,
    *,
    revision: Revision | None,
    start_after: bool,
    reason: str,
    ticket: str,
    despite_tests: bool = False,
    series: Series | None = None,
    position: int = 0,
    due_at: datetime | None = None,
    by: Any,
) -> Rollout:
    tests = destination.environment.connection_tests
    delivers = kind in (Kind.APPLY, Kind.ROLL_BACK)
    waits = series is not None and series.stops_at_failure and position > 0
    here = Rollout.objects.filter(environment=destination.environment_id)
    state = "waiting" if waits else "requested"
    if due_at is not None:
        state = "scheduled"
        _supersede(here.filter(state="scheduled"))
    # Looked for beforehand: while a worker is ending one, the constraint would wait for that worker, and it for us.
    elif active := here.filter(state__in=ACTIVE).first():
        if kind != Kind.APPLY or (revision is not None and active.revision_id and _same(active, revision)):
            raise _busy()
        state = "waiting"
    if delivers and due_at is None:
        _supersede(here.filter(state="waiting"))
    if delivers and due_at is None and revision is not None:
        # What is scheduled would go back to something older; an earlier revision that is to run again is no reason.
        _supersede(here.filter(state="scheduled", revision__number__lt=revision.number))
    try:
        with transaction.atomic():
            rollout = Rollout.objects.create(
                environment_id=destination.environment_id,
                kind=kind,
                state=state,
                revision=revision,
                bundle=None if delivers else destination.bundle,
                previous=destination.running,
                previous_bundle=destination.bundle,
                start_after=start_after,
                connection_tests="warn" if tests == "block" and despite_tests else tests,
                series=series,
                position=position,
                reason=reason,
                ticket=ticket,
                due_at=due_at,
                requested_by=str(by),
                requester=by if isinstance(by, Person) else None,
            )
    except IntegrityError:
        # one_active_rollout_per_environment, or one_scheduled_apply_per_environment
        raise _busy() from None
    if state == "requested":
        transaction.on_commit(partial(nudge, rollout.pk))
    return rollout


def _busy() -> Refused:
    return Refused(_("Something is already being applied, stopped or started here; wait for it to end."))


def _same(active: Rollout, revision: Revision) -> bool:
    """A second click, and nothing new."""
    return active.revision is not None and active.revision.digest == revision.digest


def _supersede(waiting: QuerySet[Rollout]) -> None:
    """Waiting ones are never merged: what is asked for last is what is applied."""
    now = timezone.now()
    waiting.update(
        state="cancelled",
        state_since=now,
        finished_at=now,
        sentence="A newer one took its place before it began; nothing was changed by this one.",
    )


# --- Waiting ones -----------------------------------------------------------------------------------------------------


def begin_what_waits() -> None:
    """Asks for what waited and may begin: nothing else is under way there, and, in a series that stops at the first
    failure, those before it are verified. Cancels what comes after a failure."""
    for rollout in Rollout.objects.filter(state="waiting").select_related("series").order_by("created_at", "position"):
        if rollout.overdue:
            end_unbegun(rollout, "It waited for a week; nothing was changed.")
            continue
        go_on, sentence = turn_of(rollout)
        if sentence:
            end_unbegun(rollout, sentence)
        elif go_on:
            _begin_waiting(rollout)


def turn_of(rollout: Rollout) -> tuple[bool, str]:
    """Whether those before it in its series are done; and why it is not to begin any more, "" where it is."""
    if rollout.series is None or not rollout.series.stops_at_failure:
        return True, ""
    before = list(rollout.series.rollouts.filter(position__lt=rollout.position))
    if any(one.is_final and one.state != "verified" for one in before):
        # Not by name: who sees this environment need not be allowed to see that one.
        return False, "Not begun, because one that came before it in its series was not verified."
    return all(one.is_final for one in before), ""


def end_unbegun(rollout: Rollout, sentence: str, failure: str = "") -> None:
    """Cancels what is scheduled or waits, where it still does."""
    now = timezone.now()
    with transaction.atomic():
        ended = _as_it_was(rollout).update(
            state="cancelled", state_since=now, finished_at=now, sentence=sentence, failure=failure
        )
        if ended:
            said: dict[str, Any] = {"failure": failure} if failure else {}
            trail.record("rollout.cancelled", by=PORTAL, subject=rollout, sentence=sentence, **said)


def _begin_waiting(rollout: Rollout) -> None:
    destination = Destination.objects.filter(pk=rollout.environment_id).first()
    if destination is None or Rollout.objects.filter(environment=rollout.environment_id, state__in=ACTIVE).exists():
        return
    begin_unbegun(rollout, destination)


def _as_it_was(rollout: Rollout) -> QuerySet[Rollout]:
    """Whoever looked at it decides only while nobody has begun, cancelled or moved it."""
    return Rollout.objects.filter(pk=rollout.pk, state=rollout.state, due_at=rollout.due_at)


def begin_unbegun(rollout: Rollout, destination: Destination, **values: Any) -> bool:
    """Asks for what is scheduled or waits, where it still does; it goes back to what runs now. False where somebody
    else has begun it, or something else there: the next sweep looks again."""
    try:
        with transaction.atomic():
            begun = _as_it_was(rollout).update(
                state="requested",
                state_since=timezone.now(),
                previous=destination.running_id,
                previous_bundle=destination.bundle_id,
                **values,
            )
            if begun:
                transaction.on_commit(partial(nudge, rollout.pk))
    except IntegrityError:
        return False
    return bool(begun)


def why_not_cancelled(rollout: Rollout) -> str:
    """Why it can no longer be taken back, for those who look for the button; "" where it can be."""
    if rollout.state in CANCELLABLE and rollout.fence == 0:
        return ""
    if rollout.is_final:
        return _("It has ended; there is nothing left to cancel.")
    if rollout.state == "handing_over":
        return "" if not rollout.phase else _("The upload was confirmed, and the app is about to be restarted.")
    if rollout.state == "rolling_back":
        return _("It is going back to what ran before already.")
    return _("It has begun and cannot be cancelled any more; it ends in the new configuration or in the old one.")


def cancel(*, rollout: Rollout, by: Any) -> None:
    """Takes a rollout back while no worker has begun it, or while it waits for people."""
    with transaction.atomic():
        now = timezone.now()
        ended = {"state": "cancelled", "state_since": now, "finished_at": now}
        untouched = Rollout.objects.filter(pk=rollout.pk, state__in=CANCELLABLE, fence=0)
        handed_over = Rollout.objects.filter(pk=rollout.pk, state="handing_over", phase="")
        taken = untouched.update(**ended, sentence="Cancelled before it began; nothing was changed.")
        taken = taken or handed_over.update(
            **ended, sentence="Cancelled; the app was not restarted. Take back by hand what you have uploaded already."
        )
        if not taken:
            raise Refused(why_not_cancelled(Rollout.objects.get(pk=rollout.pk)))
        trail.record("rollout.cancelled", by=by, subject=rollout)


def confirm_handover(*, rollout: Rollout, by: Any) -> None:
    """Somebody says that they have uploaded what was handed over: the app is restarted now."""
    with transaction.atomic():
        taken = Rollout.objects.filter(pk=rollout.pk, state="handing_over", phase="").update(phase="confirmed")
        if not taken:
            raise Refused(_("This rollout does not wait for an upload any more; look at what became of it."))
        said = _("Upload confirmed by %(who)s") % {"who": by}
        Step.objects.create(
            rollout=rollout, state="handing_over", fence=rollout.fence, text=said, outcome="ok", ended_at=timezone.now()
        )
        trail.record("handover.confirmed", by=by, subject=rollout)
        transaction.on_commit(partial(nudge, rollout.pk))


def _destination(environment: Environment) -> Destination:
    # Locked where the database can, so that of two requests at once the second sees the first one's rollout.
    destination = (
        Destination.objects.select_for_update(of=("self",))
        .filter(environment=environment)
        .select_related("running", "bundle", "environment__application")
        .first()
    )
    if destination is None:
        raise Refused(_("Say first where this environment runs, under Settings."))
    if not destination.is_known:
        raise Refused(
            _("This server's settings no longer know “%(place)s”; ask who runs the server.")
            % {"place": destination.place}
        )
    return destination


def archive(*, environment: Environment, by: Any) -> None:
    """Takes an environment off the lists, unless something is under way; what runs there goes on running, and what is
    scheduled or waits is cancelled."""
    with transaction.atomic():
        environments.take_turns(environment)
        Destination.objects.select_for_update().filter(environment=environment).first()
        if active_rollout(environment) is not None:
            raise Refused(_("Something is being applied, stopped or started here; wait for it to end, then archive."))
        now = timezone.now()
        Rollout.objects.filter(environment=environment, state__in=("scheduled", "waiting")).update(
            state="cancelled",
            state_since=now,
            finished_at=now,
            sentence="Cancelled, because the environment was archived; nothing was changed.",
        )
        environments.archive_environment(environment=environment, by=by)


def active_rollout(environment: Environment) -> Rollout | None:
    return Rollout.objects.filter(environment=environment, state__in=ACTIVE).first()


def scheduled_rollout(environment: Environment) -> Rollout | None:
    return Rollout.objects.filter(environment=environment, state="scheduled").select_related("revision").first()


def checked_reason(text: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise Refused(_("Say why, in a few words; it stands beside the revision."), field="reason")
    if len(text) > 500:
        raise Refused(_("Use at most 500 characters."), field="reason")
    return text
