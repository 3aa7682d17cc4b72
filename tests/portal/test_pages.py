"""Signing in, the home page, an application's page, the audit log, and what stands where no page is."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client, RequestFactory
from django.utils import timezone
from django.views import defaults

from audit import trail
from audit.actors import PORTAL
from audit.models import Event
from certificates.models import Version
from environments import actions
from environments.models import Application, Environment, Person
from portal.sentences import ACTIONS, sentence
from rollouts.models import Destination
from tests.conftest import PASSWORD

ROOT = Path(__file__).resolve().parent.parent.parent


def signed_in(person: Person) -> Client:
    client = Client()
    client.force_login(person)
    return client


def text_of(answer: Any) -> str:
    """The words of a page, without tags, blanks folded."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def sign_in(name: str, password: str, **more: Any) -> Any:
    return Client().post("/sign-in/", {"name": name, "password": password}, **more)


# --- Signing in -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_every_page_leads_a_stranger_to_the_sign_in_and_back(owner: Person) -> None:
    client = Client()
    answer = client.get("/audit/?refused=on")
    assert answer.headers["Location"] == "/sign-in/?next=/audit/%3Frefused%3Don"
    page = client.get(answer.headers["Location"]).content.decode()
    assert 'name="next" value="/audit/?refused=on"' in page
    typed = {"name": "grace", "password": PASSWORD, "next": "/audit/?refused=on"}
    assert client.post("/sign-in/", typed).headers["Location"] == "/audit/?refused=on"


@pytest.mark.django_db
@pytest.mark.parametrize("elsewhere", ["https://example.com/", "//example.com", "javascript:alert(1)"])
def test_signing_in_never_leads_away_from_the_portal(owner: Person, elsewhere: str) -> None:
    answer = Client().post("/sign-in/", {"name": "grace", "password": PASSWORD, "next": elsewhere})
    assert answer.headers["Location"] == "/"


@pytest.mark.django_db
def test_names_are_matched_without_regard_to_case_and_passwords_with_it(owner: Person) -> None:
    assert sign_in("GRACE", PASSWORD).status_code == 302
    assert sign_in("grace", PASSWORD.upper()).status_code == 422


@pytest.mark.django_db
def test_a_wrong_password_an_unknown_name_and_a_locked_out_person_get_the_same_answer(owner: Person) -> None:
    Person.objects.create_user("eve", password=PASSWORD, is_active=False)
    answers = [sign_in("grace", "wrong"), sign_in("nobody", "wrong"), sign_in("eve", PASSWORD)]
    assert {answer.status_code for answer in answers} == {422}
    pages = {
        re.sub(r'(csrfmiddlewaretoken" value="|name="name" value=")[^"]*', "", answer.content.decode())
        for answer in answers
    }
    assert len(pages) == 1
    assert "Name and password do not match; check both, then try again." in pages.pop()


@pytest.mark.django_db
def test_signing_in_and_out_is_recorded_with_the_address(owner: Person) -> None:
    client = Client(REMOTE_ADDR="192.0.2.7")
    client.post("/sign-in/", {"name": "grace", "password": PASSWORD})
    client.post("/sign-out/")
    assert client.get("/").status_code == 302
    events = list(Event.objects.filter(subject_id=str(owner.pk)).order_by("pk"))
    assert [event.action for event in events] == ["person.signed-in", "person.signed-out"]
    assert all('"address":"192.0.2.7"' in event.body for event in events)


@pytest.mark.django_db
def test_a_failed_attempt_is_recorded_without_the_password_and_without_a_name_that_nobody_has(owner: Person) -> None:
    sign_in("grace", "a wrong password")
    sign_in("my password typed into the wrong field", "grace")
    known, unknown = Event.objects.filter(action="person.sign-in-refused", refused=True).order_by("pk")
    assert known.subject_id == str(owner.pk)
    assert unknown.subject_id == ""
    for event in (known, unknown):
        assert "wrong" not in event.body
        assert event.actor_id == ""


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["grace", "nobody"])
def test_ten_failed_attempts_pause_this_name_at_this_address_for_five_minutes(owner: Person, name: str) -> None:
    for _attempt in range(10):
        assert sign_in(name, "wrong").status_code == 422
    paused = sign_in(name.upper(), PASSWORD)
    assert paused.status_code == 429
    assert "Too many attempts with this name failed; wait 5 minutes" in paused.content.decode()
    # Another address, and another name, are not concerned.
    assert sign_in(name, "wrong", REMOTE_ADDR="192.0.2.7").status_code == 422
    assert sign_in("somebody-else", "wrong").status_code == 422
    Event.objects.filter(action="person.sign-in-refused").update(at=timezone.now() - timedelta(minutes=5, seconds=1))
    assert sign_in(name, PASSWORD).status_code == (302 if name == "grace" else 422)


