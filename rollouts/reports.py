"""A rollout as one JSON object, to keep with a ticket or to send to a colleague: what changed, who, when, why, the
tests, the stages, the log and the evidence. Nothing secret is in any of its rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rollouts.differences import Line, Side
from rollouts.models import Rollout, Step
from rollouts.stages import evidence, result, stages, title


def report(rollout: Rollout, steps: Iterable[Step], lines: Iterable[Line]) -> dict[str, Any]:
    """Times are ISO 8601 in UTC, spans are seconds."""
    steps = list(steps)
    return {
        "rollout": str(rollout.pk),
        "application": rollout.environment.application.slug,
        "environment": rollout.environment.slug,
        "production": rollout.environment.production,
        "title": title(rollout),
        "kind": rollout.kind,
        "state": rollout.state,
        "result": result(rollout).text,
        "sentence": rollout.sentence,
        "failure": rollout.failure,
        "proof": rollout.proof,
        "evidence": evidence(rollout),
        "reason": rollout.reason,
        "ticket": rollout.ticket,
        "requested_by": rollout.requested_by,
        "requested_at": _time(rollout.asked_at),
        "scheduled_for": _time(rollout.due_at),
        "finished_at": _time(rollout.finished_at),
        "down_for": rollout.downtime.total_seconds() if rollout.downtime else None,
        "revision": _revision(rollout.revision),
        "before": _revision(rollout.previous),
        "delivered": rollout.bundle.digest if rollout.bundle else None,
        "changes": [_change(line) for line in lines],
        "connection_tests": [
            {
                "target": test.key,
                "address": test.address,
                "moment": test.moment,
                "verdict": test.verdict,
                "sentence": test.sentence,
                "caution": test.caution,
                "certificate": test.version.sha256 if test.version else None,
                "tested_at": _time(test.tested_at),
                "facts": test.facts,
            }
            for test in rollout.tests.select_related("version").order_by("tested_at")
        ],
        "stages": [
            {"name": stage.name, "state": stage.state, "took": stage.took.total_seconds() if stage.took else None}
            for stage in stages(rollout, steps)
        ],
        "log": [
            {
                "at": _time(step.started_at),
                "ended_at": _time(step.ended_at),
                "text": step.text,
                "outcome": step.outcome,
                "result": step.result,
            }
            for step in steps
        ],
    }


def _revision(revision: Any) -> dict[str, Any] | None:
    return {"number": revision.number, "digest": revision.digest} if revision else None


def _change(line: Line) -> dict[str, Any]:
    return {
        "what": line.change.what,
        "name": line.name,
        "change": line.change.mark,
        "before": _side(line.before),
        "after": _side(line.after),
    }


def _side(side: Side) -> dict[str, Any]:
    version = side.version
    if version is None:
        return {"words": side.words}
    return {"version": version.number, "sha256": version.sha256, "not_after": _time(version.not_after)}


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None
