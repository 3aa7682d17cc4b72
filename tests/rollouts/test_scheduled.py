"""Applies that begin at a time: frozen before it, looked at when it comes, and told of once."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from audit.models import Event
from certificates import actions as certificates
from certificates.models import ClientCertificate, Incident
from environments import actions as environments
from environments.models import Application, Environment, Membership, Person
from environments.refusals import Refused
from rollouts import actions, due, health, scheduled, tasks, watching
from rollouts.connectors import connect
from rollouts.models import Destination, Revision, Rollout
from rollouts.standing import standing
from tests.rollouts.test_commands import run

pytestmark = pytest.mark.django_db(transaction=True)
SOON = timedelta(hours=3)


@pytest.fixture
def schedule(
    running_app: Destination, environment: Environment, owner: Person, add_certificate: Callable[..., Any]
) -> Callable[..., Rollout]:
    """Adds a certificate and schedules what is wanted then, in three hours."""

    def schedule(name: str = "Bank payments", **more: Any) -> Rollout:
        add_certificate(name)
        shown = actions.pending(environment)[0].digest
        wanted = {"environment": environment, "shown": shown, "reason": "tonight", "by": owner}
        return actions.apply(**wanted | {"due_at": timezone.now() + SOON} | more)

    return schedule


def let_its_time_come(rollout: Rollout, late: timedelta = timedelta(seconds=1)) -> Rollout:
    """What workers do when it is `late` past its time."""
    Rollout.objects.filter(pk=rollout.pk, state="scheduled").update(due_at=timezone.now() - late, nudged_at=None)
    actions.begin_what_is_due()
    rollout.refresh_from_db()
    return rollout


def page(person: Person, address: str) -> str:
    client = Client()
    client.force_login(person)
    return client.get(address, follow=True).content.decode()


def test_what_is_scheduled_runs_as_it_was_frozen_and_later_changes_wait(
    schedule: Any, environment: Environment, owner: Person, add_certificate: Any, run_rollout: Any
):
    rollout = schedule("Bank payments")
    assert (rollout.state, rollout.requester, rollout.bundle) == ("scheduled", owner, None)
    actions.begin_what_is_due()
    tasks.sweep()
    rollout.refresh_from_db()
    assert rollout.state == "scheduled", "its time has not come"
    stand = standing(environment)
    assert stand.configuration.text.startswith("Scheduled for ")
    assert stand.active is None
    assert "Nothing was changed since then." in page(owner, environment.get_absolute_url())
    add_certificate("Tax authority")
    assert "1 change made since then is not part of it." in page(owner, environment.get_absolute_url())
    add_certificate("Insurance")
    shown = page(owner, environment.get_absolute_url())
    words = f"Revision 1 is scheduled for {due.said(rollout.due_at)} by Grace. "
    assert words + "2 changes made since then are not part of it." in shown
    assert words + "2 changes made since then are not part of it." in page(owner, "/")
    assert "3 changes not running" in shown
    assert not Event.objects.filter(action__in=("key.opened", "export.opened")).exists(), "keys stay sealed until then"

    asked_at = rollout.created_at
    rollout = run_rollout(let_its_time_come(rollout))

    assert (rollout.state, rollout.proof) == ("verified", "reported"), rollout.failure
    running = Destination.objects.get().running
    assert running is not None
    assert [slot.slug for slot in running.frozen.slots] == ["bank-payments"]
    stand = standing(environment)
    assert (stand.configuration.text, stand.scheduled) == ("2 changes not running", None)
    assert stand.last == rollout
    assert rollout.created_at > asked_at, "it stands among the others where it ran"
    assert abs(rollout.asked_at - asked_at) < timedelta(seconds=5)
    event = Event.objects.filter(action="rollout.requested").first()
    assert json.loads(event.body)["details"]["due_at"]


def test_one_apply_is_scheduled_in_an_environment(schedule: Any, environment: Environment, owner: Person):
    first = schedule("First")
    with pytest.raises(IntegrityError), transaction.atomic():
        Rollout.objects.create(environment=environment, kind="apply", state="scheduled", due_at=timezone.now())
    with pytest.raises(IntegrityError), transaction.atomic():
        Rollout.objects.filter(pk=first.pk).update(due_at=None)
    same = {"environment": environment, "shown": actions.pending(environment)[0].digest, "reason": "x", "by": owner}
    with pytest.raises(Refused, match=r"Exactly this is scheduled for .* already, as revision 1; change its time"):
        actions.apply(**same, due_at=timezone.now() + SOON)
    with pytest.raises(Refused, match=r"Revision 1 is scheduled here for .* already; cancel it, or say that this one"):
        schedule("Second")
    assert Revision.objects.count() == 1
    second = schedule("Third", replace=True)
    first.refresh_from_db()
    assert (first.state, second.state) == ("cancelled", "scheduled")
    assert "A newer one took its place" in first.sentence
    assert not first.missed, "nobody is called for this"
    assert json.loads(Event.objects.filter(action="rollout.requested").first().body)["details"]["replaces"] == 1


def test_an_apply_now_takes_its_place_and_a_way_back_does_not(
    schedule: Any, environment: Environment, owner: Person, add_certificate: Any, apply: Any, run_rollout: Any
):
    add_certificate("First")
    apply()
    add_certificate("Second")
    apply()
    waits = schedule("Third")
    back = actions.roll_back(
        environment=environment, revision=Revision.objects.get(number=1), reason="a mistake", by=owner
    )
    run_rollout(back)
    run_rollout(actions.restart(environment=environment, by=owner))
    waits.refresh_from_db()
    assert waits.state == "scheduled"
    assert "takes the place of revision 3" in page(owner, environment.url("apply"))
    assert apply().state == "verified"
    waits.refresh_from_db()
    assert waits.state == "cancelled"


def test_a_late_worker_begins_it_within_the_hour_and_not_after(schedule: Any, owner: Person, run_rollout: Any):
    missed = schedule("First")
    let_its_time_come(missed, late=timedelta(minutes=61))
    assert (missed.state, missed.fence) == ("cancelled", 0)
    assert missed.failure.startswith("No worker came between ")
    assert missed.sentence == "Nothing was changed."
    late = schedule("Second")
    assert run_rollout(let_its_time_come(late, late=timedelta(minutes=59))).state == "verified"


class Trouble:
    """What can be wrong when the time has come, each with what is said of it."""

    def __init__(self, environment: Environment, place: dict[str, Any], settings: Any, monkeypatch: Any):
        self.environment, self.place, self.settings, self.monkeypatch = environment, place, settings, monkeypatch

    def ended(self) -> str:
        connect("local-process", self.place).stop()
        return "The app did not run when its time came; it was stopped."

    def unwell(self) -> str:
        Destination.objects.update(health_url="http://app.test/health")
        ill = health.Finding(False, "http://app.test/health answered 503; 200 was expected.")
        self.monkeypatch.setattr(health, "ask", lambda destination, seconds: ill)
        return "The app was not well when its time came. http://app.test/health answered 503"

    def drifted(self) -> str:
        self.place["behaviour"].write_text(
            json.dumps({"answer": json.dumps({"status": "running", "digest": "0" * 64})})
        )
        connect("local-process", self.place).stop()
        connect("local-process", self.place).start()
        return "The app ran with something else than was applied from here."

    def busy(self) -> str:
        Rollout.objects.create(environment=self.environment, kind="restart", state="requested")
        return "Something else was being applied, stopped or started when its time came."

    def gone(self) -> str:
        self.settings.LOCAL_PROCESSES = {}
        return "This server’s settings no longer know “tiny”."

    def newer(self) -> str:
        content = Revision.objects.get(number=1).content
        later = Revision.objects.create(environment=self.environment, number=7, content=content, digest="7" * 64)
        Destination.objects.update(running=later)
        return "Revision 7 ran already, which is newer."

    def moved(self) -> str:
        Environment.objects.update(base_folder="/srv/elsewhere")
        return "The environment’s base folder was changed meanwhile."

    def ticketed(self) -> str:
        Environment.objects.update(ticket_pattern="CHG-###")
        return "Name the ticket, written like CHG-###."

    def blocked(self) -> str:
        revision = Revision.objects.latest("number")
        Destination.objects.update(blocked_digest=revision.digest)
        Rollout.objects.create(
            environment=self.environment, kind="apply", state="rolled_back", revision=revision,
            finished_at=timezone.now(),
        )  # fmt: skip
        return "This configuration failed and was blocked meanwhile."

    def compromised(self) -> str:
        second = ClientCertificate.objects.get(name="Second")
        Incident.objects.create(
            spki_sha256=second.in_use.spki_sha256, certificate=second, reason="stolen", opened_by="Grace"
        )  # fmt: skip
        return "The private key of “Second v1” is known as compromised by now; replace it, and apply that."

    def locked_out(self) -> str:
        Person.objects.filter(username="ada").update(is_active=False)
        return "ada was locked out meanwhile; somebody else has to apply it."

    def lost_right(self) -> str:
        Membership.objects.filter(person__username="ada").update(role="editor")
        return "ada may not apply here any more; somebody else has to."


@pytest.mark.parametrize("what", [name for name in vars(Trouble) if not name.startswith("_")])
def test_where_something_is_wrong_nothing_is_touched_and_a_person_is_called(
    what: str,
    schedule: Any,
    environment: Environment,
    application: Application,
    owner: Person,
    place: dict[str, Any],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    add_certificate: Any,
    apply: Any,
):
    add_certificate("First")
    assert apply().state == "verified"
    ada = Person.objects.create_user("ada", password="x")
    Membership.objects.create(person=ada, application=application, role="operator")
    rollout = schedule("Second", by=ada)
    digest = Destination.objects.get().bundle.digest
    sentence = Trouble(environment, place, settings, monkeypatch).__getattribute__(what)()
    passes = what in ("ended", "unwell", "drifted", "busy")
    let_its_time_come(rollout)
    if what == "drifted":  # it takes a moment to come up with something else
        while rollout.state == "scheduled" and Destination.objects.get().observed_status != "running":
            let_its_time_come(rollout)
    if passes:
        assert rollout.state == "scheduled", "a short absence is waited for"
        let_its_time_come(rollout, late=timedelta(minutes=2))
    assert rollout.state == "cancelled"
    assert rollout.failure.startswith(sentence)
    assert (rollout.sentence, rollout.bundle, rollout.steps.count()) == ("Nothing was changed.", None, 0)
    assert (
        json.loads(Event.objects.filter(action="rollout.cancelled").first().body)["details"]["failure"]
        == rollout.failure
    )
    assert connect("local-process", place).delivered_digest() == digest
    if what == "busy":
        Rollout.objects.filter(kind="restart").update(state="refused")
    shown = page(owner, "/")
    assert "Scheduled apply cancelled" in shown
    assert sentence.split("“")[0] in shown
    assert "Not begun, nothing changed" in page(owner, rollout.get_absolute_url())


def test_files_that_others_changed_a_moment_ago_keep_it_from_beginning(
    schedule: Any, place: dict[str, Any], add_certificate: Any, apply: Any
):
    place["behaviour"].write_text(json.dumps({"answer": json.dumps({"status": "running"})}))
    add_certificate("First")
    assert apply().proof == "read-back"
    rollout = schedule("Second")
    Destination.objects.update(observed_at=None, files_read_at=None)
    tasks.sweep()
    assert Destination.objects.get().files_read_at is not None, "read just now, when they were as delivered"
    delivered = next(path for path in (Path(place["folder"]) / "current").rglob("*") if path.is_file())
    delivered.write_bytes(b"changed by others")
    let_its_time_come(rollout, late=timedelta(minutes=2))
    assert rollout.state == "cancelled"
    assert rollout.failure.startswith("The app ran with something else than was applied from here.")
    assert delivered.read_bytes() == b"changed by others"


def test_nobody_is_called_any_more_once_it_was_applied_or_scheduled_anew(
    schedule: Any, environment: Environment, owner: Person, apply: Any
):
    missed = let_its_time_come(schedule("First"), late=timedelta(hours=2))
    assert standing(environment).missed == missed
    again = schedule("Second")
    assert standing(environment).missed is None
    actions.cancel(rollout=again, by=owner)
    assert apply().state == "verified"
    assert standing(environment).missed is None


def test_who_insisted_on_what_was_blocked_already_is_heard(
    schedule: Any, environment: Environment, add_certificate: Any
):
    add_certificate("First")
    Destination.objects.update(blocked_digest=actions.pending(environment)[0].digest)
    with pytest.raises(Refused, match="blocked"):
        actions.apply(
            environment=environment, shown=actions.pending(environment)[0].digest, reason="x",
            due_at=timezone.now() + SOON, by=None,
        )  # fmt: skip
    rollout = actions.apply(
        environment=environment, shown=actions.pending(environment)[0].digest, reason="x", insist=True,
        due_at=timezone.now() + SOON, by=None,
    )  # fmt: skip
    assert let_its_time_come(rollout).state == "requested"


def test_an_app_that_was_stopped_meanwhile_stays_stopped_unless_it_was_asked_for(
    schedule: Any, environment: Environment, owner: Person, place: dict[str, Any], run_rollout: Any
):
    first = schedule("First")
    run_rollout(actions.stop(environment=environment, by=owner))
    first.refresh_from_db()
    assert first.state == "scheduled", "a stop leaves it alone"
    assert run_rollout(let_its_time_come(first)).proof == "delivered"
    assert connect("local-process", place).observe().status == "stopped"
    asked = schedule("Second", start=True)
    assert run_rollout(let_its_time_come(asked)).proof == "reported"


def test_two_workers_begin_it_once(schedule: Any):
    rollout = schedule()
    let_its_time_come(rollout)
    begun = rollout.state_since
    let_its_time_come(rollout)
    assert (rollout.state, rollout.state_since) == ("requested", begun)
    assert Rollout.objects.count() == 1


def test_it_can_be_moved_begun_early_and_cancelled(
    schedule: Any, environment: Environment, owner: Person, run_rollout: Any, add_certificate: Any
):
    rollout = schedule("First")
    later = timezone.now() + timedelta(days=2)
    Rollout.objects.update(reminded_at=timezone.now())
    actions.change_time(rollout=rollout, due_at=later, by=owner)
    rollout.refresh_from_db()
    assert (rollout.due_at, rollout.reminded_at) == (later, None)
    with pytest.raises(Refused, match="has passed"):
        actions.change_time(rollout=rollout, due_at=timezone.now() - SOON, by=owner)
    add_certificate("Second")
    actions.begin_early(rollout=rollout, by=owner)
    rollout = run_rollout(rollout)
    assert rollout.state == "verified"
    assert rollout.steps.first().text == "Begun before its time by Grace"
    assert standing(environment).count == 1, "the second one is no part of it"
    for act in (actions.begin_early, lambda **who: actions.change_time(due_at=later, **who)):
        with pytest.raises(Refused, match="not scheduled any more"):
            act(rollout=rollout, by=owner)
    last = schedule("Third")
    actions.cancel(rollout=last, by=owner)
    last.refresh_from_db()
    assert (last.state, last.missed) == ("cancelled", False)
    said = page(owner, f"/audit/?environment={environment.pk}")
    assert "applied the scheduled revision" in said
    assert "scheduled revision <b>2</b> for" in said


def test_somebody_else_may_begin_it_early_where_its_requester_may_not_any_more(
    schedule: Any, application: Application, owner: Person
):
    ada = Person.objects.create_user("ada", password="x")
    member = Membership.objects.create(person=ada, application=application, role="operator")
    rollout = schedule(by=ada)
    member.delete()
    actions.begin_early(rollout=rollout, by=owner)
    rollout.refresh_from_db()
    assert rollout.state == "requested"


def test_a_look_that_takes_its_time_decides_nothing_about_what_was_moved_meanwhile(
    schedule: Any, owner: Person, monkeypatch: pytest.MonkeyPatch
):
    rollout = schedule()
    note = watching.note_observation

    def moved_meanwhile(*args: Any, **more: Any) -> bool:
        actions.change_time(rollout=Rollout.objects.get(), due_at=timezone.now() + SOON, by=owner)
        return note(*args, **more)

    monkeypatch.setattr(watching, "note_observation", moved_meanwhile)
    assert let_its_time_come(rollout).state == "scheduled"


def test_an_error_of_our_own_leaves_it_to_the_next_sweep(schedule: Any, monkeypatch: pytest.MonkeyPatch):
    rollout = schedule()

    def breaks(*_args: Any, **_more: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(watching, "note_observation", breaks)
    assert let_its_time_come(rollout).state == "scheduled"
    monkeypatch.undo()
    assert let_its_time_come(rollout).state == "requested"


def test_archiving_an_environment_cancels_what_is_scheduled_there(
    schedule: Any, environment: Environment, owner: Person
):
    rollout = schedule()
    assert "Revision 1, which is scheduled, is cancelled." in page(owner, environment.url("environment-archive"))
    actions.archive(environment=environment, by=owner)
    rollout.refresh_from_db()
    assert (rollout.state, rollout.sentence) == (
        "cancelled", "Cancelled, because the environment was archived; nothing was changed.",
    )  # fmt: skip


def test_removing_or_disabling_a_certificate_says_that_it_runs_all_the_same(
    schedule: Any, environment: Environment, owner: Person, run_rollout: Any, add_certificate: Any
):
    rollout = schedule("Bank payments")
    held = environment.certificates.get()
    words = f"It is part of revision 1, scheduled for {due.said(rollout.due_at)}, which runs as it was frozen."
    for address in (held.get_absolute_url(), environment.url("certificate-remove", held.pk)):
        assert words in page(owner, address)
    other = add_certificate("Other")
    assert "It is part of revision" not in page(owner, other.get_absolute_url())
    certificates.remove(certificate=held, by=owner)
    assert run_rollout(let_its_time_come(rollout)).state == "verified"
    running = Destination.objects.get().running
    assert running is not None
    assert [slot.slug for slot in running.frozen.slots] == ["bank-payments"]
    undone = actions.pending(environment)[0].digest
    actions.undo_changes(environment=environment, shown=undone, by=owner)


def test_undoing_changes_leaves_what_is_scheduled(schedule: Any, environment: Environment, owner: Person, apply: Any):
    rollout = schedule()
    actions.undo_changes(environment=environment, shown=actions.pending(environment)[0].digest, by=owner)
    rollout.refresh_from_db()
    assert rollout.state == "scheduled"


# --- Told once --------------------------------------------------------------------------------------------------------


def test_a_reminder_and_a_result_are_told_once(schedule: Any, run_rollout: Any):
    rollout = schedule()
    now = timezone.now()

    def told(of: Callable[..., list[Rollout]], at: Any) -> list[Rollout]:
        with transaction.atomic():
            return of(at)

    assert told(scheduled.reminders, now) == []
    with transaction.atomic():
        assert scheduled.reminders(now + timedelta(hours=2, minutes=1)) == [rollout]
        transaction.set_rollback(True)
    assert told(scheduled.reminders, now + timedelta(hours=2, minutes=1)) == [rollout], "what failed is told again"
    assert told(scheduled.reminders, now + timedelta(hours=2, minutes=2)) == []
    assert told(scheduled.results, now) == []
    run_rollout(let_its_time_come(rollout))
    (ended,) = told(scheduled.results, now)
    assert (ended, ended.state, ended.missed) == (rollout, "verified", False)
    assert told(scheduled.results, now) == []
    with pytest.raises(RuntimeError):
        scheduled.reminders(now)


# --- Asking for it ----------------------------------------------------------------------------------------------------


def test_a_page_takes_the_time_and_loses_nothing_that_was_typed(
    running_app: Destination, environment: Environment, owner: Person, add_certificate: Any
):
    add_certificate()
    client = Client()
    client.force_login(owner)
    address = environment.url("apply")
    shown = actions.pending(environment)[0].digest
    at = due.as_typed(timezone.now() + SOON)
    typed = {"reason": "tonight", "shown": shown, "at": at}
    assert f"In the time zone of this server: {due.zone_in_words()}." in client.get(address).content.decode()
    entered = client.post(address, typed)
    assert entered.status_code == 422, "Enter presses the button for now"
    assert "A time is given: press “Schedule”, or empty it to apply now." in entered.content.decode()
    for wrong, sentence in (("2020-01-01T10:00", "has passed"), ("soon", "Write the time like"), ("", "Say when")):
        refused = client.post(address, typed | {"at": wrong, "when": "later"})
        assert refused.status_code == 422
        assert sentence in refused.content.decode()
        assert f'value="{wrong}"' in refused.content.decode() or not wrong
        assert "tonight" in refused.content.decode()
    assert not Rollout.objects.exists()
    made = client.post(address, typed | {"when": "later"})
    assert made.status_code == 302
    rollout = Rollout.objects.get()
    assert due.as_typed(rollout.due_at) == at
    again = client.post(address, typed | {"when": "later"})
    assert again.headers["Location"] == made.headers["Location"], "a second click meets the first one's"
    there = client.get(made.headers["Location"]).content.decode()
    assert "Change time…" in there
    assert 'hx-trigger="every 10s"' in there
    move = environment.url("rollout-schedule", rollout.pk)
    assert client.post(move, {"what": "time", "at": "x"}).status_code == 422
    tomorrow = due.as_typed(timezone.now() + timedelta(days=1))
    assert client.post(move, {"what": "time", "at": tomorrow}).status_code == 302
    rollout.refresh_from_db()
    assert due.as_typed(rollout.due_at) == tomorrow
    add_certificate("Second")
    newer = typed | {"shown": actions.pending(environment)[0].digest, "when": "later"}
    assert "say that this one replaces it" in client.post(address, newer).content.decode()
    assert client.post(address, newer | {"replace": "on"}).status_code == 302
    assert client.post(move, {"what": "now"}).status_code == 302, "it is scheduled no more, and its page says so"
    assert [r.state for r in Rollout.objects.order_by("created_at")] == ["cancelled", "scheduled"]
    now = environment.url("rollout-schedule", Rollout.objects.get(state="scheduled").pk)
    assert client.post(now, {"what": "now"}).status_code == 302
    assert Rollout.objects.filter(state="requested").count() == 1


def test_only_who_may_apply_moves_it(schedule: Any, environment: Environment, application: Application):
    rollout = schedule()
    eve, ada = (Person.objects.create_user(name, password="x") for name in ("eve", "ada"))
    Membership.objects.create(person=ada, application=application, role="editor")
    for person, status in ((eve, 404), (ada, 403)):
        client = Client()
        client.force_login(person)
        move = environment.url("rollout-schedule", rollout.pk)
        assert client.get(move).status_code == status
        assert client.post(move, {"what": "now"}).status_code == status
        assert client.post(environment.url("rollout-cancel", rollout.pk)).status_code == status
    client = Client()
    client.force_login(ada)
    assert 'id="move"' not in client.get(rollout.get_absolute_url()).content.decode()
    rollout.refresh_from_db()
    assert rollout.state == "scheduled"


def test_a_command_schedules_it(running_app: Destination, environment: Environment, add_certificate: Any):
    add_certificate()
    words = ("apply_environment", "invoicing/acceptance", "--reason", "tonight")
    at = due.as_typed(timezone.now() + SOON)
    assert run(*words, "--at", "tonight")[0] == 1
    assert run(*words, "--at", at, "--wait")[0] == 2
    code, said, _error = run(*words, "--at", at)
    assert code == 0
    assert "Scheduled for " in said
    rollout = Rollout.objects.get()
    assert (rollout.state, rollout.requester) == ("scheduled", None)
    assert "It takes the place of revision 1, which was scheduled." in run(*words)[1]
    rollout.refresh_from_db()
    assert rollout.state == "cancelled"


def test_several_are_scheduled_together_and_follow_one_another(
    schedule: Any, environment: Environment, application: Application, owner: Person, settings: Any, run_rollout: Any,
    add_certificate: Any,
):  # fmt: skip
    settings.LOCAL_PROCESSES = settings.LOCAL_PROCESSES | {
        "second": settings.LOCAL_PROCESSES["tiny"] | {"folder": settings.LOCAL_PROCESSES["tiny"]["folder"] + "-2"}
    }
    other = environments.create_environment(application=application, name="Test", by=owner)
    actions.use_place(environment=other, place="second", by=owner)
    Destination.objects.filter(environment=other).update(wanted_running=False)
    add_certificate("First")
    asked = [(one, actions.pending(one)[0].digest) for one in (environment, other)]
    at = timezone.now() + SOON
    series = actions.apply_to_several(asked=asked, reason="tonight", stop_at_failure=True, due_at=at, by=owner)
    first, second = series.rollouts.order_by("position")
    assert {first.state, second.state} == {"scheduled"}
    assert f"scheduled for {due.said(at)}" in page(owner, series.get_absolute_url())
    let_its_time_come(second)
    assert second.state == "scheduled", "the first one has not ended"
    assert run_rollout(let_its_time_come(first)).state == "verified"
    assert let_its_time_come(second).state == "requested"
    with pytest.raises(Refused, match="None of them waits"):
        actions.cancel_rest(series=series, by=owner)
