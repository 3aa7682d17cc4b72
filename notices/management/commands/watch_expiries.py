"""`manage.py watch_expiries`: makes the look that is due now, whoever made it already, and sends what is to be told."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from notices import sending, telling, watching
from notices.models import Message


class Command(BaseCommand):
    help = (
        "Looks at what expires, now, and sends what there is to tell. Workers do it four times a day; this is for"
        " whoever cannot wait. Exit 0: done; 1: something could not be read or sent."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        look = watching.begin_anew(now)
        watching.look(look, now)
        look.crossed += watching.look_ahead(now)
        watching.end(look, telling.tell(now))
        sent = 0
        while some := sending.send_due(now):
            sent += some
        waits = Message.objects.filter(state__in=("waiting", "sending")).count()
        done = {"checked": look.checked, "unreadable": look.unreadable, "crossed": look.crossed}
        done |= {"sent": sent, "waits": waits}
        if options["json"]:
            self.stdout.write(json.dumps(done))
        else:
            self.stdout.write(
                f"{look.checked} checked, {look.unreadable} unreadable, {look.crossed} new; "
                f"{sent} sent, {waits} waiting to be sent."
            )
        if look.unreadable or waits:
            raise SystemExit(1)
