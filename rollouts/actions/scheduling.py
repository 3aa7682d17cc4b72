"""What is scheduled: beginning it when its time has come, or saying why not; moving it, and beginning it at once.

When its time has come, everything is asked again that was asked when it was frozen, and the app is looked at: what does
not run as it should is not touched. What may pass by itself (a restart, a short absence) is given `PATIENCE`; a worker
that comes late begins it while it is no more than `LATEST` late. Nothing secret waits: keys are opened by the export.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import trail
from certificates.compromised import look_up
from environments import actions as environments
from environments.access import Right, environments_to
from environments.refusals import Refused
from environments.tickets import checked_ticket
from rollouts import due, exporters, health, unseal, watching
from rollouts.actions.asking import begin_unbegun, end_unbegun, turn_of
from rollouts.connectors import ConnectorError
from rollouts.models import Destination, Revision, Rollout, Step
from rollouts.states import ACTIVE
from vault.envelope import VaultError

log = logging.getLogger(__name__)

LATEST = timedelta(minutes=60)
PATIENCE = timedelta(minutes=1)
# Between two looks; one worker at a time looks, and the others see to the others.
LOOK_EVERY = timedelta(seconds=5)
# Seconds for the app's health page.
HEALTH_LIMIT = 5.0
UNTOUCHED = "Nothing was changed."


def begin_what_is_due() -> None:
    """Begins each that is due, or cancels it with the reason."""
    now = timezone.now()
    due_now = Rollout.objects.filter(state="scheduled", due_at__lte=now)
    unseen = due_now.filter(Q(nudged_at=None) | Q(nudged_at__lt=now - LOOK_EVERY))
    related = ("environment__application", "revision", "series", "requester")
    for rollout in unseen.select_related(*related).order_by("due_at", "position"):
        if not unseen.filter(pk=rollout.pk).update(nudged_at=now):
            continue
        try:
            _begin_or_end(rollout)
        except Exception:
            # One that cannot be judged must not keep the others from beginning; it ends by its time.
            log.exception("rollout %s: could not be begun", rollout.pk)


def _begin_or_end(rollout: Rollout) -> None:
    assert rollout.due_at is not None
    now = timezone.now()
    destination = (
        Destination.objects.filter(pk=rollout.environment_id)
        .select_related("environment__application", "running", "bundle", "secrets")
        .first()
    )
    its_turn, never = turn_of(rollout)
    if not never and now > rollout.due_at + LATEST:
        never = _too_late(rollout.due_at, its_turn)
    never = never or _why_never(rollout, destination) or _why_not_for_them(rollout)
    if never or destination is None:
        end_unbegun(rollout, UNTOUCHED, never)
    elif its_turn and not (reason := _why_not_now(rollout, destination)):
        started = rollout.start_after or destination.wanted_running
        begin_unbegun(rollout, destination, start_after=started, created_at=timezone.now(), nudged_at=None)
    elif its_turn and now > rollout.due_at + PATIENCE:
        end_unbegun(rollout, UNTOUCHED, reason)


def _too_late(due_at: datetime, its_turn: bool) -> str:
    named = {"from": due.clock(due_at), "to": due.clock(due_at + LATEST)}
    if not its_turn:
        return "Those before it in its series had not ended by {to}.".format(**named)
    return "No worker came between {from} and {to}.".format(**named)


def _why_not_for_them(rollout: Rollout) -> str:
    """A sentence where whoever asked for it may not apply here any more. (A command is whoever runs the server.)"""
    person = rollout.requester
    if person is None:
        return ""
    if not person.is_active:
        return f"{rollout.requested_by} was locked out meanwhile; somebody else has to apply it."
    if not environments_to(Right.APPLY, person).filter(pk=rollout.environment_id).exists():
        return f"{rollout.requested_by} may not apply here any more; somebody else has to."
    return ""


def _why_never(rollout: Rollout, destination: Destination | None) -> str:
    """What was asked when it was frozen, asked again: a sentence where it is not to run any more."""
    environment, revision = rollout.environment, rollout.revision
    assert revision is not None
    if environment.archived_at is not None or environment.application.archived_at is not None:
        return "The environment was archived."
    if destination is None:
        return "Where this environment runs was not set any more."
    if not destination.is_known:
        return f"This server’s settings no longer know “{destination.place}”."
    try:
        checked_ticket(rollout.ticket, environment.ticket_pattern)
    except Refused as error:
        return str(error)
    if destination.blocked_digest == revision.digest and _failed_since(rollout):
        return "This configuration failed and was blocked meanwhile."
    if destination.running is not None and destination.running.digest == revision.digest:
        return f"Revision {destination.running.number} ran already, which is the same."
    if destination.running is not None and destination.running.number > revision.number:
        return f"Revision {destination.running.number} ran already, which is newer."
    if brought := _compromised(revision, destination):
        return f"The private key of {brought} is known as compromised by now; replace it, and apply that."
    frozen = revision.frozen
    if frozen.base_folder != environment.base_folder:
        return "The environment’s base folder was changed meanwhile."
    return next(iter(exporters.obstacles(destination.exporter, frozen)), "")


def _compromised(revision: Revision, destination: Destination) -> str:
    """Names what would bring a key into use that others may have, and that does not run now; "" where nothing would."""
    runs = set()
    if destination.running is not None:
        runs = set(destination.running.entries.values_list("version__spki_sha256", flat=True))
    held = [entry.version for entry in revision.entries.select_related("version__certificate")]
    return ", ".join(f"“{version}”" for version in look_up(held) if version.spki_sha256 not in runs)


def _failed_since(rollout: Rollout) -> bool:
    """Who scheduled what was blocked already, insisted."""
    assert rollout.revision is not None
    failed = Rollout.objects.filter(environment=rollout.environment_id, state__in=("rolled_back", "needs_help"))
    same = failed.filter(revision__digest=rollout.revision.digest)
    return same.filter(finished_at__gt=rollout.revision.created_at).exists()


def _why_not_now(rollout: Rollout, destination: Destination) -> str:
    """What may pass by itself: something else is under way, or the app does not run as it should."""
    if Rollout.objects.filter(environment=rollout.environment_id, state__in=ACTIVE).exists():
        return "Something else was being applied, stopped or started when its time came."
    files, began = None, timezone.now()
    try:
        seen, files = watching.glance(destination)
    except (ConnectorError, VaultError, unseal.ReadBackError) as error:
        seen = watching.unreachable(destination, str(error))
    except Exception:
        # Whatever it is, the app was not seen to run well; what is scheduled waits, and ends by its time.
        log.exception("%s could not be observed", destination)
        seen = watching.unreachable(destination, "The portal’s log says why.")
    watching.note_observation(destination, seen, files, began=began)
    if seen.status == "unreachable":
        return f"The app could not be reached when its time came. {seen.note}".strip()
    if not destination.wanted_running:
        # It may be started with it; what others started is not ours to restart.
        return "The app ran, although it was stopped from here." if seen.incarnation else ""
    if seen.status != "running":
        return f"The app did not run when its time came; it was {seen.status}."
    if destination.has_drifted:
        return "The app ran with something else than was applied from here."
    if destination.health_url and not (found := health.ask(destination, seconds=HEALTH_LIMIT)).is_well:
        return f"The app was not well when its time came. {found.sentence}"
    return ""


def change_time(*, rollout: Rollout, due_at: datetime, by: Any) -> None:
    """Moves what is scheduled; its content stays as it was frozen."""
    due.check(due_at)
    with transaction.atomic():
        before = _still_scheduled(rollout).due_at
        Rollout.objects.filter(pk=rollout.pk, state="scheduled").update(due_at=due_at, reminded_at=None)
        trail.record(
            "rollout.moved", by=by, subject=rollout, revision=_number(rollout), before=before, due_at=due_at
        )  # fmt: skip
    rollout.due_at = due_at


def begin_early(*, rollout: Rollout, by: Any) -> None:
    """Asks for what is scheduled at once, as it was frozen. From now on it is a rollout like any other: somebody is
    there, so that the app need not be well."""
    with transaction.atomic():
        rollout.due_at = _still_scheduled(rollout).due_at
        destination = Destination.objects.filter(pk=rollout.environment_id).select_related("running", "secrets").first()
        if sentence := _why_never(rollout, destination):
            raise Refused(_("It cannot be applied as it was frozen: %(why)s") % {"why": sentence})
        assert destination is not None
        started = rollout.start_after or destination.wanted_running
        values = {"start_after": started, "created_at": timezone.now(), "due_at": None}
        if Rollout.objects.filter(environment=rollout.environment_id, state__in=ACTIVE).exists() or not begin_unbegun(
            rollout, destination, **values
        ):
            raise Refused(_("Something is already being applied, stopped or started here; wait for it to end."))
        Step.objects.create(
            rollout=rollout, state="requested", fence=0, text=f"Begun before its time by {by}", outcome="ok",
            ended_at=timezone.now(),
        )  # fmt: skip
        trail.record("rollout.begun-early", by=by, subject=rollout, revision=_number(rollout))


def _still_scheduled(rollout: Rollout) -> Rollout:
    """Inside the caller's transaction; whoever else changes it waits."""
    environments.take_turns(rollout.environment)
    found = Rollout.objects.filter(pk=rollout.pk, state="scheduled").first()
    if found is None:
        raise Refused(_("It is not scheduled any more; look at what became of it."))
    return found


def _number(rollout: Rollout) -> int | None:
    return rollout.revision.number if rollout.revision else None
