"""Times as people write them, in a zone whose clocks go forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from environments.refusals import Refused
from rollouts import due


@pytest.fixture(autouse=True)
def amsterdam(settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Amsterdam"


@pytest.mark.parametrize(
    ("typed", "hour"),
    [
        ("2026-12-05 21:00", 20),
        ("2026-07-05T21:00", 19),
        (" 2026-12-05 21:00 ", 20),
        ("2026-12-05 21:00+00:00", 21),
        ("2026-10-25 02:30+02:00", 0),
        ("2026-10-25 02:30+01:00", 1),
        ("2026-10-25 03:00", 2),
        ("2026-03-29 03:00", 1),
    ],
)
def test_a_time_is_read_in_the_time_zone_of_the_server(typed: str, hour: int):
    assert due.read(typed).astimezone(UTC).hour == hour


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("2026-03-29 02:30", "There is no 02:30 on 29 Mar 2026 in Europe/Amsterdam, because the clocks go forward"),
        ("2026-10-25 02:30", "It is 02:30 twice on 25 Oct 2026 in Europe/Amsterdam, because the clocks go back"),
        ("21:00", "Write the time like 2026-12-05 21:00"),
        ("2026-12-05", "Write the time like"),
        ("2026-02-30 21:00", "Write the time like"),
        ("0001-01-01 00:00", "Write the time like"),
        ("9999-12-31 23:59-05:00", "Write the time like"),
    ],
)
def test_what_is_no_time_or_no_single_one_is_refused_in_a_sentence(typed: str, sentence: str):
    with pytest.raises(Refused) as refused:
        due.read(typed)
    assert str(refused.value).startswith(sentence)
    assert refused.value.field == "at"


def test_the_past_and_what_is_too_far_ahead_are_refused():
    now = timezone.now()
    due.check(now + timedelta(minutes=1))
    due.check(now + timedelta(days=30) - timedelta(minutes=1))
    with pytest.raises(Refused, match="has passed; choose a later time, or apply now"):
        due.check(now - timedelta(seconds=1))
    with pytest.raises(Refused, match="too far ahead; choose a time in the next 30 days"):
        due.check(now + timedelta(days=30, minutes=1))


def test_a_time_is_said_with_its_zone():
    zone = timezone.get_default_timezone()
    today = timezone.now().astimezone(zone).replace(hour=21, minute=0)
    assert due.said(today) == "today 21:00 (Europe/Amsterdam)"
    assert due.said(today + timedelta(days=1)) == "tomorrow 21:00 (Europe/Amsterdam)"
    assert due.said(datetime(2027, 7, 5, 19, tzinfo=UTC)) == "5 Jul 2027 21:00 (Europe/Amsterdam)"
    assert due.zone_in_words(datetime(2027, 7, 5, 19, tzinfo=UTC)) == "Europe/Amsterdam, UTC+02:00"
    assert due.read(due.as_typed(today)) == today.replace(second=0, microsecond=0)
