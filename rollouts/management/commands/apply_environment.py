"""Apply what an environment should run, and wait for its end."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser

from audit.actors import Actor
from certificates.command_line import MISUSE, REFUSED, EnvironmentCommand
from environments.models import Environment
from rollouts import actions, due
from rollouts.models import Rollout, Step
from rollouts.stages import evidence
from rollouts.standing import worker_is_silent

LOOK_EVERY = 0.3


class Command(EnvironmentCommand):
    """Exit 0: asked for, or, with --wait, verified. Exit 1: refused, or ended otherwise. Exit 2: misuse."""

    help = "Apply the changes of an environment and restart its app, as the button on its page does."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", required=True, help="why, in a few words; it stands beside the revision")
        parser.add_argument("--ticket", default="", help="stands beside the revision")
        parser.add_argument("--start", action="store_true", help="start a stopped app with it")
        parser.add_argument("--insist", action="store_true", help="apply a configuration that failed before")
        parser.add_argument("--despite-tests", action="store_true", help="go on even if a connection is refused")
        parser.add_argument("--at", default="", help="schedule it: “2026-12-05 21:00” in this server's time zone")
        parser.add_argument("--replace", action="store_true", help="with --at: in the place of what is scheduled")
        parser.add_argument("--wait", action="store_true", help="print the steps as they come, until the end")

    def perform(self, environment: Environment, options: dict[str, Any], *, by: Actor) -> dict[str, Any]:
        if options["wait"] and options["at"]:
            self.end("Use --wait without --at: what is scheduled is followed on its page.", MISUSE, options)
        wanted, _changes = actions.pending(environment)
        before = actions.scheduled_rollout(environment)
        rollout = actions.apply(
            environment=environment,
            shown=wanted.digest,
            reason=options["reason"],
            ticket=options["ticket"],
            start=True if options["start"] else None,
            insist=options["insist"],
            despite_tests=options["despite_tests"],
            due_at=due.read(options["at"]) if options["at"] else None,
            replace=options["replace"],
            by=by,
        )
        assert rollout.revision is not None
        self.tell(f"Revision {rollout.revision.number} of {environment}: {rollout.get_absolute_url()}", options)
        if before is not None and before.revision is not None:
            self.tell(f"It takes the place of revision {before.revision.number}, which was scheduled.", options)
        if not options["wait"]:
            return as_json(rollout)
        rollout = self.wait(rollout, options)
        if rollout.state != "verified":
            reason = " ".join(filter(None, (rollout.failure, rollout.sentence)))
            self.end(reason, REFUSED, options, as_json(rollout))
        return as_json(rollout)

    def sentence(self, done: dict[str, Any]) -> str:
        if done["due_at"]:
            return f"Scheduled for {due.said(datetime.fromisoformat(done['due_at']))}; move or cancel it on its page."
        return " ".join(filter(None, (done["sentence"], done["evidence"]))) or "Asked for; follow it on its page."

    def wait(self, rollout: Rollout, options: dict[str, Any]) -> Rollout:
        """Looks at the row until the rollout has ended; its states have timeouts, so it ends."""
        told, said_silent, asked = 0, False, time.monotonic()
        while True:
            rollout = Rollout.objects.select_related("revision", "previous", "environment__application").get(
                pk=rollout.pk
            )
            # An outcome is added to its step later, so a step is told once it has one.
            for step in rollout.steps.filter(pk__gt=told):
                if not step.outcome and not rollout.is_final:
                    break
                told = step.pk
                self.tell(as_line(step), options)
            if rollout.is_final:
                break
            if not said_silent and rollout.state == "requested" and time.monotonic() - asked > 3 and worker_is_silent():
                said_silent = True
                self.stderr.write("It waits for a worker, and runs as soon as one comes.")
            time.sleep(LOOK_EVERY)
        return rollout


def as_line(step: Step) -> str:
    """“09:41:05 Deliver 6 files: switched at once, and read back (ok)”."""
    result = f": {step.result}" if step.result else ""
    return f"{step.started_at:%H:%M:%S} {step.text}{result} ({step.outcome or 'interrupted'})"


def as_json(rollout: Rollout) -> dict[str, Any]:
    return {
        "rollout": str(rollout.pk),
        "revision": rollout.revision.number if rollout.revision else None,
        "state": rollout.state,
        "due_at": rollout.due_at.isoformat() if rollout.due_at else None,
        "proof": rollout.proof,
        "failure": rollout.failure,
        "sentence": rollout.sentence,
        "evidence": evidence(rollout),
    }
