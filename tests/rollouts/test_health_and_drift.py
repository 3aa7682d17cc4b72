"""The app's own page after a restart, and what others change by the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from environments.models import Environment, Person
from environments.refusals import Refused
from rollouts import actions, tasks
from rollouts.connectors import connect
from rollouts.models import Destination, Rollout
from rollouts.outbound import Door

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


class Page:
    """The app's page: what it answers, and how often it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = [(200, b"all is well")]
        self.asked = 0


@pytest.fixture
def page(settings: Any) -> Iterator[Page]:
    page = Page()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = page.answers[min(page.asked, len(page.answers) - 1)]
            page.asked += 1
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    places = {("app.test", 80): ("127.0.0.1", server.server_port)}
    settings.DOORS = settings.DOORS | {"health": Door((), places)}
    yield page
    server.shutdown()


@pytest.fixture
def checked(running_app: Destination, environment: Environment, owner: Person, page: Page) -> Page:
    actions.set_health_check(
        environment=environment, url="http://app.test/health?deep=1", status=200, text="well", seconds=5, by=owner
    )
    return page


def steps(rollout: Rollout) -> list[str]:
    return [step.text for step in rollout.steps.all() if step.text.startswith("Health check")]


def test_a_page_that_answers_is_part_of_the_evidence(
    checked: Page, add_certificate: Callable[..., Any], apply: Callable[..., Rollout]
):
    checked.answers = [(503, b"coming up"), (503, b"coming up"), (200, b"all is well")]
    add_certificate()
    rollout = apply()
    assert rollout.state == "verified", rollout.failure
    assert checked.asked == 3
    assert steps(rollout) == ["Health check: http://app.test/health?deep=1 answered 200."]


@pytest.mark.parametrize(
    ("answer", "words"),
    [((500, b"well"), "answered 500; 200 was expected."), ((200, b"ill"), "answered 200, without “well” in it.")],
)
def test_an_app_that_is_not_well_in_time_goes_back(
    checked: Page,
    add_certificate: Callable[..., Any],
    apply: Callable[..., Rollout],
    answer: tuple[int, bytes],
    words: str,
    place: dict[str, Any],
):
    checked.answers = [answer]
    add_certificate()
    rollout = apply()
    assert rollout.state == "rolled_back"
    assert "The app came up, but not well within 5 seconds." in rollout.failure
    assert words in rollout.failure
    assert steps(rollout)[-1].endswith(words), "the same is asked again after the going back"
    assert rollout.previous_bundle is not None
    assert connect("local-process", place).observe().digest == rollout.previous_bundle.digest


def test_a_health_check_that_cannot_be_asked_says_why(
    running_app: Destination, environment: Environment, owner: Person
):
    for url in ("ftp://app.test/", "http://user@app.test/", "http://app.test/a b", "health"):
        with pytest.raises(Refused, match="is not an address like"):
            actions.set_health_check(environment=environment, url=url, status=200, text="", seconds=5, by=owner)
    client = Client()
    client.force_login(owner)
    where = environment.url("environment-settings")
    form = {"form": "health", "url": "https://app.example.com/health", "status": "204", "text": "", "seconds": "30"}
    assert client.post(where, form).status_code == 302
    assert "https://app.example.com/health" in client.get(where).content.decode()
    wrong = client.post(where, form | {"seconds": "100000", "url": "nowhere"})
    assert wrong.status_code == 422
    assert "less than or equal to 600" in wrong.content.decode()
    assert 'value="nowhere"' in wrong.content.decode(), "what was typed stays"


def test_it_is_said_since_when_an_app_is_away(
    running_app: Destination, environment: Environment, owner: Person, place: dict[str, Any]
):
    connect("local-process", place).stop()
    for _look in range(2):
        Destination.objects.update(observed_at=None)
        tasks.sweep()
    away = Destination.objects.get()
    assert away.away_since is not None
    Destination.objects.update(observed_at=None, away_since=timezone.now() - timedelta(hours=3))
    tasks.sweep()
    kept = Destination.objects.get().away_since
    assert kept is not None
    assert timezone.now() - kept > timedelta(hours=2), "the first look counts"
    client = Client()
    client.force_login(owner)
    assert "Not answering" in client.get(environment.url("environment")).content.decode()
    connect("local-process", place).start()
    while Destination.objects.get().observed_status != "running":
        Destination.objects.update(observed_at=None)
        tasks.sweep()
    assert Destination.objects.get().away_since is None


def test_files_that_others_change_are_seen_where_the_app_reports_nothing(
    running_app: Destination,
    environment: Environment,
    owner: Person,
    add_certificate: Callable[..., Any],
    apply: Callable[..., Rollout],
    place: dict[str, Any],
):
    place["behaviour"].write_text(json.dumps({"answer": json.dumps({"status": "running"})}))
    add_certificate()
    rollout = apply()
    assert (rollout.state, rollout.proof) == ("verified", "read-back"), rollout.failure
    Destination.objects.update(observed_at=None)
    tasks.sweep()
    assert not Destination.objects.select_related("bundle").get().has_drifted
    delivered = next(path for path in (Path(place["folder"]) / "current").rglob("*") if path.is_file())
    delivered.write_bytes(b"changed by others")
    Destination.objects.update(observed_at=None)
    tasks.sweep()
    assert not Destination.objects.select_related("bundle").get().has_drifted, "not read at every look"
    Destination.objects.update(observed_at=None, files_read_at=timezone.now() - timedelta(minutes=6))
    tasks.sweep()
    drifted = Destination.objects.select_related("bundle").get()
    assert drifted.has_drifted
    assert drifted.drifted_since is not None
    client = Client()
    client.force_login(owner)
    shown = client.get(environment.url("environment")).content.decode()
    assert "Changed outside Countersign" in shown
    assert "What lies there is not what was delivered." in shown
    assert not Rollout.objects.filter(state="requested").exists(), "and nothing is put right by itself"


def test_what_we_applied_ourselves_is_no_change_by_others(
    running_app: Destination,
    environment: Environment,
    add_certificate: Callable[..., Any],
    apply: Callable[..., Rollout],
    owner: Person,
    client: Client,
) -> None:
    add_certificate("Bank")
    assert apply().state == "verified"
    add_certificate("Tax")
    assert apply().state == "verified"
    client.force_login(owner)
    page = client.get(environment.get_absolute_url()).content.decode()
    assert "Up to date" in page
    assert "Changed outside Countersign" not in page
