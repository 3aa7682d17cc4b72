"""What is crossed is said once to each channel, whoever was away meanwhile."""

from __future__ import annotations

import re
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from audit.models import Event
from certificates import actions as certificates
from certificates import pkcs12
from certificates.intake import Upload
from certificates.models import PublicAuthority, Version
from environments import actions as environments
from environments.refusals import Refused
from notices import actions, sending, tasks, watching
from notices.models import Channel, Crossing, Message, Told, Watch
from rollouts import actions as rollouts
from tests import pki
from tests.notices.conftest import NOW

pytestmark = pytest.mark.django_db(transaction=True)


def ends_in(certificate, days: float, lived: float = 365) -> Version:
    """Lets what is in use end then."""
    version = certificate.in_use
    version.not_after = timezone.now() + timedelta(days=days)
    version.not_before = version.not_after - timedelta(days=lived)
    version.save()
    certificate.save(update_fields=["in_use"])
    return version


def look() -> Watch | None:
    tasks.watch()
    tasks.send()
    return watching.last()


@pytest.fixture
def mail(application, owner, postbox):
    return actions.add_mail(
        application=application, title="Mail", to_people=True, addresses="", weekly=False, rollouts=False, by=owner
    )


def test_a_threshold_is_told_once_however_often_it_is_looked_at(clock, mail, postbox, person, add_certificate):
    person("ada")
    certificate = add_certificate()
    ends_in(certificate, 61)
    look()
    assert postbox.mails == []

    clock(days=2)
    for _time in range(5):
        look()
        clock(hours=6)
    assert [mail["Subject"] for _to, mail in postbox.mails] == ["Invoicing: Bank payments expires in 59 days"]
    assert postbox.mails[0][0] == ["ada@example.com"]
    assert Told.objects.count() == 1


def test_a_watcher_that_was_away_says_what_was_crossed_meanwhile_in_one_message(
    clock, mail, postbox, person, add_certificate
):
    person("ada")
    ends_in(add_certificate("Bank"), 90)
    ends_in(add_certificate("Tax"), 95)
    look()
    clock(days=88)  # nobody looked for three months
    look()

    ((_to, mail_sent),) = postbox.mails
    assert mail_sent["Subject"] == "Invoicing: Bank expires in 2 days (and 1 more)"
    text = postbox.texts()[0]
    assert re.findall(r"^(Bank|Tax), in Invoicing / Acceptance", text, re.M) == ["Bank", "Tax"]
    assert text.count("Earlier notices were due while nobody could send them") == 2
    assert list(Crossing.objects.filter(done=True).order_by("moment").values_list("threshold", flat=True)) == [
        "first", "first", "second", "second", "week", "week",
    ]  # fmt: skip
    clock(days=1)
    look()
    assert postbox.mails[-1][1]["Subject"] == "Invoicing: Bank expires in 24 hours"


def test_a_message_says_what_where_until_when_whom_to_ask_how_and_where_to_do_it(
    clock, mail, postbox, person, add_certificate, owner, environment
):
    person("ada")
    certificate = add_certificate("Bank payments")
    certificates.describe(
        certificate=certificate, contact="Anna", contact_mail="pki@bank.example", ticket_queue="BANK-PKI",
        how_to_renew="Mail the request.\nWait two weeks.", by=owner,
    )  # fmt: skip
    target = certificates.read_target(environment=environment, text="api.bank.example")
    certificates.pin(environment=environment, target=target, certificate=certificate, by=owner)
    ends_in(certificate, 30)
    look()
    text = postbox.texts()[0]
    for words in (
        "Bank payments, in Invoicing / Acceptance", "It expires on 9 Apr 2027 09:00 UTC, in 30 days.",
        "Sent to: api.bank.example", "Issued by Partner CA", "Ask: Anna pki@bank.example", "Queue: BANK-PKI",
        "    Wait two weeks.",
        f"Upload renewal: https://portal.example.com{environment.url('certificate-renew', certificate.pk)}",
    ):  # fmt: skip
        assert words in text
    assert "PRIVATE KEY" not in text


