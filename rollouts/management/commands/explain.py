"""Say which certificate is sent to a service or host, and why."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from audit.actors import Actor
from certificates.command_line import MISUSE, EnvironmentCommand
from certificates.listing import neutral
from environments.models import Environment
from environments.refusals import Refused
from rollouts import lookup
from rollouts.lookup import Answer, Presented


class Command(EnvironmentCommand):
    """Exit 0: answered. Exit 1: refused. Exit 2: misuse."""

    help = "Say which certificate is sent to each target: with the next apply, or in what runs, or in a revision."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("targets", metavar="TARGET", nargs="*", help="an address, a host, a service, an identifier")
        parser.add_argument("--file", type=Path, metavar="F", help="a file with one target a line")
        parser.add_argument("--csv", action="store_true", help="print a table for a spreadsheet")
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
        texts = [*options["targets"], *self._lines(options)]
        if not texts:
            self.end("Name at least one target, or a file with --file F.", MISUSE, options)
        targets = [lookup.read(text) for text in texts]
        return {
            "environment": options["environment"],
            "configuration": asked.title,
            "answers": [_told(asked.answer(target)) for target in targets],
        }

    def _lines(self, options: dict[str, Any]) -> list[str]:
        if options["file"] is None:
            return []
        try:
            text = options["file"].read_text(encoding="utf-8-sig")
        except (OSError, UnicodeError) as error:
            self.end(f"{options['file']} cannot be read: {error}.", MISUSE, options)
        return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]

    def handle(self, *args: Any, **options: Any) -> None:
        if options["csv"] and options["json"]:
            self.end("Choose --csv or --json.", MISUSE, options)
        self._as_csv = options["csv"]
        super().handle(*args, **options)

    def sentence(self, done: dict[str, Any]) -> str:
        if self._as_csv:
            return as_csv(done["answers"])
        return "\n".join([f"{done['configuration']}:", *(answer["sentence"] for answer in done["answers"])])


def as_csv(answers: list[dict[str, Any]]) -> str:
    """A line for each target; what a spreadsheet would take for a formula is one no more."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["target", "kind", "rule", "certificate", "sha256", "expires", "may be sent", "why"])
    for one in answers:
        sent = one["certificate"] or {}
        others = "; ".join(other["name"] for other in one["may_be_sent"])
        row = [one["target"], one["kind"], one["rule"], sent.get("name", ""), sent.get("sha256", "")]
        table.writerow([neutral(cell) for cell in (*row, sent.get("not_after", "")[:10], others, one["sentence"])])
    return text.getvalue().rstrip("\n")


def _told(answer: Answer) -> dict[str, Any]:
    presented = answer.presented
    return {
        "target": answer.target.key,
        "kind": answer.target.kind,
        "rule": answer.selection.rule,
        "certificate": _certificate(presented) if presented else None,
        "may_be_sent": [_certificate(one) for one in answer.others],
        "not_sent": [{"name": one.certificate.name, "why": why} for one, why in answer.lost],
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