@pytest.mark.django_db
def test_signing_in_in_time_starts_the_count_anew(owner: Person) -> None:
    for _round in range(2):
        for _attempt in range(9):
            sign_in("grace", "wrong")
        assert sign_in("grace", PASSWORD).status_code == 302


@pytest.mark.django_db
def test_a_part_of_a_page_whose_session_ended_loads_the_whole_page_anew() -> None:
    answer = Client().get("/sign-in/", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Refresh"]) == (204, "true")


@pytest.mark.django_db
def test_a_one_time_password_leads_to_one_of_ones_own_and_nowhere_else(owner: Person) -> None:
    _person, password = actions.create_person(username="linus", by=owner)
    client = Client()
    client.post("/sign-in/", {"name": "linus", "password": password})
    for address in ("/", "/apps/new/", "/audit/"):
        assert client.get(address).headers["Location"] == "/change-password/"
    own = "a sentence nobody guesses"
    answer = client.post("/change-password/", {"current": password, "new": own, "again": own}, follow=True)
    assert answer.redirect_chain == [("/", 302)]
    assert sign_in("linus", password).status_code == 422
    assert sign_in("linus", own).status_code == 302


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"current": "wrong"}, "This is not your current password."),
        ({"new": "short", "again": "short"}, "too short"),
        ({"new": PASSWORD, "again": PASSWORD}, "The new password is the current one; choose another."),
        ({"again": "something else"}, "The two new passwords differ; type both anew."),
    ],
)
def test_a_password_that_cannot_be_is_refused_and_the_old_one_holds(
    owner: Person, typed: dict[str, str], sentence: str
) -> None:
    values = {"current": PASSWORD, "new": "a sentence nobody guesses", "again": "a sentence nobody guesses"} | typed
    answer = signed_in(owner).post("/change-password/", values)
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert not any(f'value="{value}"' in answer.content.decode() for value in values.values())
    owner.refresh_from_db()
    assert owner.check_password(PASSWORD)


@pytest.mark.django_db
def test_changing_the_password_keeps_this_session_and_ends_the_others(owner: Person) -> None:
    here, elsewhere = signed_in(owner), signed_in(owner)
    new = "a sentence nobody guesses"
    here.post("/change-password/", {"current": PASSWORD, "new": new, "again": new})
    assert here.get("/").status_code == 200
    assert elsewhere.get("/").status_code == 302


@pytest.mark.django_db
def test_ten_wrong_current_passwords_pause_the_change_of_this_person_for_five_minutes(owner: Person) -> None:
    new = "a sentence nobody guesses"
    typed = {"current": PASSWORD, "new": new, "again": new}
    client = signed_in(owner)
    for number in range(10):
        assert client.post("/change-password/", typed | {"current": f"guess {number}"}).status_code == 422
    refused = Event.objects.filter(action="person.password-refused", refused=True, actor_id=str(owner.pk))
    assert refused.count() == 10
    assert not any("guess" in event.body for event in refused)

    paused = client.post("/change-password/", typed)

    assert paused.status_code == 429
    assert "Too many wrong passwords; wait 5 minutes, then try again." in paused.content.decode()
    owner.refresh_from_db()
    assert owner.check_password(PASSWORD)
    # Another person is not concerned, and the pause ends.
    ada = Person.objects.create_user("ada", password=PASSWORD)
    assert signed_in(ada).post("/change-password/", typed).status_code == 302
    Event.objects.filter(action="person.password-refused").update(at=timezone.now() - timedelta(minutes=5, seconds=1))
    assert client.post("/change-password/", typed).status_code == 302


# --- Home, and an application -----------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_first_page_says_what_this_is_and_offers_the_sandbox_where_there_is_one(
    owner: Person, settings: Any
) -> None:
    settings.SANDBOX = False
    page = signed_in(owner).get("/").content.decode()
    assert "Which certificate does your app show to whom? Keep that here." in page
    assert 'href="/apps/new/"' in page
    assert "Try the sandbox" not in page
    settings.SANDBOX, settings.SANDBOX_PORT = True, 9123
    page = signed_in(owner).get("/").content.decode()
    assert "Try the sandbox, 3 minutes" in page
    assert 'href="http://127.0.0.1:9123/"' in page
    assert page.count("<li><b>") == 5