def test_whoever_is_responsible_is_told_first_and_the_operators_after_that(
    clock, mail, postbox, person, add_certificate, owner
):
    ada = person("ada", role="viewer")
    person("ben")
    person("vera", role="viewer")
    certificate = add_certificate()
    certificates.describe(certificate=certificate, responsible=ada, by=owner)
    ends_in(certificate, 59)
    look()
    assert [to for to, _mail in postbox.mails] == [["ada@example.com"]]
    clock(days=25)
    look()
    assert sorted(postbox.mails[-1][0]) == ["ada@example.com", "ben@example.com"]


def test_an_operator_of_another_place_is_not_told(clock, mail, postbox, person, add_certificate, application, owner):
    elsewhere = environments.create_environment(application=application, name="Production", by=owner)
    person("ben")
    person("eve", environment=elsewhere)
    ends_in(add_certificate(), 5)
    look()
    assert [to for to, _mail in postbox.mails] == [["ben@example.com"]]


def test_a_new_version_starts_anew_and_the_old_one_is_no_news(clock, mail, postbox, person, add_certificate, owner):
    person("ada")
    certificate = add_certificate()
    ends_in(certificate, 50)
    look()
    fresh = pkcs12.read(pki.pfx(pki.issue("Bank payments", authority=pki.make_authority("CA")), "x"), "x")
    certificates.renew(certificate=certificate, identity=fresh, in_use=True, by=owner)
    certificate.refresh_from_db()
    ends_in(certificate, 100)
    clock(days=30)
    look()
    assert len(postbox.mails) == 1, "the old version would have crossed another threshold by now"
    clock(days=25)
    look()
    assert postbox.mails[-1][1]["Subject"] == "Invoicing: Bank payments expires in 45 days"


def test_what_still_runs_is_watched_although_its_renewal_waits(
    mail, postbox, person, add_certificate, owner, running_app, apply
):
    person("ada")
    certificate = add_certificate()
    assert apply().state == "verified"
    fresh = pkcs12.read(pki.pfx(pki.issue("Bank payments", authority=pki.make_authority("CA")), "x"), "x")
    running = ends_in(certificate, 5)
    certificates.renew(certificate=certificate, identity=fresh, in_use=True, by=owner)
    look()
    assert set(Crossing.objects.values_list("subject", flat=True)) == {running.pk}
    assert postbox.mails[0][1]["Subject"] == "Invoicing: Bank payments expires in 4 days"


def test_issuers_and_trusted_authorities_count_too(clock, mail, postbox, person, add_certificate, environment, owner):
    person("ada")
    version = ends_in(add_certificate(), 300)
    Version.objects.filter(pk=version.pk).update(chain_ends_at=timezone.now() + timedelta(days=6))
    file = Upload("root.pem", pki.pem(pki.make_authority("Tax Root").certificate_der))
    found = certificates.read_authorities(environment=environment, files=[file])
    (authority,) = certificates.trust(environment=environment, authorities=found, by=owner)
    authority.not_before, authority.not_after = timezone.now() - timedelta(days=90), timezone.now() + timedelta(days=9)
    authority.save()
    look()
    text = postbox.texts()[0]
    assert "A certificate in its chain expires on 16 Mar 2027 09:00 UTC, in 6 days, before the certificate" in text
    assert "Tax Root, in Invoicing / Acceptance\n  This trusted authority expires on 19 Mar 2027" in text
    assert postbox.mails[0][1]["Subject"] == "Invoicing: the issuer of Bank payments expires in 6 days (and 1 more)"


@pytest.mark.parametrize("gone", ["disabled", "removed", "archived"])
def test_what_is_used_no_more_is_no_news(clock, mail, postbox, person, add_certificate, environment, owner, gone):
    person("ada")
    certificate = add_certificate()
    ends_in(certificate, 5)
    match gone:
        case "disabled":
            certificates.disable(certificate=certificate, by=owner)
        case "removed":
            certificates.remove(certificate=certificate, by=owner)
        case _:
            rollouts.archive(environment=environment, by=owner)
    look()
    assert postbox.mails == []


