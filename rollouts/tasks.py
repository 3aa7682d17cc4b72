"""Shells around moves: a task carries one id, makes one move, and ends."""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta
from uuid import UUID

from celery import shared_task
from django.db.models import F, Q
from django.utils import timezone

from environments.refusals import Refused
from rollouts import actions, holding, moves, pulses, watching
from rollouts.connectors import ConnectorError
from rollouts.models import Destination, Rollout
from rollouts.states import ACTIVE

log = logging.getLogger(__name__)

# A nudge that nobody acted on is repeated after this time.
NUDGE_AGAIN = timedelta(seconds=5)
OBSERVE_EVERY = timedelta(seconds=15)
READ_FILES_EVERY = timedelta(minutes=5)


@shared_task(name="rollouts.advance")
def advance(rollout_id: str) -> None:
    pulses.pulse(pulses.WORKER)
    again_in = moves.advance(rollout_id)
    if again_in is not None:
        actions.nudge(UUID(rollout_id), again_in)
    else:
        actions.begin_what_waits()


@shared_task(name="rollouts.sweep")
def sweep() -> None:
    """Nudges whatever no living worker holds, and looks after apps that nobody is rolling out to."""
    pulses.pulse(pulses.WORKER)
    for rollout_id in holding.free_from_the_dead():
        actions.nudge(rollout_id)
    now = timezone.now()
    forgotten = Rollout.objects.filter(state__in=ACTIVE).filter(
        Q(lease_until=None, state_since__lt=now - NUDGE_AGAIN) | Q(lease_until__lt=now)
    )
    for rollout in forgotten.filter(Q(nudged_at=None) | Q(nudged_at__lt=now - NUDGE_AGAIN)):
        Rollout.objects.filter(pk=rollout.pk).update(nudged_at=now)
        actions.nudge(rollout.pk)
    actions.begin_what_waits()
    actions.begin_what_is_due()
    busy = Rollout.objects.filter(state__in=ACTIVE).values("environment")
    due = Destination.objects.filter(Q(observed_at=None) | Q(observed_at__lt=now - OBSERVE_EVERY))
    due = due.filter(environment__archived_at=None).select_related("bundle", "secrets")
    for destination in due.exclude(environment__in=busy).order_by(F("observed_at").asc(nulls_first=True))[:20]:
        files, began = None, timezone.now()
        try:
            seen, files = watching.glance(destination, unread_for=READ_FILES_EVERY)
        except ConnectorError as error:
            seen = watching.unreachable(destination, str(error))
        except Exception:
            # One app that cannot be looked at must not keep the others from being looked after.
            log.exception("%s could not be observed", destination)
            seen = watching.unreachable(destination, "The portal's log says why.")
        if not watching.note_observation(destination, seen, files, began=began):
            continue  # a rollout has begun or ended meanwhile
        with contextlib.suppress(Refused):  # somebody has just asked for something else
            actions.make_good(destination, seen)
    pulses.pulse(pulses.SWEEP)


@shared_task(name="rollouts.tidy")
def tidy() -> None:
    """Removes expired drafts, ciphertexts that no row knows, and the signs of life of those who are gone."""
    actions.tidy()
    pulses.tidy()
    pulses.pulse(pulses.TIDY)