@pytest.mark.django_db(transaction=True)
def test_home_shows_each_environment_with_both_chips_its_badge_and_its_next_expiry(
    environment: Environment, owner: Person, add_certificate: Any
) -> None:
    add_certificate("Bank payments", not_after=timezone.now() + timedelta(days=300, hours=1))
    actions.change_environment(environment=environment, name="Live", production=True, runtime_version="", by=owner)
    words = text_of(signed_in(owner).get("/"))
    assert re.search(r"Invoicing\s+Live\s+Production\s+Export only\s+Certificates OK .* 300 d", words)
    assert "Needs you" not in words


@pytest.mark.django_db(transaction=True)
def test_what_needs_a_person_stands_worst_first(environment: Environment, owner: Person, add_certificate: Any) -> None:
    now = timezone.now()
    for name, before, after in (("Soon", -300, 12), ("Gone", -300, -1), ("Fine", -1, 300)):
        add_certificate(name, not_before=now + timedelta(days=before), not_after=now + timedelta(days=after))
    Destination.objects.create(
        environment=environment, connector="local-process", exporter="mendix-settings", place="tiny",
        wanted_running=True, observed_status="unreachable", observed_at=now - timedelta(days=3),
    )  # fmt: skip
    page = signed_in(owner).get("/")
    words = text_of(page)
    for certificate in environment.certificates.filter(name__in=["Gone", "Soon"]):
        link = environment.url("certificate", certificate.pk)
        assert f'<a href="{link}"><b>{certificate.name}</b></a>' in page.content.decode(), "the name leads to it"
    assert words.index("Needs you") < words.index("Gone in") < words.index("no answer") < words.index("Soon in")
    assert "Fine in" not in words
    assert words.count("Upload renewal") == 2


@pytest.mark.django_db(transaction=True)
def test_a_renewal_that_is_ready_is_said_and_not_asked_for_again(
    environment: Environment, owner: Person, add_certificate: Any
) -> None:
    from certificates import actions as certificates
    from certificates import pkcs12
    from tests import pki

    now = timezone.now()
    soon = {"not_before": now - timedelta(days=300), "not_after": now + timedelta(days=12)}
    certificate = add_certificate("Soon", **soon)
    file = pki.pfx(pki.issue("Soon", authority=pki.make_authority("Partner CA")), "secret")
    certificates.renew(certificate=certificate, identity=pkcs12.read(file, "secret"), in_use=False, by=owner)
    assert Version.objects.filter(certificate=certificate).count() == 2
    words = text_of(signed_in(owner).get("/"))
    assert "a renewal is ready" in words
    assert "Upload renewal" not in words


@pytest.mark.django_db(transaction=True)
def test_a_viewer_is_shown_what_is_wrong_and_no_button_that_cannot_work(
    application: Application, owner: Person, add_certificate: Any
) -> None:
    now = timezone.now()
    add_certificate("Gone", not_before=now - timedelta(days=300), not_after=now - timedelta(days=1))
    ada = Person.objects.create_user("ada", password=PASSWORD)
    actions.add_member(application=application, person=ada, role="viewer", by=owner)
    words = text_of(signed_in(ada).get("/"))
    assert "Expired Gone in Invoicing / Acceptance" in words
    assert "Upload renewal" not in words
    page = signed_in(ada).get("/apps/invoicing/").content.decode()
    assert 'href="/apps/invoicing/new/"' not in page
    assert "You may not change members and settings here; ask Grace." in page


