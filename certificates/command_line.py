"""What commands on one environment share: how it is named, how they print, and their exit codes."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser

from audit.actors import Actor
from certificates.diagnosis import Refusal
from environments.models import Environment
from environments.refusals import Refused
from vault.errors import VaultError

REFUSED, MISUSE = 1, 2


class EnvironmentCommand(BaseCommand):
    """Exit 0: done. Exit 1: refused or found broken, with the reason in a sentence. Exit 2: misuse.

    A subclass has `perform`, which returns what `--json` prints, and says the rest itself on stdout.
    """

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("environment", metavar="application/environment", help="as in the address of its pages")
        parser.add_argument("--json", action="store_true", help="print for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        environment = self._find(options["environment"], options)
        try:
            done = self.perform(environment, options, by=Actor("command", _who()))
        except (Refused, Refusal, VaultError) as error:
            self.end(str(error), REFUSED, options)
        if options["json"]:
            self.stdout.write(json.dumps({"done": True, **done}))
        else:
            self.stdout.write(self.sentence(done))

    def perform(self, environment: Environment, options: dict[str, Any], *, by: Actor) -> dict[str, Any]:
        """Does it. Raises Refused or Refusal."""
        raise NotImplementedError

    def sentence(self, done: dict[str, Any]) -> str:
        """What a person reads, from what `perform` returned."""
        raise NotImplementedError

    def tell(self, sentence: str, options: dict[str, Any]) -> None:
        """Something on the way, for people; programs get one JSON object at the end."""
        if not options["json"]:
            self.stdout.write(sentence)
            self.stdout.flush()

    def end(self, sentence: str, code: int, options: dict[str, Any], more: Any = ()) -> NoReturn:
        if options["json"]:
            self.stdout.write(json.dumps({"done": False, "reason": sentence, **dict(more)}))
        else:
            self.stderr.write(sentence)
        raise SystemExit(code)

    def _find(self, path: str, options: dict[str, Any]) -> Environment:
        application, slash, name = path.partition("/")
        if not slash or not application or not name or "/" in name:
            self.end(
                "Name the environment as application/environment, as in the address of its pages.", MISUSE, options
            )
        found = (
            Environment.objects.select_related("application")
            .filter(application__slug=application, slug=name, application__archived_at=None)
            .first()
        )
        if found is None:
            self.end(f"There is no environment {path}; look at the address of its pages.", REFUSED, options)
        if found.archived_at is not None:
            self.end(f"{found} is archived; bring it back under Settings before changing it.", REFUSED, options)
        return found


def read_secret(source: str) -> str:
    """The first line of a file, or of the standard input for `-`. Raises OSError or UnicodeError."""
    if source == "-":
        return sys.stdin.readline().rstrip("\r\n")
    with Path(source).open(encoding="utf-8", newline="") as file:
        return file.readline().rstrip("\r\n")


def read_at_most(path: Path, limit: int) -> bytes:
    with path.open("rb") as opened:
        return opened.read(limit)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container may run under a number that has no name
