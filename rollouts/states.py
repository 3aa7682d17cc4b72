"""The life of a rollout, as data, checked when it is imported. No Django.

A rollout is in one state; a worker makes the move of that state, and the move ends in one of the states after it.
Every state that is not final has a timeout, so that “hanging for ever” is not a state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    APPLY = "apply"
    ROLL_BACK = "roll-back"
    RESTART = "restart"
    STOP = "stop"
    START = "start"


class Proof(StrEnum):
    """What is known about the configuration that runs, strongest first."""

    REPORTED = "reported"  # the app itself reports the digest of what we delivered
    READ_BACK = "read-back"  # the files were read back, and the app was started after that
    RESTARTED = "restarted"  # restarted with what we delivered
    CONFIRMED = "confirmed"  # restarted after somebody said that they have uploaded it by hand
    DELIVERED = "delivered"  # delivered to a stopped app, which starts with it
    STOPPED = "stopped"  # observed not to run


# The moments around one call to the outside, at each of which a worker may die: the intent is committed before the
# call, the outcome after it.
MOMENTS = ("before-intent", "after-intent", "after-call", "after-outcome")


@dataclass(frozen=True)
class State:
    """`then` are the states that may follow; `overdue` is the one among them that follows `timeout` seconds."""

    name: str
    then: tuple[str, ...] = ()
    overdue: str = ""
    timeout: int = 0
    # The states in which the rollout holds its environment's one place (scheduled, waiting and final ones do not).
    active: bool = True
    # The calls to the outside that its move makes, to the platform or to the vault.
    calls: tuple[str, ...] = ()
    # Whether people take it on from here, and not a worker.
    by_people: bool = False

    @property
    def final(self) -> bool:
        return not self.then


DAY = 24 * 60 * 60

STATES = {
    state.name: state
    for state in (
        # Not a `waiting` with a time: what waits makes way for whatever is asked for later, and begins as soon as it
        # can. Its time is at most thirty days ahead (rollouts.due), and it is not begun much later (rollouts.actions).
        State("scheduled", ("requested", "cancelled"), "cancelled", 31 * DAY, active=False),
        State("waiting", ("requested", "cancelled"), "cancelled", 7 * DAY, active=False),
        State(
            "requested",
            ("exporting", "stopping", "starting", "refused", "cancelled"),
            "cancelled",
            DAY,
            calls=("observe",),
        ),
        State("exporting", ("checking", "refused"), "refused", 600, calls=("export",)),
        State("checking", ("delivering", "refused"), "refused", 600, calls=("open", "check", "test")),
        State(
            "delivering",
            ("refused", "handing_over", "stopping", "starting", "verifying", "verified", "rolling_back"),
            "rolling_back",
            600,
            calls=("deliver",),
        ),
        # A platform that takes files from nobody but people; until they say that they have done it, nothing changes.
        State(
            "handing_over",
            ("stopping", "starting", "verified", "refused", "cancelled"),
            "refused",
            DAY,
            by_people=True,
        ),
        # The start that follows our own stop belongs to the same move.
        State(
            "stopping",
            ("starting", "verifying", "verified", "refused", "rolling_back"),
            "rolling_back",
            600,
            calls=("stop", "start"),
        ),
        State("starting", ("verifying", "rolling_back"), "rolling_back", 600, calls=("start",)),
        State("verifying", ("verified", "rolling_back"), "rolling_back", 120, calls=("observe", "test")),
        State(
            "rolling_back",
            ("rolled_back", "needs_help"),
            "needs_help",
            900,
            calls=("deliver", "stop", "start", "observe", "test"),
        ),
        State("verified", active=False),
        State("refused", active=False),
        State("rolled_back", active=False),
        State("needs_help", active=False),
        State("cancelled", active=False),
    )
}

ACTIVE = tuple(name for name, state in STATES.items() if state.active)
FINAL = tuple(name for name, state in STATES.items() if state.final)
# Only here can a person still take it back: nothing outside has been touched, and no move has been made.
CANCELLABLE = ("scheduled", "waiting", "requested")

# The stages that the page shows, by kind, in order; going back is shown below them when it happens.
STAGES: dict[str, tuple[str, ...]] = {
    Kind.APPLY: (
        "requested",
        "exporting",
        "checking",
        "delivering",
        "handing_over",
        "stopping",
        "starting",
        "verifying",
    ),
    Kind.ROLL_BACK: (
        "requested",
        "exporting",
        "checking",
        "delivering",
        "handing_over",
        "stopping",
        "starting",
        "verifying",
    ),
    Kind.RESTART: ("requested", "stopping", "starting", "verifying"),
    Kind.START: ("requested", "starting", "verifying"),
    Kind.STOP: ("requested", "stopping"),
}

# How the going back proceeds, inside the one state `rolling_back`, so that each step resumes by itself.
PHASES = ("deliver", "stop", "start", "verify")


@dataclass(frozen=True)
class KillPoint:
    """One boundary of one move: where a worker may die, and the rollout must end well all the same."""

    state: str
    call: str
    moment: str

    def __str__(self) -> str:
        return f"{self.state}.{self.call}.{self.moment}"


def kill_points(states: dict[str, State]) -> tuple[KillPoint, ...]:
    """All of them, in the order of the states: a new state, or a new call of one, brings its own along."""
    return tuple(
        KillPoint(state.name, call, moment) for state in states.values() for call in state.calls for moment in MOMENTS
    )


def check(states: dict[str, State]) -> None:
    """Raises ValueError for a state that is unknown, cannot be reached, cannot end, could hang, or does nothing."""
    for state in states.values():
        if state.active != (bool(state.calls) or state.by_people):
            raise ValueError(f"{state.name} must name the calls of its move, if it has one")
        if unknown := set(state.then) - set(states):
            raise ValueError(f"{state.name} leads to unknown states: {unknown}")
        if not state.final and (state.timeout <= 0 or state.overdue not in state.then):
            raise ValueError(f"{state.name} could hang for ever")
    reached = {"scheduled", "waiting", "requested"}
    while grown := {after for name in reached for after in states[name].then} - reached:
        reached |= grown
    if missing := set(states) - reached:
        raise ValueError(f"nothing leads to {missing}")
    ends = {name for name, state in states.items() if state.final}
    while grown := {name for name, state in states.items() if name not in ends and set(state.then) & ends}:
        ends |= grown
    if endless := set(states) - ends:
        raise ValueError(f"no end can be reached from {endless}")


check(STATES)
