"""Signs of life: each worker and the clock leave a row that says when they last did something, and who they are."""

from __future__ import annotations

import logging
import os
import socket
from datetime import timedelta
from typing import Any

from celery import signals
from django.db import Error, IntegrityError, connection, transaction
from django.utils import timezone

from rollouts.models import Pulse

log = logging.getLogger(__name__)

WORKER, CLOCK, SWEEP, TIDY = "worker", "clock", "sweep", "tidy"
# Rows of those who are gone, and did not come back under the same name.
KEPT = timedelta(days=1)

# The worker's own number, which its children inherit; of a program that is no worker, its own.
_whole: dict[str, Any] = {}


@signals.worker_init.connect
@signals.beat_init.connect
def _begin(**_: Any) -> None:
    _whole.update(pid=os.getpid(), since=timezone.now())


def pulse(kind: str) -> None:
    """Notes that this worker (or the clock) lives. One statement, but for the first time."""
    host, pid, now = socket.gethostname()[:64], _whole.get("pid", os.getpid()), timezone.now()
    # Sweeping and tidying are anybody's: one row says when it was last done.
    name = kind if kind in (SWEEP, TIDY) else f"{kind}@{host}:{pid}"
    if Pulse.objects.filter(name=name, at__gte=_whole.get("since", now - KEPT)).update(at=now):
        return
    Pulse.objects.filter(pk__in=_dead(kind, host, pid)).delete()
    values = {"kind": kind, "host": host, "pid": pid, "since": _whole.get("since", now), "at": now}
    try:
        with transaction.atomic():
            Pulse.objects.update_or_create(name=name, defaults=values)
    except IntegrityError:
        pass  # a sibling was faster


def _dead(kind: str, host: str, pid: int) -> list[str]:
    """The rows of those whose place on this machine somebody else has taken: their processes are gone."""
    others = Pulse.objects.filter(kind=kind, host=host).exclude(pid=pid)
    return [row.name for row in others if row.name != row.kind and not _lives(row.pid)]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def tidy() -> None:
    Pulse.objects.filter(at__lt=timezone.now() - KEPT).delete()


@signals.after_task_publish.connect(sender="rollouts.sweep")
def tick(**_: Any) -> None:
    """Only the clock asks for a sweep, so this is it, and the broker has taken what it sent, or is full of it."""
    try:
        pulse(CLOCK)
    except Error as error:
        log.warning("the clock ticks, and cannot note it: %s", error)
    finally:
        connection.close()
