"""Platforms of their own: how they are described on a page, what is sealed, and rollouts there from end to end."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.utils import timezone

from audit.models import Event
from certificates import actions as certificates
from certificates import pkcs12
from environments import actions as environments
from environments.models import Environment, Person
from environments.refusals import Refused
from rollouts import actions, moves, tasks, unseal
from rollouts.connectors import ConnectorError, m2ee, mendix_cloud, webhook
from rollouts.models import Destination, Handout, Rollout
from rollouts.outbound import Door
from tests.conftest import PASSWORD
from tests.contracts.worlds import DeployApi, Receiver, Runtime
from vault.models import SealedObject

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

KEY = "Key-0f-the-api"
FORM = {"app": "billing", "mode": "Acceptance", "username": "ops@example.com", "api_key": KEY}


@pytest.fixture
def client_of() -> Callable[[Person], Client]:
    def client_of(person: Person) -> Client:
        client = Client()
        client.force_login(person)
        return client

    return client_of


@pytest.fixture
def other_environment(application: Any, owner: Person) -> Environment:
    return environments.create_environment(application=application, name="Production", by=owner)


@pytest.fixture
def pinned(environment: Environment, owner: Person, add_certificate: Any) -> Callable[[], None]:
    """Pins api.example.com to a new certificate, whose connection is not tested."""

    def pinned() -> None:
        Environment.objects.filter(pk=environment.pk).update(connection_tests="skip")
        target = certificates.read_target(environment=environment, text="api.example.com")
        certificates.pin(environment=environment, target=target, certificate=add_certificate(), by=owner)

    return pinned


@pytest.fixture
def cloud(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeployApi]:
    world = DeployApi(tmp_path)
    monkeypatch.setattr(mendix_cloud, "BASE", world.settings["base"])
    settings.DOORS = settings.DOORS | {"connectors": Door((), {("deploy.test", world.port): ("127.0.0.1", world.port)})}
    unseal._known.clear()
    yield world
    world.close()


@pytest.fixture
def in_the_cloud(cloud: DeployApi, environment: Environment, owner: Person) -> Destination:
    return actions.use_platform(
        environment=environment,
        connector="mendix-cloud",
        exporter="buildpack-env",
        options={name: value for name, value in FORM.items() if name != "api_key"},
        secrets={"api_key": KEY},
        by=owner,
    )


@pytest.fixture
def runtime(
    tmp_path: Path, settings: Any, environment: Environment, owner: Person
) -> Iterator[tuple[Runtime, Destination]]:
    world = Runtime(tmp_path)
    place = {name: world.settings[name] for name in ("folder", "admin")}
    settings.LOCAL_PROCESSES = {
        "orders": {**place, "title": "Orders", "connector": "m2ee", "exporter": "mendix-settings"}
    }
    settings.DOORS = settings.DOORS | {
        "connectors": Door((), {("runtime.test", world.port): ("127.0.0.1", world.port)})
    }
    actions.use_place(environment=environment, place="orders", by=owner)
    destination = actions.set_credentials(
        environment=environment, secrets={"password": world.settings["password"]}, by=owner
    )
    yield world, destination
    world.close()


def until_running(destination: Destination) -> None:
    deadline = time.monotonic() + 15
    while unseal.connected(destination).observe().status != "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)


# --- Describing one ---


def test_a_platform_is_described_on_a_page_and_its_secret_never_shown_again(
    cloud: DeployApi, environment: Environment, client_of: Callable[[Person], Client], owner: Person
):
    client = client_of(owner)
    listed = client.get(environment.url("platforms")).content.decode()
    assert "Mendix Cloud" in listed
    assert "nobody can read it back" in listed
    empty = client.post(environment.url("platform", "mendix-cloud"), {})
    assert empty.status_code == 422
    assert "Fill in “API key”." in empty.content.decode()
    odd = client.post(environment.url("platform", "mendix-cloud"), FORM | {"app": "../v2/apps"})
    assert "Give the app&#x27;s ID" in odd.content.decode()
    assert KEY not in odd.content.decode()
    assert not Destination.objects.filter(environment=environment).exists()

    saved = client.post(environment.url("platform", "mendix-cloud"), FORM)
    assert saved.headers["Location"] == environment.url("platform-check")
    destination = Destination.objects.get(environment=environment)
    assert destination.title == "Mendix Cloud, billing Acceptance"
    assert KEY not in json.dumps(destination.options)
    looked = client.post(environment.url("platform-check")).content.decode()
    for words in ("Reach the platform", "Sign in", "As ops@example.com.", "Read the status", "May restart"):
        assert words in looked
    assert "nothing was restarted" in looked
    assert cloud.calls() == []
    for name in ("platform-check", "environment-settings", "environment"):
        assert KEY not in client.get(environment.url(name)).content.decode()
    again = client.get(environment.url("platform", "mendix-cloud")).content.decode()
    assert KEY not in again
    assert "Entered and sealed" in again
    assert KEY not in str(list(Event.objects.values()))


def test_a_new_key_replaces_the_old_one_and_an_empty_field_keeps_it(
    in_the_cloud: Destination, environment: Environment, client_of: Callable[[Person], Client], owner: Person
):
    client, first = client_of(owner), in_the_cloud.secrets
    assert client.post(environment.url("platform", "mendix-cloud"), FORM | {"api_key": ""}).status_code == 302
    kept = Destination.objects.get(environment=environment)
    assert unseal.secrets_of(kept) == {"api_key": KEY}
    client.post(environment.url("platform", "mendix-cloud"), FORM | {"api_key": "another"})
    changed = Destination.objects.get(environment=environment)
    assert unseal.secrets_of(changed) == {"api_key": "another"}
    assert first is not None
    assert SealedObject.objects.get(pk=first.pk).destroyed_at is not None, "what was replaced is gone"
    looked = client.post(environment.url("platform-check")).content.decode()
    assert "does not know this user or API key" in looked
    assert "The last step failed" in looked


def test_saving_with_the_key_left_empty_still_reaches_the_platform_with_the_old_one(
    in_the_cloud: Destination, environment: Environment, client_of: Callable[[Person], Client], owner: Person
):
    client_of(owner).post(environment.url("platform", "mendix-cloud"), FORM | {"api_key": ""})
    assert Destination.objects.get().observed_status == "stopped"


def test_an_app_on_a_platform_belongs_to_one_environment(
    in_the_cloud: Destination, other_environment: Environment, owner: Person
):
    with pytest.raises(Refused, match="already runs"):
        actions.use_platform(
            environment=other_environment,
            connector="mendix-cloud",
            exporter="buildpack-env",
            options={"app": "Billing", "mode": "acceptance", "username": "x"},
            secrets={"api_key": "y"},
            by=owner,
        )


def test_commands_and_folders_of_this_server_cannot_be_typed_on_a_page(
    environment: Environment, client_of: Callable[[Person], Client], owner: Person
):
    for kind in ("local-process", "directory", "m2ee"):
        assert client_of(owner).get(environment.url("platform", kind)).status_code == 404
        with pytest.raises(Refused):
            actions.use_platform(
                environment=environment, connector=kind, exporter="mendix-settings",
                options={"folder": "/", "admin": "http://127.0.0.1/"}, secrets={}, by=owner,
            )  # fmt: skip


def test_the_credentials_are_opened_once_in_a_while_and_each_time_recorded(
    in_the_cloud: Destination, monkeypatch: pytest.MonkeyPatch
):
    unseal._known.clear()
    for _ in range(3):
        Destination.objects.update(observed_at=None)
        tasks.sweep()
    assert Event.objects.filter(action="credentials.opened").count() == 1
    monkeypatch.setattr(unseal, "REMEMBERED", -1)
    unseal._known.clear()
    Destination.objects.update(observed_at=None)
    tasks.sweep()
    Destination.objects.update(observed_at=None)
    tasks.sweep()
    assert Event.objects.filter(action="credentials.opened").count() == 3


# --- Handing over ---


def test_what_people_upload_is_handed_to_them_and_the_app_restarted_after_they_said_so(
    in_the_cloud: Destination, cloud: DeployApi, environment: Environment, owner: Person, run_rollout: Any,
    client_of: Callable[[Person], Client], pinned: Any, apply: Any,
):  # fmt: skip
    client = client_of(owner)
    unseal.connected(in_the_cloud).start()
    until_running(in_the_cloud)
    Destination.objects.update(wanted_running=True)
    before = cloud.calls()
    pinned()
    rollout = apply()
    assert rollout.state == "handing_over"
    assert cloud.calls() == before, "nothing is restarted before it was uploaded"
    page = client.get(rollout.get_absolute_url()).content.decode()
    assert "It waits for you" in page
    steps = client.get(environment.url("hand-over", rollout.pk)).content.decode()
    assert "Add Client Certificate" in steps
    assert "api.example.com" in steps
    where = environment.url("hand-over", rollout.pk)
    wrong = client.post(where, {"form": "download", "password": "not it"})
    assert "This is not your password" in wrong.content.decode()
    files = client.post(where, {"form": "download", "password": PASSWORD})
    with zipfile.ZipFile(io.BytesIO(files.content)) as archive:
        (pfx,) = [name for name in archive.namelist() if name.endswith(".pfx")]
        password = archive.read("passwords.txt").decode().splitlines()[1].split("\t")[1]
        assert pkcs12.read(archive.read(pfx), password).certificate
    assert Event.objects.filter(action="handover.downloaded").count() == 1

    assert client.post(where, {"form": "done"}).status_code == 302
    rollout = run_rollout(rollout)
    assert (rollout.state, rollout.proof) == ("verified", "confirmed"), rollout.failure
    assert cloud.calls() == [*before, "stop", "start"]
    assert "as the operator confirmed" in client.get(rollout.get_absolute_url()).content.decode()
    assert client.post(where, {"form": "done"}).status_code == 302, "a second click changes nothing"
    assert Event.objects.filter(action="handover.confirmed").count() == 1

    restarted = run_rollout(actions.restart(environment=environment, by=owner))
    assert (restarted.state, restarted.proof) == ("verified", "confirmed"), "nobody can read back what it started with"


def test_an_upload_that_nobody_wants_any_more_is_cancelled(
    in_the_cloud: Destination, cloud: DeployApi, environment: Environment, owner: Person, pinned: Any, apply: Any
):
    pinned()
    rollout = apply(start=True)
    assert rollout.state == "handing_over"
    actions.cancel(rollout=rollout, by=owner)
    rollout.refresh_from_db()
    assert rollout.state == "cancelled"
    assert moves.advance(rollout.pk) is None
    with pytest.raises(Refused, match="does not wait for an upload any more"):
        actions.confirm_handover(rollout=rollout, by=owner)
    with pytest.raises(Refused, match="does not wait for an upload any more"):
        actions.hand_out(rollout=rollout, password="x", by=owner)
    assert cloud.calls() == []


def test_an_app_that_does_not_start_with_what_was_uploaded_is_started_again_and_people_are_called(
    in_the_cloud: Destination, cloud: DeployApi, environment: Environment, owner: Person, run_rollout: Any,
    pinned: Any, apply: Any,
):  # fmt: skip
    pinned()
    rollout = apply(start=True)
    (cloud.state / "fails").write_text("STARTUP_ACTION_FAILED")
    actions.confirm_handover(rollout=rollout, by=owner)
    rollout = run_rollout(rollout)
    assert "the app's own startup action failed" in rollout.failure
    assert rollout.state == "rolling_back"
    (cloud.state / "fails").unlink()
    deadline = time.monotonic() + 30
    while not rollout.is_final and time.monotonic() < deadline:
        Rollout.objects.update(lease_until=None)
        rollout = run_rollout(rollout)
    assert rollout.state == "needs_help"
    assert "Put back by hand" in rollout.sentence
    assert unseal.connected(in_the_cloud).observe().status == "running", "but the app is not left down"


# --- A runtime with an admin port ---


def test_a_runtime_is_restarted_through_its_admin_port_and_the_files_are_the_proof(
    runtime: tuple[Runtime, Destination], pinned: Any, apply: Any, environment: Environment, owner: Person,
    run_rollout: Any, client_of: Callable[[Person], Client],
):  # fmt: skip
    world, destination = runtime
    until_running(destination)
    tasks.sweep()
    pinned()
    before = world.calls()
    rollout = apply()
    assert (rollout.state, rollout.proof) == ("verified", "read-back"), rollout.failure
    assert world.calls()[len(before) :] == ["shutdown", "start"]
    assert rollout.downtime is not None
    again = run_rollout(actions.restart(environment=environment, by=owner))
    assert again.state == "verified", again.failure
    assert world.calls()[len(before) :] == ["shutdown", "start"] * 2
    page = client_of(owner).get(environment.url("environment")).content.decode()
    assert "ask/stop/" not in page, "its supervisor would bring it back, so stopping is not offered"
    with pytest.raises(Refused, match="supervisor"):
        actions.stop(environment=environment, by=owner)


def test_a_glitch_while_the_app_is_watched_sends_nothing_back(
    runtime: tuple[Runtime, Destination], pinned: Any, apply: Any, monkeypatch: pytest.MonkeyPatch
):
    """Reading the files back may fail for a moment, on the way to a platform more than anywhere."""
    _world, destination = runtime
    until_running(destination)
    pinned()
    real, failed = m2ee.M2ee.delivered_digest, []

    def glitch(self: Any) -> str:
        if Rollout.objects.filter(state="verifying").exists() and len(failed) < 2:
            failed.append(True)
            raise ConnectorError("The platform does not answer at the moment.")
        return real(self)

    monkeypatch.setattr(m2ee.M2ee, "delivered_digest", glitch)
    rollout = apply()
    assert len(failed) == 2
    assert (rollout.state, rollout.proof) == ("verified", "read-back"), rollout.failure


def test_a_runtime_whose_password_was_not_entered_is_said_so_before_anything_is_touched(
    runtime: tuple[Runtime, Destination], pinned: Any, apply: Any, environment: Environment, owner: Person
):
    world, destination = runtime
    until_running(destination)
    actions.set_credentials(environment=environment, secrets={"password": "wrong"}, by=owner)
    pinned()
    before = world.calls()
    rollout = apply()
    assert rollout.state == "refused"
    assert "the admin password is wrong" in rollout.failure
    assert world.calls() == before


# --- A receiver of one's own ---


@pytest.fixture
def received(
    tmp_path: Path, settings: Any, environment: Environment, owner: Person, live_server: Any
) -> Iterator[tuple[Receiver, Destination]]:
    world = Receiver(tmp_path)
    settings.ADDRESS = live_server.url
    settings.DOORS = settings.DOORS | {
        "connectors": Door((), {("receiver.test", world.port): ("127.0.0.1", world.port)})
    }
    destination = actions.use_platform(
        environment=environment,
        connector="webhook",
        exporter="pem-bundle",
        options={"url": world.settings["url"], "authorities": ""},
        secrets={"key": world.settings["key"]},
        base_folder="/srv/app",
        by=owner,
    )
    yield world, destination
    world.close()


def test_a_receiver_fetches_the_export_once_and_reports_what_runs(
    received: tuple[Receiver, Destination], pinned: Any, apply: Any, environment: Environment, client: Client
):
    world, _destination = received
    pinned()
    rollout = apply(start=True)
    assert (rollout.state, rollout.proof) == ("verified", "reported"), rollout.failure
    assert world.calls() == ["start"]
    assert Event.objects.filter(action="export.fetched").count() == 1
    assert Handout.objects.get().fetched_at is not None
    assert world.settings["key"] not in str(list(Event.objects.values()))


def test_an_address_to_fetch_from_is_good_once_for_who_can_sign_and_not_for_long(
    received: tuple[Receiver, Destination], pinned: Any, apply: Any, environment: Environment, client: Client
):
    world, _destination = received
    pinned()
    rollout = apply(start=True)
    assert rollout.bundle is not None
    files = unseal.open_bundle(rollout.bundle, reason="test")
    key = webhook.signing_key(world.settings["key"])

    def fetch(address: str, key: bytes = key) -> int:
        headers = {f"HTTP_{k.upper().replace('-', '_')}": v for k, v in webhook.signed(key, b"").items()}
        return client.get(urlsplit(address).path, **headers).status_code

    address = unseal.hand_out(environment.pk, files)
    assert client.get(urlsplit(address).path).status_code == 404, "not signed"
    assert fetch(address, b"another key that is long enough") == 404
    assert fetch(address) == 200
    assert fetch(address) == 404, "once"
    late = unseal.hand_out(environment.pk, files)
    Handout.objects.filter(fetched_at=None).update(expires_at=timezone.now())
    assert fetch(late) == 404
    assert fetch("/hooks/exports/nothing/") == 404


def test_a_report_is_taken_from_who_can_sign_it_and_from_nobody_else(
    received: tuple[Receiver, Destination], client: Client
):
    world, destination = received
    where = f"/hooks/reports/{destination.pk}/"
    body = json.dumps({"status": "running", "incarnation": "7"}).encode()
    key = webhook.signing_key(world.settings["key"])

    def send(headers: dict[str, str], body: bytes = body) -> int:
        named = {f"HTTP_{k.upper().replace('-', '_')}": v for k, v in headers.items()}
        return client.post(where, body, content_type="application/json", **named).status_code

    old = webhook.signed(key, body) | {"webhook-timestamp": "1700000000"}
    assert [send({}), send(webhook.signed(key, b"other")), send(old)] == [404, 404, 404]
    assert Destination.objects.get().memory == ""
    assert send(webhook.signed(key, body)) == 204
    assert '"incarnation": "7"' in Destination.objects.get().memory
    assert send(webhook.signed(key, b"[]"), b"[]") == 422


def test_a_key_that_is_too_short_is_refused_when_it_is_entered(
    environment: Environment, owner: Person, client_of: Callable[[Person], Client]
):
    answer = client_of(owner).post(
        environment.url("platform", "webhook"),
        {"url": "https://receiver.example.com/orders", "key": "short", "exporter": "pem-bundle"},
    )
    assert answer.status_code == 422
    assert "fewer than 24 bytes" in answer.content.decode()
    assert not Destination.objects.exists()
