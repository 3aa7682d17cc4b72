"""What is seen of an app, and what it proves."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Q
from django.utils import timezone

from rollouts import unseal
from rollouts.connectors import Connector, Observation
from rollouts.holding import connector, hold
from rollouts.models import Destination, Rollout
from rollouts.states import Kind, Proof

# Seconds between two looks that have to agree, and between two moves that look: no worker sits in a restart, so that
# two of them can watch a hundred apps come up.
POLL = 0.4
SOONEST, LATEST = 0.3, 3.0

PROVED = {
    Proof.REPORTED: "the app itself reports the digest of what was delivered",
    Proof.READ_BACK: "restarted or reloaded after the delivery, and the files read back as delivered",
    Proof.RESTARTED: "restarted",
    Proof.CONFIRMED: "restarted after it was uploaded by hand",
}


class Look(NamedTuple):
    """`proof` is None while there is none; `wrong`: more waiting would not change it."""

    seen: Observation
    proof: Proof | None = None
    wrong: bool = False


def look(rollout: Rollout, before: str, expected: str | None) -> Look:
    """A proof, or that there will be none, needs two looks in a row that agree: a crash loop is no success, and an app
    that is just being started anew no failure."""
    app = connector(rollout)
    first = _judged(rollout, app, before, expected)
    if first.proof is None and not first.wrong:
        return first
    hold(rollout)
    time.sleep(POLL)
    second = _judged(rollout, app, before, expected)
    return second if second.seen.incarnation == first.seen.incarnation else Look(second.seen)


def _judged(rollout: Rollout, app: Connector, before: str, expected: str | None) -> Look:
    seen = app.observe()
    note(rollout, seen)
    proof = _proof(app, seen, before, expected, rollout)
    told = None if rollout.environment.destination.able.hands_over else expected
    wrong = proof is None and (seen.status == "stopped" or contradicts(app, seen, before, told))
    return Look(seen, proof, wrong)


def look_again_in(rollout: Rollout) -> float:
    """Seconds until the next look: often at first, since most apps are back at once."""
    passed = (timezone.now() - rollout.state_since).total_seconds()
    return min(LATEST, max(SOONEST, passed / 8))


def _proof(app: Connector, seen: Observation, before: str, expected: str | None, rollout: Rollout) -> Proof | None:
    if seen.status != "running" or not seen.incarnation:
        return None
    if seen.incarnation == before and not (rollout.kind == Kind.START and expected and seen.digest == expected):
        return None
    if expected is None:
        return Proof.RESTARTED
    destination = rollout.environment.destination
    if destination.able.hands_over:
        # Nobody can read it back: what was confirmed once is what every later start runs with.
        confirmed = destination.proof in (Proof.CONFIRMED, Proof.DELIVERED)
        return Proof.CONFIRMED if confirmed or rollout.kind in (Kind.APPLY, Kind.ROLL_BACK) else Proof.RESTARTED
    if seen.digest is not None:
        return Proof.REPORTED if seen.digest == expected else None
    return Proof.READ_BACK if app.delivered_digest() == expected else None


def contradicts(app: Connector, seen: Observation, before: str, expected: str | None) -> bool:
    """A new start of the app that runs with something else: more waiting would not change it."""
    if seen.status != "running" or not seen.incarnation or seen.incarnation == before or expected is None:
        return False
    return (seen.digest or app.delivered_digest()) != expected


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


def glance(destination: Destination, *, unread_for: timedelta = timedelta(0)) -> tuple[Observation, str | None]:
    """What the app says where nothing is under way, and the digest of the files that lie there, unless they were read
    less than `unread_for` ago: of an app that does not report what it loaded, they are all that tells of a change by
    others.

    Raises ConnectorError, VaultError, ReadBackError.
    """
    app = unseal.connected(destination)
    seen = app.observe()
    if seen.digest is not None or seen.status != "running" or destination.bundle is None or destination.able.hands_over:
        return seen, None
    read_at = destination.files_read_at
    if read_at and unread_for and timezone.now() - read_at < unread_for:
        return seen, None
    return seen, app.delivered_digest()


def unreachable(destination: Destination, note: str) -> Observation:
    """An app that could not be looked at; nothing says that another start of it runs now."""
    return Observation("unreachable", destination.observed_incarnation, None, note)


def note(rollout: Rollout, seen: Observation) -> None:
    note_observation(rollout.environment.destination, seen)


def note_observation(
    destination: Destination, seen: Observation, files: str | None = None, *, began: datetime | None = None
) -> bool:
    """Keeps what was seen, for the pages; `running_since` changes with the incarnation. `files` is the digest of what
    lies there, where it was read. `began`: when the look began; False where somebody has looked since then, whose look
    is kept instead."""
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
    if files is not None:
        values |= {"observed_files": files, "files_read_at": now}
    for name, value in values.items():
        setattr(destination, name, value)
    destination.away_since = (destination.away_since or now) if destination.is_away else None
    destination.drifted_since = (destination.drifted_since or now) if destination.has_drifted else None
    where = Destination.objects.filter(pk=destination.pk)
    if began is not None:
        where = where.filter(Q(observed_at=None) | Q(observed_at__lte=began))
    updated = where.update(**values, away_since=destination.away_since, drifted_since=destination.drifted_since)
    return bool(updated)
