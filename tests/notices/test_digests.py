"""Once a week, with the watcher's own pulse; late where nobody saw the Monday."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notices import actions, digests, tasks
from notices.models import Message
from tests.notices.conftest import NOW
from tests.notices.test_watching import ends_in

pytestmark = pytest.mark.django_db(transaction=True)
# NOW is a Wednesday.


@pytest.fixture
def weekly(clock, application, owner, postbox, person):
    person("ada")
    return actions.add_mail(
        application=application, title="Mail", to_people=True, addresses="", weekly=True, rollouts=False, by=owner
    )


def titles(postbox) -> list[str]:
    return [mail["Subject"] for _to, mail in postbox.mails]


def test_a_digest_comes_on_monday_at_seven_once(clock, weekly, postbox, add_certificate):
    ends_in(add_certificate("Bank"), 400)
    clock(days=4, hours=21)  # Monday, 06:00
    tasks.watch()
    tasks.send()
    assert titles(postbox) == []
    clock(hours=1, minutes=1)
    for _minute in range(3):
        tasks.watch()
        tasks.send()
        clock(minutes=1)
    assert titles(postbox) == ["Invoicing, this week: nothing expires soon"]
    assert "Nothing needs you" in postbox.texts()[0]
    assert (
        "1 watched here; the last look was 15 Mar 2027 06:00 UTC (1 in all, 0 unreadable), next 12:00."
        in (postbox.texts()[0])
    )


def test_a_monday_that_nobody_saw_is_made_up_for_and_three_of_them_by_one(clock, weekly, postbox):
    clock(days=23)  # a Friday, three Mondays later
    tasks.watch()
    tasks.send()
    assert len(postbox.mails) == 1
    clock(days=3)
    tasks.watch()
    tasks.send()
    assert len(postbox.mails) == 2


def test_a_digest_names_what_expires_what_is_snoozed_and_what_does_not_run(
    clock, weekly, postbox, add_certificate, owner
):
    ends_in(add_certificate("Old"), -3)
    ends_in(add_certificate("Bank"), 30)
    snoozed = add_certificate("Tax")
    ends_in(snoozed, 40)
    ends_in(add_certificate("Far"), 300)
    actions.snooze(certificate=snoozed, until=NOW + timedelta(days=20), reason="ordered already", by=owner)
    clock(days=5)
    digests.write(clock())
    tasks.send()
    (text,) = postbox.texts()
    assert titles(postbox) == ["Invoicing, this week: 1 expired, 2 expiring"]
    assert "Old, in Invoicing / Acceptance: expired on 7 Mar 2027 09:00 UTC, 8 days ago" in text
    assert "Bank, in Invoicing / Acceptance: expires on 9 Apr 2027 09:00 UTC, in 25 days" in text
    assert "Tax, in Invoicing / Acceptance, until 30 Mar 2027 09:00 UTC, by Grace: ordered already" in text
    assert "Far" not in text


def test_a_channel_that_does_not_want_it_gets_none(clock, weekly, postbox, owner):
    actions.change_channel(
        channel=weekly, title="Mail", to_people=True, addresses="", weekly=False, rollouts=False, by=owner
    )
    clock(days=5)
    digests.write(clock())
    assert Message.objects.count() == 0