# --- Outages ---


def test_a_mail_server_that_is_away_delays_a_message_and_loses_none(
    clock, mail, postbox, person, add_certificate, settings
):
    person("ada")
    ends_in(add_certificate(), 5)
    port, settings.EMAIL_PORT = settings.EMAIL_PORT, 1
    look()
    message = Message.objects.get()
    assert (message.state, message.tries) == ("waiting", 1)
    assert message.error == "The mail server cannot be reached (Connection refused)."
    tasks.send()
    assert Message.objects.get().tries == 1, "not again before its time"
    settings.EMAIL_PORT = port
    clock(minutes=2)
    tasks.send()
    assert len(postbox.mails) == 1
    assert postbox.mails[0][1]["Message-ID"] == f"<{message.pk}@example.com>"
    clock(days=8)
    tasks.send()
    assert len(postbox.mails) == 1


def test_what_a_mail_server_refuses_is_told_in_its_words_and_given_up_after_a_week(
    clock, mail, postbox, person, add_certificate, client, owner, application
):
    person("ada")
    ends_in(add_certificate(), 5)
    postbox.refuses = "550 5.7.1 No thank you"
    look()
    for _try in range(60):
        clock(hours=6)
        tasks.send()
    message = Message.objects.filter(kind="notice").earliest("created_at")
    assert message.state == "given-up"
    assert message.error == "The mail server says 550: 5.7.1 No thank you"
    client.force_login(owner)
    page = client.get(f"/apps/{application.slug}/settings/notices/messages/{message.pk}/").content.decode()
    assert "5.7.1 No thank you" in page
    postbox.refuses = ""
    client.post(f"/apps/{application.slug}/settings/notices/messages/{message.pk}/again/")
    tasks.send()
    assert len(postbox.mails) == 1


def test_a_message_whose_worker_died_is_sent_by_another_under_the_same_number(
    clock, mail, postbox, person, add_certificate
):
    person("ada")
    ends_in(add_certificate(), 5)
    tasks.watch()
    Message.objects.update(state="sending", tries=1, next_try_at=timezone.now())
    tasks.send()
    assert postbox.mails == []
    clock(minutes=4)
    tasks.send()
    assert postbox.mails[0][1]["Message-ID"] == f"<{Message.objects.get().pk}@example.com>"


