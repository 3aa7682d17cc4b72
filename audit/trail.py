"""The one way to write the audit log."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from audit.actors import Actor
from audit.models import Event

BODY_FORMAT = 1


def record(action: str, *, by: Any, subject: Any, refused: bool = False, **details: Any) -> Event:
    """Records an event as the last statement of the action's transaction.

    `action` is `noun.verbed`. `subject` is a model instance; an `environment` or `application` it belongs to is found
    on it. `details` are values that JSON can express, never secrets; dates become ISO 8601 text. Raises
    RuntimeError outside a transaction, because an event must stand or fall with what it tells of.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError(f"{action} was to be recorded outside a transaction")
    actor = Actor.of(by)
    environment = _of(subject, "environment")
    application = _of(subject, "application") or getattr(environment, "application", None)
    at = timezone.now()
    columns = {
        "action": action,
        "actor": actor.name,
        "actor_kind": actor.kind,
        "actor_id": actor.id,
        "subject": str(subject)[:250],
        "subject_kind": subject._meta.model_name,
        "subject_id": str(subject.pk),
        "application_id": str(application.pk) if application is not None else "",
        "environment_id": str(environment.pk) if environment is not None else "",
        "refused": refused,
    }
    body = {"format": BODY_FORMAT, "at": at, "address": actor.address, **columns, "details": details}
    return Event.objects.create(at=at, body=canonical(body), **columns)


def refused(action: str, *, by: Any, subject: Any, **details: Any) -> None:
    """Records an attempt that was refused, in a transaction of its own that stands whatever happens to the request."""
    with transaction.atomic():
        record(action, by=by, subject=subject, refused=True, **details)


def canonical(body: dict[str, Any]) -> str:
    """Sorted keys, compact, UTF-8: the same event is always the same bytes."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_expressed)


def _expressed(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value)


def _of(subject: Any, kind: str) -> Any:
    return subject if subject._meta.model_name == kind else getattr(subject, kind, None)
