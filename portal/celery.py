"""The Celery app: what carries a rollout's moves to the worker, and the clock that sweeps up what got lost.

Its settings are those of `portal.settings` that begin with CELERY_.
"""

from __future__ import annotations

import os

from celery import Celery

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

# A tick that waited longer than the next one is due has nothing to add.
app.conf.beat_schedule = {
    "sweep": {"task": "rollouts.sweep", "schedule": 3.0, "options": {"expires": 3.0}},
    "tidy": {"task": "rollouts.tidy", "schedule": 600.0, "options": {"expires": 600.0}},
}
