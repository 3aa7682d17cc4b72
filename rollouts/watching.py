"""What is seen of an app, and what it proves."""

from __future__ import annotations

import time
from typing import Any

from django.utils import timezone

from rollouts.connectors import Connector, Observation
from rollouts.holding import connector, hold
from rollouts.models import Destination, Rollout
from rollouts.states import Kind, Proof

# One move waits this many seconds for the app to come up before it gives the rollout back, to be nudged again.
WATCH = 10.0
POLL = 0.4

PROVED = {
    Proof.REPORTED: "the app itself reports the digest of what was delivered",
    Proof.READ_BACK: "restarted or reloaded after the delivery, and the files read back as delivered",
    Proof.RESTARTED: "restarted",
}


def watch(rollout: Rollout, before: str, expected: str | None) -> tuple[Observation, Proof | None]:
    """Polls for WATCH seconds. A proof needs two looks in a row that agree, so that a crash loop is not a success."""
    app, until = connector(rollout), time.monotonic() + WATCH
    last: Observation | None = None
    while True:
        seen = app.observe()
        note(rollout, seen)
        proof = _proof(app, seen, before, expected, rollout)
        if last is not None and last.incarnation == seen.incarnation:
            if proof is not None:
                return seen, proof
            if seen.status == "stopped" or contradicts(rollout, seen, before, expected):
                return seen, None
        last = seen
        if time.monotonic() > until:
            return seen, None
        hold(rollout)
        time.sleep(POLL)


def _proof(app: Connector, seen: Observation, before: str, expected: str | None, rollout: Rollout) -> Proof | None:
    if seen.status != "running" or not seen.incarnation:
        return None
    if seen.incarnation == before and not (rollout.kind == Kind.START and expected and seen.digest == expected):
        return None
    if expected is None:
        return Proof.RESTARTED
    if seen.digest is not None:
        return Proof.REPORTED if seen.digest == expected else None
    return Proof.READ_BACK if app.delivered_digest() == expected else None


def contradicts(rollout: Rollout, seen: Observation, before: str, expected: str | None) -> bool:
    """A new start of the app that runs with something else: more waiting would not change it."""
    if seen.status != "running" or not seen.incarnation or seen.incarnation == before or expected is None:
        return False
    return (seen.digest or connector(rollout).delivered_digest()) != expected


def why_not_verified(seen: Observation, expected: str | None) -> str:
    if seen.status == "running" and expected and seen.digest is not None and seen.digest != expected:
        return (
            f"The app runs, but reports the configuration {seen.digest[:12]} "
            f"instead of {expected[:12]}, which was delivered."
        )
    if seen.status == "running" and expected and seen.digest is None:
        return "The app runs, but the files there are not those that were delivered, or it was not restarted."
    if seen.status == "running":
        return "The app runs, but was not restarted."
    return f"The app did not come up in time; it was last seen {seen.status}. {seen.note}".strip()


def note(rollout: Rollout, seen: Observation) -> None:
    note_observation(rollout.environment.destination, seen)


def note_observation(destination: Destination, seen: Observation) -> None:
    """Keeps what was seen, for the pages; `running_since` changes with the incarnation."""
    now = timezone.now()
    values: dict[str, Any] = {
        "observed_at": now,
        "observed_status": seen.status,
        "observed_incarnation": seen.incarnation,
        "observed_digest": seen.digest or "",
        "observed_note": seen.note[:1000],
    }
    if seen.incarnation != destination.observed_incarnation:
        values["running_since"] = now if seen.incarnation else None
    Destination.objects.filter(pk=destination.pk).update(**values)
    for name, value in values.items():
        setattr(destination, name, value)
