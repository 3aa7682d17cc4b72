"""Say which certificate is sent to a service or host, and why."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from audit.actors import Actor
from certificates.command_line import EnvironmentCommand
from environments.models import Environment
from environments.refusals import Refused
from rollouts import lookup
from rollouts.lookup import Answer, Presented


class Command(EnvironmentCommand):
    """Exit 0: answered. Exit 1: refused. Exit 2: misuse."""

    help = "Say which certificate is sent to each target: with the next apply, or in what runs, or in a revision."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("targets", metavar="TARGET", nargs="+", help="an address, a host, a service, an identifier")
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--pending", action="store_true", help="what goes with the next apply (the default)")
        which.add_argument("--running", action="store_true", help="what runs")
        which.add_argument("--revision", type=int, metavar="N", help="an earlier configuration")

    def perform(self, environment: Environment, options: dict[str, Any], *, by: Actor) -> dict[str, Any]:
        if options["revision"] is not None:
            asked = lookup.revision(environment, options["revision"])
        elif options["running"]:
            found = lookup.running(environment)
            if found is None:
                raise Refused("Nothing was applied here yet; ask with --pending.")
            asked = found
        else:
            asked = lookup.pending(environment)
        targets = [lookup.read(text) for text in options["targets"]]
        return {
            "environment": options["environment"],
            "configuration": asked.title,
            "answers": [_told(asked.answer(target)) for target in targets],
        }

    def sentence(self, done: dict[str, Any]) -> str:
        return "\n".join([f"{done['configuration']}:", *(answer["sentence"] for answer in done["answers"])])


def _told(answer: Answer) -> dict[str, Any]:
    presented = answer.presented
    return {
        "target": answer.target.key,
        "kind": answer.target.kind,
        "rule": answer.selection.rule,
        "certificate": _certificate(presented) if presented else None,
        "may_be_sent": [_certificate(one) for one in answer.others],
        "sentence": answer.selection.sentence,
    }


def _certificate(one: Presented) -> dict[str, Any]:
    version = one.version
    return {
        "name": one.certificate.name,
        "slug": one.certificate.slug,
        "version": version.number,
        "sha256": version.sha256,
        "not_after": version.not_after.isoformat(),
    }
