"""Test the connections that pins are for."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from audit.actors import Actor
from certificates.command_line import REFUSED, EnvironmentCommand
from certificates.models import Pin
from environments.models import Environment
from environments.refusals import Refused
from rollouts import actions, connections


class Command(EnvironmentCommand):
    """Exit 0: nobody turned us away. Exit 1: refused, or a connection was. Exit 2: misuse."""

    help = "Try the connection to each pinned target, with the certificate that it would be sent."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("targets", metavar="TARGET", nargs="*", help="pinned keys; all pins where none is named")

    def perform(self, environment: Environment, options: dict[str, Any], *, by: Actor) -> dict[str, Any]:
        pins = self._pins(environment, options["targets"])
        tests = [actions.test_connection(pin=pin, by=by) for pin in pins]
        self.turned_away = any(test.verdict in connections.IN_THE_WAY for test in tests)
        return {
            "environment": options["environment"],
            "tests": [
                {
                    "key": test.key,
                    "address": test.address,
                    "verdict": test.verdict,
                    "sentence": test.sentence,
                    "caution": test.caution,
                    "facts": test.facts,
                }
                for test in tests
            ],
        }

    def _pins(self, environment: Environment, keys: list[str]) -> list[Pin]:
        listed = environment.pins.select_related("certificate__in_use__sealed")
        if not keys:
            return list(listed.exclude(certificate=None).exclude(certificate__enabled=False))
        pins = {pin.key: pin for pin in listed.filter(key__in=keys)}
        if missing := [key for key in keys if key not in pins]:
            raise Refused(f"{missing[0]} is not pinned here; pin it first, or name another one.")
        return [pins[key] for key in keys]

    def handle(self, *args: Any, **options: Any) -> None:
        self.turned_away = False
        super().handle(*args, **options)
        if self.turned_away:
            raise SystemExit(REFUSED)

    def sentence(self, done: dict[str, Any]) -> str:
        if not done["tests"]:
            return "There is no pin to test here."
        width = max(len(test["key"]) for test in done["tests"])
        return "\n".join(
            f"{test['key']:{width}}  {test['verdict']:11}  {test['sentence']} {test['caution']}".rstrip()
            for test in done["tests"]
        )
