"""`python -m tests.year.process worker|beat`: the product's own worker and clock, whose minutes are short."""

from __future__ import annotations

import os
import sys

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.year.settings"

import django

django.setup()

from portal.celery import app

app.loader.import_default_modules()
app.conf.beat_schedule = {
    name: {"task": task, "schedule": seconds, "options": {"expires": 5.0}}
    for name, task, seconds in (("watch", "notices.watch", 0.08), ("send", "notices.send", 0.08))
}
app.conf.beat_max_loop_interval = 0.04
app.finalize()
words = {
    "worker": ["worker", "--pool", "threads", "--concurrency", "2", "--loglevel", "WARNING", "--without-gossip",
               "--without-mingle", "--without-heartbeat"],
    "beat": ["beat", "--loglevel", "WARNING", "--schedule", f"{os.environ['YEAR_WORLD']}/schedule"],
}  # fmt: skip
app.start(argv=words[sys.argv[1]])
