"""What the owners' page says, for terminals and for the health checks of programs that serve no pages."""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from portal.health.parts import GOOD, NOT_READY, WRONG, here_works, parts

STATES = {NOT_READY: "not ready", WRONG: "look at it", GOOD: "ok"}


class Command(BaseCommand):
    """Exit 0: ready, or the parts asked for are ok. Exit 1: not. Exit 2: there is no such part."""

    help = "Say how each part is. With names (worker, clock, …), whether exactly these are ok."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("parts", nargs="*", help="the parts that have to be ok; without any, those a page needs")
        parser.add_argument("--here", action="store_true", help="count only workers and clocks of this machine")
        parser.add_argument("--json", action="store_true", dest="as_json")

    def handle(self, *args: Any, **options: Any) -> None:
        found = {part.key: part for part in parts(started=None)}
        wanted = options["parts"]
        if unknown := sorted(set(wanted) - set(found)):
            self.stderr.write(f"There is no part {', '.join(unknown)}; name some of {', '.join(found)}.")
            sys.exit(2)
        ranks = {key: part.rank for key, part in found.items()}
        if options["here"]:
            ranks |= {key: GOOD if here_works(key, socket.gethostname()) else WRONG for key in ("worker", "clock")}
        ready = all(rank != NOT_READY for rank in ranks.values())
        if options["as_json"]:
            told = {key: {"state": STATES[ranks[key]], "sentence": part.sentence} for key, part in found.items()}
            self.stdout.write(json.dumps({"ready": ready, "parts": told}))
        else:
            for key, part in found.items():
                if not wanted or key in wanted:
                    self.stdout.write(f"{STATES[ranks[key]]:>10}  {part.name}: {part.sentence} {part.to_do}".rstrip())
        if not (all(ranks[key] == GOOD for key in wanted) if wanted else ready):
            sys.exit(1)