def test_two_workers_that_send_at_once_send_once(mail, postbox, person, add_certificate):
    person("ada")
    ends_in(add_certificate(), 5)
    tasks.watch()
    message = Message.objects.select_related("channel").get()
    both = threading.Barrier(2)

    def send() -> None:
        both.wait(10)
        sending.send(Message.objects.select_related("channel").get(pk=message.pk), timezone.now())
        connection.close()

    workers = [threading.Thread(target=send) for _worker in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert len(postbox.mails) == 1


def test_a_look_is_made_once_for_its_time_and_taken_over_from_one_that_was_cut_off(clock):
    first = watching.begin(NOW)
    assert first is not None
    assert watching.begin(NOW + timedelta(minutes=1)) is None
    taken = watching.begin(NOW + timedelta(minutes=11))
    assert taken is not None
    watching.look(taken, NOW)
    watching.end(taken, 0)
    assert watching.begin(NOW + timedelta(minutes=30)) is None
    assert watching.begin(NOW + timedelta(hours=6)) is not None


def test_what_a_look_that_was_cut_off_had_found_is_told(clock, mail, postbox, person, add_certificate):
    person("ada")
    ends_in(add_certificate(), 5)
    begun = watching.begin(timezone.now())
    assert begun is not None
    watching.look(begun, timezone.now())  # and its worker dies here
    tasks.watch()
    tasks.send()
    assert len(postbox.mails) == 1


def test_an_application_that_nobody_thought_of_has_a_channel_all_the_same(
    clock, postbox, person, add_certificate, owner
):
    person("ada")
    ends_in(add_certificate(), 5)
    look()
    assert [to for to, _mail in postbox.mails] == [["ada@example.com"]]
    actions.remove_channel(channel=Channel.objects.get(), by=owner)
    look()
    assert Channel.objects.filter(removed_at=None).count() == 0, "who removed it meant it"


def test_what_nobody_could_be_told_is_told_as_soon_as_somebody_has_an_address(
    clock, mail, postbox, person, add_certificate
):
    ada = person("ada", address="")
    ends_in(add_certificate(), 5)
    look()
    assert Message.objects.count() == 0
    ada.email = "ada@example.com"
    ada.save()
    look()
    assert len(postbox.mails) == 1


def test_each_channel_is_told_by_itself(clock, mail, postbox, receiver, person, add_certificate, application, owner):
    person("ada")
    service = actions.add_service(
        application=application, title="Team", address=receiver.address, weekly=False, rollouts=False, by=owner
    )
    assert service.service == "Webhook"
    ends_in(add_certificate(), 5)
    receiver.answers = 503
    look()
    assert len(postbox.mails) == 1
    assert Message.objects.get(channel=service).error == (
        "The service did not take the message (it answered 503); check its address."
    )
    receiver.answers = 200
    receiver.received.clear()
    clock(minutes=2)
    look()
    assert len(postbox.mails) == 1
    ((path, body),) = receiver.received
    assert path == "/t0ps3cret-path"
    assert b"Bank payments expires in 5 days" in body


def test_what_one_channel_was_told_is_not_told_again_because_another_has_nobody_to_tell(
    clock, mail, postbox, receiver, add_certificate, application, owner
):
    actions.add_service(
        application=application, title="Team", address=receiver.address, weekly=False, rollouts=False, by=owner
    )
    ends_in(add_certificate(), 8)
    look()
    clock(days=2)
    look()
    assert postbox.mails == [], "nobody here has an address"
    assert [b"in 8 days" in body or b"in 6 days" in body for _path, body in receiver.received] == [True, True]


# --- Snooze ---


def test_a_snooze_holds_back_for_everybody_until_it_ends_and_everybody_sees_it(
    clock, mail, postbox, person, add_certificate, client, owner
):
    ada = person("ada")
    certificate = add_certificate()
    ends_in(certificate, 50)
    actions.snooze(certificate=certificate, until=NOW + timedelta(days=20), reason="Renewed in May", by=ada)
    look()
    assert postbox.mails == []
    client.force_login(owner)
    assert "ada: Renewed in May" in client.get(certificate.get_absolute_url()).content.decode()
    clock(days=21)
    look()
    assert [mail["Subject"] for _to, mail in postbox.mails] == ["Invoicing: Bank payments expires in 29 days"]
    assert Event.objects.filter(action="certificate.snoozed", actor="ada").count() == 1


def test_a_snooze_can_be_ended_by_others(clock, mail, postbox, person, add_certificate, owner):
    ada = person("ada")
    certificate = add_certificate()
    ends_in(certificate, 50)
    actions.snooze(certificate=certificate, until=NOW + timedelta(days=20), reason="later", by=ada)
    look()
    actions.wake(certificate=certificate, by=owner)
    look()
    assert len(postbox.mails) == 1


@pytest.mark.parametrize(
    ("until", "reason", "words"),
    [
        (timedelta(days=20), " ", "Say why"),
        (timedelta(days=-1), "x", "over already"),
        (timedelta(days=91), "x", "At most 90 days"),
        (timedelta(days=49.5), "x", "the notice of the last day is never held back"),
    ],
)
def test_a_snooze_that_would_hide_too_much_is_refused(clock, add_certificate, owner, until, reason, words):
    certificate = add_certificate()
    ends_in(certificate, 50)
    with pytest.raises(Refused, match=words):
        actions.snooze(certificate=certificate, until=NOW + until, reason=reason, by=owner)


# --- The pulse ---


def test_the_heartbeat_is_asked_for_after_a_look_that_was_made_to_its_end(clock, settings, receiver, monkeypatch):
    settings.HEARTBEAT_URL = receiver.address.replace("json:", "http:")
    tasks.watch()
    tasks.watch()
    assert receiver.received == [("/t0ps3cret-path", b"")], "once for each look"
    monkeypatch.setattr(watching, "look", lambda watch, now: 1 / 0)
    clock(hours=6)
    with pytest.raises(ZeroDivisionError):
        tasks.watch()
    assert len(receiver.received) == 1, "silence is what tells of it"


@pytest.mark.parametrize("answers", [500, 302])
def test_a_heartbeat_that_is_not_taken_is_logged_and_stops_nothing(clock, settings, receiver, caplog, answers):
    settings.HEARTBEAT_URL, receiver.answers = receiver.address.replace("json:", "http:"), answers
    tasks.watch()
    assert "the heartbeat was not taken" in caplog.text
    assert watching.last() is not None


def test_a_page_says_in_red_that_nobody_has_looked_for_two_periods(clock, client, owner):
    client.force_login(owner)
    tasks.watch()
    clock(hours=11)
    assert "Nobody has looked at what expires" not in client.get("/").content.decode()
    clock(hours=2)
    client.force_login(owner)
    page = client.get("/").content.decode()
    assert "Nobody has looked at what expires since 10 Mar 2027 09:00 UTC, so nobody is told." in page


# --- The next renewal, and scheduled applies ---


def test_what_speaks_against_the_next_renewal_is_told_once_and_stands_in_each_notice(
    clock, mail, postbox, person, add_certificate
):
    person("ada")
    version = ends_in(add_certificate(), 120)
    PublicAuthority.objects.create(
        name="Partner CA", organisation="Partner Trust", stops_on=NOW.date() + timedelta(days=30), source="https://x.y/"
    )
    Version.objects.filter(pk=version.pk).update(issuer="CN=Partner CA,O=Partner Trust")
    look()
    assert postbox.mails == [], "told by the look at midnight"
    clock(hours=16)
    look()
    clock(days=1)
    look()
    assert [mail["Subject"] for _to, mail in postbox.mails] == ["Invoicing: the next renewal of Bank payments may fail"]
    assert "What speaks against its next renewal" in postbox.texts()[0]
    assert "Mind: " in postbox.texts()[0]
    clock(days=60)
    look()
    assert postbox.mails[-1][1]["Subject"] == "Invoicing: Bank payments expires in 58 days"
    assert "Mind: " in postbox.texts()[-1]


def test_a_scheduled_apply_is_reminded_of_before_and_told_of_after_once(
    application, owner, postbox, person, environment, add_certificate, running_app
):
    actions.add_mail(
        application=application, title="Mail", to_people=True, addresses="", weekly=False, rollouts=True, by=owner
    )
    person("ada")
    add_certificate()
    shown = rollouts.pending(environment)[0].digest
    begins = timezone.now() + timedelta(minutes=30)
    rollout = rollouts.apply(environment=environment, shown=shown, reason="Renewal night", due_at=begins, by=owner)
    for _minute in range(2):
        tasks.watch()
        tasks.send()
    ((to, reminder),) = postbox.mails
    assert to == ["ada@example.com"]
    assert reminder["Subject"].startswith(f"{environment}: revision 1 is applied at ")
    assert "Renewal night" in postbox.texts()[0]
    assert f"https://portal.example.com{rollout.get_absolute_url()}" in postbox.texts()[0]

    rollouts.cancel(rollout=rollout, by=owner)
    for _minute in range(2):
        tasks.watch()
        tasks.send()
    assert len(postbox.mails) == 2
    assert postbox.mails[1][1]["Subject"] == f"{environment}: revision 1 was not applied as scheduled"
