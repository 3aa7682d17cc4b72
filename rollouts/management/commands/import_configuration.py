"""Bring in what runs today, from its configuration and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.views.decorators.debug import sensitive_variables

from audit.actors import Actor
from certificates import actions as certificates
from certificates.command_line import MISUSE, EnvironmentCommand, read_at_most
from certificates.importing import MAX_UNPACKED
from certificates.intake import Upload
from environments.models import Environment
from environments.refusals import Refused
from rollouts import actions


class Command(EnvironmentCommand):
    """Exit 0: all of it came in. Exit 1: refused, nothing came in. Exit 2: misuse."""

    help = "Bring in what runs today: Mendix settings, CLIENT_CERTIFICATES, m2ee.yaml, a MendixApp, or a list (CSV)."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "files", metavar="FILE", type=Path, nargs="+", help="configuration and .pfx files, or a zip"
        )

    @sensitive_variables()
    def perform(self, environment: Environment, options: dict[str, Any], *, by: Actor) -> dict[str, Any]:
        try:
            files = [Upload(str(path), read_at_most(path, MAX_UNPACKED)) for path in options["files"]]
        except OSError as error:
            self.end(f"{error.filename} cannot be read: {error.strerror}.", MISUSE, options)
        known = {options["environment"].lower(): environment, str(environment).replace(" / ", "/").lower(): environment}
        plans = certificates.plan_import(files=files, pasted="", environment=environment, known=known)
        if len(plans) > 1:
            raise Refused("The list names several environments; import it on the page Import what runs today.")
        ((target, plan),) = plans
        done = actions.import_now(environment=target, plan=plan, by=by)
        for remark in plan.remarks:
            self.tell(remark, options)
        return {
            "environment": options["environment"],
            "source": plan.source,
            "certificates": [certificate.name for certificate in done.certificates],
            "pins": done.pins,
            "authorities": done.authorities,
            "remarks": list(plan.remarks),
        }

    def sentence(self, done: dict[str, Any]) -> str:
        return f"Brought in {len(done['certificates'])} certificates and {done['pins']} pins; nothing was restarted."
