from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notices.thresholds import ORDER, Plan, crossed, following, thresholds

BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
USUAL = Plan()


def left(days: float, plan: Plan = USUAL) -> dict[str, float]:
    """Of something that lives this long: threshold → days before its end."""
    ends = BEGINS + timedelta(days=days)
    return {one.name: (ends - one.moment) / timedelta(days=1) for one in thresholds(BEGINS, ends, plan)}


def test_a_year_gives_sixty_days_then_forty_a_week_a_day_and_the_end():
    assert left(365) == {"first": 60, "second": 40, "week": 7, "day": 1, "ended": 0}


def test_what_lives_for_thirty_days_is_told_at_a_third_of_that():
    found = left(30)
    assert found["first"] == pytest.approx(10)
    assert found["second"] == pytest.approx(20 / 3)
    assert list(found) == ["first", "second", "day", "ended"], "a week before is no news after six days before"


def test_what_lives_for_a_day_is_told_in_time_and_not_five_times():
    assert {name: round(days * 24, 1) for name, days in left(1).items()} == {"first": 8, "second": 5.3, "ended": 0}


def test_an_environment_can_want_other_days():
    assert left(365, Plan(90, 14, 2)) == {"first": 90, "second": 60, "week": 14, "day": 2, "ended": 0}


def test_dates_in_the_wrong_order_are_simply_over():
    assert [one.name for one in thresholds(BEGINS, BEGINS - timedelta(days=3), Plan())] == ["first"]


# A busy machine draws slowly; that is no property of what is tested.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
lives = st.timedeltas(timedelta(minutes=1), timedelta(days=4000))


@patient
@given(lives, st.timedeltas(timedelta(days=-400), timedelta(days=4400)), st.integers(3, 365))
def test_each_threshold_lies_behind_us_or_before_us_and_never_both(life: timedelta, passed: timedelta, first: int):
    ends, now, plan = BEGINS + life, BEGINS + passed, Plan(first=first, week=2, day=1)
    every = thresholds(BEGINS, ends, plan)
    behind = crossed(BEGINS, ends, plan, now)
    moments = [one.moment for one in every]
    assert moments == sorted(set(moments)), "each lies later than the one before"
    assert all(BEGINS <= moment <= ends for moment in moments)
    assert behind == every[: len(behind)]
    ahead = following(BEGINS, ends, plan, now)
    assert ahead == (every[len(behind)] if len(behind) < len(every) else None)
    assert [one.name for one in every] == [name for name in ORDER if name in {one.name for one in every}]


@patient
@given(lives, st.lists(st.floats(0, 1.2), min_size=1, max_size=12))
def test_whoever_looks_rarely_or_late_finds_each_threshold_exactly_once(life: timedelta, looks: list[float]):
    ends = BEGINS + life
    seen: list[str] = []
    for share in [*sorted(looks), 1.3]:
        now = BEGINS + life * share
        seen += [one.name for one in crossed(BEGINS, ends, Plan(), now) if one.name not in seen]
    assert seen == [one.name for one in thresholds(BEGINS, ends, Plan())]
