"""Telling a worker that there is something to do."""

from __future__ import annotations

import contextvars
import logging
import threading
from uuid import UUID

from celery import current_app

log = logging.getLogger(__name__)

# Seconds that a person waits for a queue that does not answer.
NUDGE_LIMIT = 1.5


def nudge(rollout_id: UUID, after: float = 0) -> None:
    """Tells a worker that there is something to do `after` as many seconds. The queue may be down, or hang: the sweep
    says it again."""
    # A thread, because a name that does not resolve or a peer that stands still keeps to no client's time limit. With
    # this thread's context, so that the worker's lines bear the number of the request that asks.
    telling = threading.Thread(target=contextvars.copy_context().run, args=(_tell, rollout_id, after), daemon=True)
    telling.start()
    telling.join(NUDGE_LIMIT)


def _tell(rollout_id: UUID, after: float) -> None:
    try:
        current_app.send_task("rollouts.advance", args=[str(rollout_id)], countdown=after or None, ignore_result=True)
    except Exception:
        log.warning("rollout %s: the queue did not take the nudge; the sweep will repeat it", rollout_id, exc_info=True)
