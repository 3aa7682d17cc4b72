"""A rollout as its page tells it: the stages with their true results and durations, the result, and the evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rollouts import due
from rollouts.connectors import Abilities
from rollouts.models import Revision, Rollout, Step
from rollouts.standing import Chip
from rollouts.states import STAGES, STATES, Proof

# state -> what it is called while it is under way, and afterwards or before
WORDS = {
    "scheduled": (gettext_lazy("Scheduled"), gettext_lazy("Scheduled")),
    "waiting": (gettext_lazy("Waiting"), gettext_lazy("Waited")),
    "requested": (gettext_lazy("Requested"), gettext_lazy("Requested")),
    "exporting": (gettext_lazy("Exporting"), gettext_lazy("Exported")),
    "checking": (gettext_lazy("Checking"), gettext_lazy("Checked")),
    "delivering": (gettext_lazy("Delivering"), gettext_lazy("Delivered")),
    "handing_over": (gettext_lazy("Waiting for your hands"), gettext_lazy("Handed over")),
    "stopping": (gettext_lazy("Stopping"), gettext_lazy("Stopped")),
    "starting": (gettext_lazy("Starting"), gettext_lazy("Started")),
    "verifying": (gettext_lazy("Verifying"), gettext_lazy("Verified")),
    "rolling_back": (gettext_lazy("Going back"), gettext_lazy("Going back")),
}

KINDS = {
    "apply": gettext_lazy("Apply"),
    "roll-back": gettext_lazy("Roll back"),
    "restart": gettext_lazy("Restart"),
    "stop": gettext_lazy("Stop"),
    "start": gettext_lazy("Start"),
}

EVIDENCE = {
    Proof.REPORTED: gettext_lazy("The app itself reports the digest of what was delivered."),
    Proof.READ_BACK: gettext_lazy(
        "The app was restarted or reloaded after the delivery, and the files read back as delivered."
    ),
    Proof.RESTARTED: gettext_lazy("The app was restarted with what was delivered; it reports no digest of its own."),
    Proof.CONFIRMED: gettext_lazy(
        "Uploaded by hand, as the operator confirmed, and restarted after that; nobody can read the configuration back."
    ),
    Proof.DELIVERED: gettext_lazy("Delivered and read back; the app is stopped and starts with it."),
    Proof.STOPPED: gettext_lazy("The app was observed not to run."),
}


@dataclass(frozen=True)
class Stage:
    """One stage: `state` is done, now, todo, skipped, warn or failed; `note` its result or duration, in words."""

    name: str
    state: str
    note: str = ""
    took: timedelta | None = None

    @property
    def icon(self) -> str:
        return {"done": "check", "now": "progress", "failed": "alert", "warn": "alert"}.get(self.state, "circle")

    @property
    def words(self) -> str | Promise:
        """For a screen reader, which sees no icon."""
        return {
            "done": gettext_lazy("done"),
            "now": gettext_lazy("under way"),
            "failed": gettext_lazy("failed"),
            "warn": gettext_lazy("with a warning"),
            "skipped": gettext_lazy("not needed"),
        }.get(self.state, gettext_lazy("not yet"))


def stages(rollout: Rollout, steps: Iterable[Step]) -> list[Stage]:
    """The stages of this kind of rollout, and the going back where it happened."""
    steps = list(steps)
    by_state: dict[str, list[Step]] = {}
    for step in steps:
        by_state.setdefault(_stage(step), []).append(step)
    by_hand = rollout.able.hands_over
    left_out = "delivering" if by_hand else "handing_over"
    order = tuple(name for name in STAGES[rollout.kind] if name != left_out)
    if rollout.state == "waiting":
        order = ("waiting", *order)
    if rollout.due_at is not None:
        order = ("scheduled", *order)
    failed = next((_stage(s) for s in reversed(steps) if s.outcome == "failed" and _stage(s) in order), "")
    forward = rollout.state in order
    # Beyond this stage nothing was tried: where it stands now, or where it failed.
    reached = (
        order.index(rollout.state) if forward else order.index(failed) if failed and rollout.failure else len(order)
    )
    if rollout.state == "cancelled":
        reached = 0
    found = []
    for position, name in enumerate(order):
        during, after = (str(words) for words in WORDS[name])
        own = by_state.get(name, [])
        if forward and position == reached:
            found.append(Stage(during, "now", _so_far(rollout)))
        elif position > reached or (position == reached and rollout.state == "cancelled" and position):
            found.append(Stage(after, "todo"))
        elif name == failed and rollout.failure:
            found.append(Stage(during, "failed", _("failed"), _took(own)))
        elif name == "scheduled" and rollout.due_at is not None:
            found.append(Stage(after, "done", due.day_and_time(rollout.due_at)))
        elif name == "requested":
            found.append(Stage(after, "done", _("by %(who)s") % {"who": rollout.requested_by}))
        elif name == "verifying" and rollout.proof == Proof.DELIVERED:
            found.append(Stage(after, "skipped", _("app is stopped")))
        elif not own and name != "verifying":
            found.append(Stage(after, "skipped", _("not needed")))
        else:
            warned = any(step.outcome == "warn" for step in own)
            found.append(
                Stage(after, "warn" if warned else "done", "", _took(own) if name != "verifying" else _watched(steps))
            )
    if rollout.state in ("rolling_back", "rolled_back", "needs_help"):
        name, took = str(WORDS["rolling_back"][0]), _took(by_state.get("rolling_back", []))
        match rollout.state:
            case "rolling_back":
                found.append(Stage(name, "now", _so_far(rollout)))
            case "rolled_back":
                found.append(Stage(_("Went back"), "done", "", took))
            case _:
                found.append(Stage(name, "failed", _("failed"), took))
    return found


@dataclass(frozen=True)
class LogLine:
    """A step as the log shows it. `interrupted`: its worker went away in the middle, and the next one went on."""

    step: Step
    interrupted: bool


def log_lines(rollout: Rollout, steps: Iterable[Step]) -> list[LogLine]:
    steps = list(steps)
    newest = max((step.fence for step in steps), default=0)
    return [LogLine(step, not step.outcome and (rollout.is_final or step.fence < newest)) for step in steps]


def _stage(step: Step) -> str:
    """The start that follows our own stop belongs to the same move, and is a stage of its own on the page."""
    return "starting" if (step.state, step.call) == ("stopping", "start") else step.state


def _took(steps: list[Step]) -> timedelta | None:
    spans = [step.ended_at - step.started_at for step in steps if step.ended_at]
    return sum(spans, timedelta()) if spans else None


def _watched(steps: list[Step]) -> timedelta | None:
    """From the end of the start to the proof."""
    before = [s.ended_at for s in steps if s.state in ("starting", "stopping") and s.ended_at]
    proof = [s.ended_at for s in steps if s.state == "verifying" and s.ended_at]
    return max(proof) - max(before) if before and proof else None


def _so_far(rollout: Rollout) -> str:
    """“10 of 120 s”; the limits of a day are not worth a figure, and what is scheduled says for when."""
    if rollout.state == "scheduled" and rollout.due_at is not None:
        return due.day_and_time(rollout.due_at)
    limit = STATES[rollout.state].timeout
    passed = max(0, int((timezone.now() - rollout.state_since).total_seconds()))
    return (
        _("%(passed)d of %(limit)d s") % {"passed": passed, "limit": limit}
        if limit < 3600
        else _("%(n)d s") % {"n": passed}
    )


def result(rollout: Rollout) -> Chip:
    """The state as a chip; for an end, its result."""
    match rollout.state:
        case "verified":
            words = {Proof.DELIVERED: _("Delivered"), Proof.STOPPED: _("Stopped")}
            return Chip(
                words.get(Proof(rollout.proof), _("Verified")) if rollout.proof else _("Verified"), "good", "check"
            )
        case "refused":
            return Chip(_("Refused, nothing changed"), "bad", "alert")
        case "rolled_back":
            if rollout.previous:
                return Chip(_("Rolled back to revision %(n)d") % {"n": rollout.previous.number}, "bad", "alert")
            return Chip(_("Rolled back"), "bad", "alert")
        case "needs_help":
            return Chip(_("Needs help"), "bad", "alert")
        case "scheduled" if rollout.due_at is not None:
            return Chip(_("Scheduled for %(when)s") % {"when": due.day_and_time(rollout.due_at)}, "info", "clock")
        case "cancelled" if rollout.missed:
            return Chip(_("Not begun, nothing changed"), "bad", "alert")
        case "cancelled":
            return Chip(_("Cancelled"), "plain", "never")
        case "rolling_back":
            return Chip(_("Going back"), "warn", "progress")
        case state:
            return Chip(str(WORDS[state][0]), "info", "progress")


def title(rollout: Rollout) -> str:
    """“revision 15”, or “restart” where nothing is delivered."""
    if rollout.kind == "apply" and rollout.revision:
        return _("revision %(n)d") % {"n": rollout.revision.number}
    if rollout.kind == "roll-back" and rollout.revision:
        return _("back to revision %(n)d") % {"n": rollout.revision.number}
    return str(KINDS[rollout.kind]).lower()


def if_it_fails(rollout: Rollout) -> str:
    """What happens by itself if this fails, while it can still fail."""
    if rollout.is_final or rollout.state == "rolling_back" or rollout.kind not in ("apply", "roll-back"):
        return ""
    return way_back(rollout.able, rollout.previous)


def way_back(able: Abilities, previous: Revision | None) -> str:
    """What follows if an apply fails, where `previous` ran before."""
    if able.hands_over:
        return _("If this fails, somebody has to put back by hand what ran before.")
    if previous:
        return _("If this fails, revision %(n)d returns by itself.") % {"n": previous.number}
    if able.keeps_what_was:
        return _("If this fails, what was there before returns by itself.")
    return _(
        "Nothing was applied here before, so there is nothing to go back to: if this fails, the app starts again "
        "without certificates from here."
    )


def evidence(rollout: Rollout) -> str:
    """Which proof there is, in words, once it is verified."""
    if rollout.state != "verified" or not rollout.proof:
        return ""
    return str(EVIDENCE[Proof(rollout.proof)])
