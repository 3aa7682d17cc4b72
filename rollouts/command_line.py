"""What commands about an environment share: who runs them, which environment they mean, and how they end."""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.actors import Actor
from environments.models import Environment
from environments.refusals import Refused


@dataclass(frozen=True)
class CommandLineActor(Actor):
    """Whoever runs the server; written beside revisions by name, as people are."""

    def __str__(self) -> str:
        return self.name


def actor() -> CommandLineActor:
    """The account of this machine that runs the command."""
    return CommandLineActor("command", getpass.getuser())


def find_environment(text: str) -> Environment:
    """The living environment that `application/environment` names by its slugs. Raises CommandError (exit 1, or 2)."""
    application, slash, name = text.partition("/")
    if not (application and slash and name) or "/" in name:
        raise CommandError("Name the environment as application/environment, like invoicing/acceptance.", returncode=2)
    environments = Environment.objects.select_related("application")
    found = environments.filter(application__slug=application, slug=name, application__archived_at=None).first()
    if found is None:
        raise CommandError(f"There is no environment {text}; the names are those in its page's address.")
    if found.archived_at is not None:
        raise CommandError(f"{found} is archived; bring it back under Settings before changing it.")
    return found


class EnvironmentCommand(BaseCommand):
    """Exit 0: done. Exit 1: refused or failed, with the reason in a sentence. Exit 2: misuse."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "environment", metavar="application/environment", help="both names as in the page's address"
        )
        parser.add_argument("--reason", required=True, help="why, in a few words; it stands in the audit log")
        parser.add_argument("--json", action="store_true", help="print for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.do(find_environment(options.pop("environment")), **options)
        except (CommandError, Refused) as error:
            if options["json"]:
                self.stdout.write(json.dumps({"refused": str(error)}))
            else:
                self.stderr.write(str(error))
            raise SystemExit(getattr(error, "returncode", 1)) from None

    def do(self, environment: Environment, **options: Any) -> None:
        """The command itself; what it raises as Refused or CommandError is told in one sentence."""
        raise NotImplementedError

    def tell(self, sentence: str, **options: Any) -> None:
        """For people; programs get one JSON object at the end."""
        if not options["json"]:
            self.stdout.write(sentence)
            self.stdout.flush()
