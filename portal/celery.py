"""The Celery app: what carries a rollout's moves to the worker, and the clock that sweeps up what got lost.

Its settings are those of `portal.settings` that begin with CELERY_.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.beat import PersistentScheduler, ScheduleEntry
from kombu.entity import Exchange, Queue

from portal import file_queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
file_queue.register()

app = Celery("countersign")
# For every thread, not only the one that imports this: `shared_task` looks its app up where it is called.
app.set_default()
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# Broadcasts to workers: nothing here sends any, and files do not carry them.
app.conf.worker_enable_remote_control = False
# Taken is done with: what a dead worker left is brought back by the sweep, not by the queue. Were messages acknowledged
# after a move, each move that a restart of Redis falls into would cost the worker one of its places for good, until it
# stands still with the last one.
app.conf.task_queues = [Queue("celery", Exchange("celery"), routing_key="celery", no_ack=True)]
app.conf.beat_scheduler = "portal.celery:Clock"

# A tick that waited longer than the next one is due has nothing to add.
app.conf.beat_schedule = {
    "sweep": {"task": "rollouts.sweep", "schedule": 3.0, "options": {"expires": 3.0}},
    "tidy": {"task": "rollouts.tidy", "schedule": 600.0, "options": {"expires": 600.0}},
    "watch": {"task": "notices.watch", "schedule": 60.0, "options": {"expires": 60.0}},
    "send": {"task": "notices.send", "schedule": 30.0, "options": {"expires": 30.0}},
}
# While no worker empties the queue, this many messages are enough to find in it.
LONGEST_QUEUE = 100


class Clock(PersistentScheduler):
    """Celery's clock, which adds nothing to a queue that nobody empties: a weekend without a worker must not fill the
    broker. Two clocks at once do no harm either, only twice the ticks."""

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        if _waiting() < LONGEST_QUEUE:
            super().apply_entry(entry, producer)
        else:
            from rollouts import pulses  # needs Django's apps, which are ready by now

            pulses.tick()


def _waiting() -> int:
    """How many messages lie in the queue; 0 where the broker does not say, which is for publishing to find out."""
    try:
        with app.connection_for_write() as connection, connection.channel() as channel:
            return int(channel.queue_declare(app.conf.task_default_queue, passive=True).message_count)
    except Exception:  # each broker has its own family, also for a queue that nobody has used yet
        return 0
