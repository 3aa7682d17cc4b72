"""Pin a service, host or client certificate identifier to a certificate, or to none."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from audit.actors import Actor
from certificates import actions
from certificates.command_line import EnvironmentCommand
from certificates.management.commands.import_certificate import find_certificate
from certificates.targets import KINDS
from environments.models import Environment


class Command(EnvironmentCommand):
    """Exit 0: pinned. Exit 1: refused, nothing was changed. Exit 2: misuse."""

    help = "Pin a target to a client certificate, or never send one. It runs with the next apply."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("target", metavar="TARGET", help="Module.WebService, api.example.com or an identifier")
        sent = parser.add_mutually_exclusive_group(required=True)
        sent.add_argument("--certificate", metavar="NAME", help="what the target is sent")
        sent.add_argument("--never", action="store_true", help="never send a certificate")
        parser.add_argument(
            "--test-address", default="", metavar="A", help="where its connection is tried, if not at the host itself"
        )
        parser.add_argument(
            "--confirm-warnings", action="store_true", help="in production, with a key that is used outside it, too"
        )
        parser.add_argument("--kind", choices=KINDS, help="recognised by the target where it is left out")

    def perform(self, environment: Environment, options: dict[str, Any], *, by: Actor) -> dict[str, Any]:
        certificate = None if options["never"] else find_certificate(environment, options["certificate"])
        target = actions.read_target(
            environment=environment, text=options["target"], kind=options["kind"], never=certificate is None
        )
        pin = actions.pin(
            environment=environment,
            target=target,
            certificate=certificate,
            test_address=options["test_address"],
            confirmed=options["confirm_warnings"],
            by=by,
        )
        return {
            "environment": options["environment"],
            "kind": pin.kind,
            "key": pin.key,
            "certificate": certificate.name if certificate else None,
            "notes": list(target.notes),
        }

    def sentence(self, done: dict[str, Any]) -> str:
        what = f"is sent {done['certificate']}" if done["certificate"] else "is never sent a certificate"
        return " ".join(
            [f"{done['key']} ({done['kind']}) {what} from the next apply on.", *(f"{n}." for n in done["notes"])]
        )
