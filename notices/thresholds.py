"""When it has to be said that something ends: thresholds relative to its lifetime. No Django here.

A threshold is crossed, at a moment, and never “equal to a day”: whoever looks late still sees that it was crossed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

FIRST, SECOND, WEEK, DAY, ENDED = "first", "second", "week", "day", "ended"
# In the order in which they are crossed.
ORDER: Final = (FIRST, SECOND, WEEK, DAY, ENDED)


@dataclass(frozen=True)
class Plan:
    """How long before the end an environment wants to know: at the latest `first`, or a third of the lifetime where
    that is less; when two thirds of that are left; then `week` and `day`. All in days."""

    first: int = 60
    week: int = 7
    day: int = 1


@dataclass(frozen=True)
class Threshold:
    name: str
    moment: datetime


def thresholds(begins: datetime, ends: datetime, plan: Plan) -> tuple[Threshold, ...]:
    """Those of a thing that is valid from `begins` to `ends`, in the order in which they are crossed; each lies later
    than the one before. One that would not (a week before the end of what lives for nine days) is left out."""
    return tuple(_in_order(ends, _before(ends - begins, plan)))


def _before(lifetime: timedelta, plan: Plan) -> Iterator[tuple[str, timedelta]]:
    first = min(timedelta(days=plan.first), max(lifetime, timedelta()) / 3)
    yield FIRST, first
    yield SECOND, first * 2 / 3
    yield WEEK, timedelta(days=plan.week)
    yield DAY, timedelta(days=plan.day)
    yield ENDED, timedelta()


def _in_order(ends: datetime, before: Iterator[tuple[str, timedelta]]) -> Iterator[Threshold]:
    last: timedelta | None = None
    for name, left in before:
        if last is None or left < last:
            last = left
            yield Threshold(name, ends - left)


def crossed(begins: datetime, ends: datetime, plan: Plan, now: datetime) -> tuple[Threshold, ...]:
    """Those that lie behind us."""
    return tuple(one for one in thresholds(begins, ends, plan) if one.moment <= now)


def following(begins: datetime, ends: datetime, plan: Plan, now: datetime) -> Threshold | None:
    """The next one to be crossed."""
    return next((one for one in thresholds(begins, ends, plan) if one.moment > now), None)
