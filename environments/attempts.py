"""Pauses after wrong passwords. The audit log counts them, so that every web process knows, and no more is kept."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.actors import Actor
from audit.models import Event
from environments.refusals import Refused

# So many refused attempts within so long, then a pause until the first of them is as old as that.
ATTEMPTS = 10
PAUSE = timedelta(minutes=5)


class TooManyAttempts(Refused):
    """The password was not even looked at; pages answer with 429."""

    def __init__(self, *, field: str | None = None) -> None:
        super().__init__(_("Too many wrong passwords; wait 5 minutes, then try again."), field=field)


def paused(action: str, by: Any) -> bool:
    """Whether ten attempts of `by` at `action` failed in the last five minutes, as `trail.refused` noted.

    Ask before the password is checked, outside a transaction, so that the attempts of others are seen.
    """
    return only_refusals(_refused(by, action))


def refusals(by: Any, action: str, since: datetime) -> int:
    """How often `by` was refused `action` since then."""
    return _refused(by, action).filter(at__gt=since).count()


def _refused(by: Any, action: str) -> QuerySet[Event]:
    actor = Actor.of(by)
    return Event.objects.filter(action=action, actor_kind=actor.kind, actor_id=actor.id, refused=True)


def only_refusals(attempts: QuerySet[Event]) -> bool:
    """Whether the last ten of these attempts were refused, all of them within the last five minutes."""
    recent = attempts.filter(at__gt=timezone.now() - PAUSE).order_by("-id").values_list("refused", flat=True)
    return list(recent[:ATTEMPTS]) == [True] * ATTEMPTS