@pytest.mark.django_db(transaction=True)
def test_home_asks_as_much_of_the_database_for_many_environments_as_for_one(
    application: Application, environment: Environment, owner: Person, add_certificate: Any
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    now = timezone.now()
    add_certificate("Soon", not_before=now - timedelta(days=300), not_after=now + timedelta(days=12))
    client = signed_in(owner)
    with CaptureQueriesContext(connection) as few:
        client.get("/")
    for number in range(5):
        other = actions.create_application(name=f"App {number}", by=owner)
        for name in ("Test", "Production"):
            placed = actions.create_environment(application=other, name=name, by=owner)
            Destination.objects.create(
                environment=placed, connector="local-process", exporter="mendix-settings", place=f"{number}{name}"
            )
        add_certificate(f"Soon {number}", not_before=now - timedelta(days=300), not_after=now + timedelta(days=9))
    with CaptureQueriesContext(connection) as many:
        assert "App 4" in client.get("/").content.decode()
    assert len(many) == len(few)


@pytest.mark.django_db(transaction=True)
def test_a_new_environment_runs_on_the_chosen_place_and_takes_it(
    application: Application, owner: Person, place: dict[str, Any]
) -> None:
    client = signed_in(owner)
    typed = {"name": "Acceptance", "production": "on", "runtime_version": "10.12.3", "place": "tiny"}
    answer = client.post("/apps/invoicing/new/", typed)
    assert answer.headers["Location"] == "/apps/invoicing/acceptance/"
    environment = Environment.objects.get(slug="acceptance")
    assert (environment.production, environment.runtime_version) == (True, "10.12.3")
    assert environment.destination.place == "tiny"
    page = client.get("/apps/invoicing/new/").content.decode()
    assert "Tiny app" not in page
    assert "settings list is taken" in page
    taken = client.post("/apps/invoicing/new/", {"name": "Second", "place": "tiny"})
    assert taken.status_code == 422
    assert not Environment.objects.filter(name="Second").exists()


@pytest.mark.django_db
def test_where_there_is_a_free_place_a_person_chooses(application: Application, owner: Person, settings: Any) -> None:
    settings.LOCAL_PROCESSES = {"somewhere": {"title": "Somewhere"}}
    client = signed_in(owner)
    answer = client.post("/apps/invoicing/new/", {"name": "Test"})
    assert answer.status_code == 422
    assert "Choose a place, or “Export only”." in answer.content.decode()
    assert client.post("/apps/invoicing/new/", {"name": "Test", "place": "export-only"}).status_code == 302
    assert not Destination.objects.exists()


@pytest.mark.django_db
def test_an_environment_name_that_exists_is_refused_with_all_that_was_typed(
    environment: Environment, owner: Person
) -> None:
    typed = {"name": "acceptance", "runtime_version": "10.1", "production": "on", "place": "export-only"}
    answer = signed_in(owner).post("/apps/invoicing/new/", typed)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "already has an environment with this name" in page
    assert 'value="10.1"' in page
    assert page.count("checked") == 2


@pytest.mark.django_db
def test_archived_environments_stay_reachable_from_their_application(environment: Environment, owner: Person) -> None:
    actions.archive_environment(environment=environment, by=owner)
    page = signed_in(owner).get("/apps/invoicing/").content.decode()
    assert "Archived" in page
    assert 'href="/apps/invoicing/acceptance/"' in page
    assert "Acceptance" not in signed_in(owner).get("/").content.decode()


# --- The audit log ----------------------------------------------------------------------------------------------------


def actions_in_the_code() -> set[str]:
    """Every name of an action that stands beside a call to the trail, or to what records openings of the vault."""
    names = set()
    for folder in ("environments", "certificates", "rollouts", "portal", "vault"):
        for file in (ROOT / folder).rglob("*.py"):
            source = file.read_text()
            if "trail." in source or "recorder(" in source:
                for first in re.findall(r"(?:record|refused|recorder)\(([^,]+),", source):
                    names |= set(re.findall(r'"([a-z]+\.[a-z-]+)"', first))
    return names


def test_every_action_in_the_code_has_a_sentence() -> None:
    found = actions_in_the_code()
    assert {
        "pin.added",
        "key.opened",
        "certificate.renewed",
        "person.locked-out",
        "person.let-in",
        "export.refused",
    } <= found
    assert found <= set(ACTIONS)
    from rollouts.states import FINAL

    assert {f"rollout.{state.replace('_', '-')}" for state in FINAL} <= set(ACTIONS)


def test_every_sentence_is_whole_without_any_detail_that_an_older_event_may_lack() -> None:
    for action in [*ACTIONS, "thing.nobody-knows"]:
        words = sentence(Event(action=action, subject="<Thing>"), {})
        assert "{" not in words
        assert "<Thing>" not in words


@pytest.mark.django_db(transaction=True)
def test_the_log_tells_who_did_what_where_in_a_sentence(
    environment: Environment, owner: Person, add_certificate: Any
) -> None:
    add_certificate("Bank <payments>")
    words = text_of(signed_in(owner).get("/audit/"))
    assert "grace added the certificate Bank &lt;payments&gt; Details" in words
    assert "grace created the application Invoicing" in words


@pytest.mark.django_db
def test_filters_live_in_the_address_and_narrow_together(environment: Environment, owner: Person) -> None:
    ada = Person.objects.create_user("ada", password=PASSWORD)
    trail.refused("access.refused", by=ada, subject=environment, right="own")
    client = signed_in(owner)

    def actions_shown(query: str) -> set[str]:
        page = client.get(f"/audit/?{query}").content.decode()
        return set(re.findall(r'<span class="mono">([a-z]+\.[a-z-]+)</span>', page))

    application = str(environment.application.pk)
    assert actions_shown("refused=on") == {"access.refused"}
    assert actions_shown("who=GRACE") == {"application.created", "environment.created"}
    assert actions_shown("action=environment.created") == {"environment.created"}
    assert actions_shown(f"application={application}&who=ada") == {"access.refused"}
    assert actions_shown("q=acceptance&who=grace") == {"environment.created"}
    assert actions_shown("q=nothing-like-this") == set()
    assert client.get("/audit/?action=no-such-action").status_code == 422


@pytest.mark.django_db
def test_the_log_shows_only_what_its_reader_may_see(
    application: Application, environment: Environment, owner: Person
) -> None:
    other = actions.create_application(name="Elsewhere", by=owner)
    actions.create_environment(application=application, name="Sibling", by=owner)
    ada = Person.objects.create_user("ada", password=PASSWORD)
    stranger = signed_in(ada).get("/audit/").content.decode()
    assert "Invoicing" not in stranger
    actions.add_member(application=application, person=ada, role="viewer", environment=environment, by=owner)
    page = signed_in(ada).get("/audit/").content.decode()
    assert "created the environment <b>Invoicing / Acceptance</b>" in page
    assert "Sibling" not in page
    actions.add_member(application=application, person=ada, role="viewer", by=owner)
    page = signed_in(ada).get(f"/audit/?application={application.pk}").content.decode()
    assert "Sibling" in page
    assert "Elsewhere" not in signed_in(ada).get("/audit/").content.decode()
    # Somebody else's account is not hers to read about; an application that she cannot see is no filter.
    assert "Grace" not in re.findall(r"locked <b>(.*?)</b>", page)
    assert signed_in(ada).get(f"/audit/?application={other.pk}").status_code == 422


@pytest.mark.django_db
def test_the_log_is_turned_fifty_events_at_a_time_in_both_directions(application: Application, owner: Person) -> None:
    for number in range(119):
        trail.refused("test.counted", by=PORTAL, subject=application, number=number)
    client = signed_in(owner)

    def turn(address: str) -> tuple[list[int], dict[str, str]]:
        page = client.get(address).content.decode()
        found = re.findall(r'href="(\?[^"]*)">(Newer|Older)<', page)
        links = {words: href.replace("&amp;", "&") for href, words in found}
        return [int(pk) for pk in re.findall(r'id="event-(\d+)"', page)], links

    first, links = turn("/audit/?refused=on")
    assert (len(first), set(links)) == (50, {"Older"})
    second, links = turn(f"/audit/{links['Older']}")
    assert (len(second), set(links)) == (50, {"Newer", "Older"})
    third, third_links = turn(f"/audit/{links['Older']}")
    assert (len(third), set(third_links)) == (19, {"Newer"})
    assert first + second + third == sorted(first + second + third, reverse=True)
    assert turn(f"/audit/{third_links['Newer']}")[0] == second
    assert turn(f"/audit/{links['Newer']}")[0] == first
    assert "refused=on" in links["Older"]


# --- Where no page is -------------------------------------------------------------------------------------------------


def test_the_page_for_a_failure_needs_no_database_and_no_request() -> None:
    answer = defaults.server_error(RequestFactory().get("/"))
    assert answer.status_code == 500
    assert "This went wrong on our side" in answer.content.decode()


def test_the_page_for_a_request_that_cannot_be_read_needs_neither() -> None:
    answer = defaults.bad_request(RequestFactory().get("/"), ValueError())
    assert "This request cannot be read" in answer.content.decode()


@pytest.mark.django_db
def test_an_unknown_address_is_told_in_the_products_look(owner: Person) -> None:
    for client in (Client(), signed_in(owner)):
        answer = client.get("/no/such/page/")
        assert answer.status_code == 404
        assert "Nothing here, or nothing for you" in answer.content.decode()


@pytest.mark.django_db
def test_a_form_from_an_old_page_is_told_in_the_products_look(owner: Person) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    answer = client.post("/apps/new/", {"name": "X"})
    assert answer.status_code == 403
    assert "This page is too old" in answer.content.decode()
    assert not Application.objects.exists()


@pytest.mark.django_db
def test_a_form_sent_after_the_session_ended_leads_to_the_sign_in_and_back(owner: Person) -> None:
    client = Client(enforce_csrf_checks=True)
    answer = client.post("/apps/new/", {"name": "X"})
    assert answer.status_code == 403
    assert "Your session has ended" in answer.content.decode()
    assert 'href="/sign-in/?next=/apps/new/"' in answer.content.decode()
    sent = client.post("/sign-in/", {"name": "grace"}).content.decode()
    assert 'href="/sign-in/"' in sent, "not back to the sign-in after the sign-in"


@pytest.mark.django_db
def test_every_page_carries_the_policy_that_only_our_own_files_run(owner: Person) -> None:
    answer = signed_in(owner).get("/")
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    page = answer.content.decode()
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", page)
