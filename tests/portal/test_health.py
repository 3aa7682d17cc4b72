"""/healthz and /readyz for whoever watches, and the owners' page that says the same in words."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from certificates.models import Draft
from environments import actions
from environments.models import Application, Environment, Person
from notices.models import Channel, Message, Watch
from portal.health import parts, probes, readiness
from portal.health.page import TIMES
from rollouts import pulses
from rollouts.models import Destination, Pulse, Rollout
from tests.conftest import PASSWORD
from vault.keyrings import local
from vault.models import SealedObject

pytestmark = pytest.mark.django_db(transaction=True)

PARTS = {"database", "storage", "vault_key", "broker", "worker", "clock"}


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test looks for itself; what one process saw in another test is forgotten. A busy machine is no finding."""
    for limit in ("LIMIT", "DATABASE_LIMIT", "BROKER_LIMIT"):
        monkeypatch.setattr(probes, limit, 30.0)
    monkeypatch.setattr(probes, "PROBES", probes.fresh())
    monkeypatch.setattr(readiness, "CHANGES", readiness.Changes())
    # Whoever has not shown themselves since then had their time.
    monkeypatch.setattr(parts, "STARTED", timezone.now() - timedelta(hours=1))


def look_again() -> None:
    probes.PROBES.clear()
    probes.PROBES.update(probes.fresh())


@pytest.fixture(autouse=True)
def somebody_works() -> None:
    seen("worker", pid=1)
    seen("clock", pid=2)
    seen("sweep")
    seen("tidy")


def seen(kind: str, *, pid: int = 0, ago: float = 0, host: str = "host-a") -> None:
    name = f"{kind}@{host}:{pid}" if pid else kind
    at = timezone.now() - timedelta(seconds=ago)
    Pulse.objects.update_or_create(
        name=name, defaults={"kind": kind, "host": host if pid else "", "pid": pid, "since": at, "at": at}
    )


def ready() -> tuple[int, dict[str, str]]:
    answer = Client().get("/readyz")
    return answer.status_code, json.loads(answer.content)


def signed_in(person: Person) -> Client:
    client = Client()
    client.force_login(person)
    return client


def parts_of(person: Person) -> dict[str, str]:
    """The words of each part of the page, in its order."""
    answer = signed_in(person).get("/health/")
    assert answer.status_code == 200
    found = re.findall(r'<tr id="part-([a-z_]+)">(.*?)</tr>', answer.content.decode(), re.DOTALL)
    return {key: re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)).strip() for key, row in found}


# --- The end points ---------------------------------------------------------------------------------------------------


def test_they_answer_a_health_check_that_knows_no_name_and_no_tls_and_open_nothing_else(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["countersign.example"]
    settings.SECURE_SSL_REDIRECT = True
    client = Client(headers={"Host": "10.1.2.3:8000"})
    for address in ("/healthz", "/readyz"):
        answer = client.get(address)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert not answer.cookies
        assert client.head(address).status_code == 200
        assert client.post(address).status_code == 405
    for address in ("/sign-in/", "/healthz/", "/health/", "/readyz/x"):
        assert client.get(address).status_code == 400, address


def test_strangers_learn_of_each_part_whether_it_is_ok_and_nothing_else() -> None:
    assert ready() == (200, dict.fromkeys(PARTS, "ok"))
    look_again()
    Pulse.objects.all().delete()
    answer = Client().get("/readyz").content.decode()
    assert set(re.findall("[a-z_]+", answer)) == PARTS | {"ok", "not"}


def test_the_process_answers_though_the_database_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "NAME", "/no/such/folder/there")
    with CaptureQueriesContext(connection) as queries:
        assert Client().get("/healthz").status_code == 200
    assert not queries.captured_queries


def not_ok(expected_status: int, *expected: str) -> None:
    status, told = ready()
    assert {name for name, word in told.items() if word == "not ok"} == set(expected)
    assert status == expected_status


def test_without_its_storage_the_portal_is_not_ready(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder was")
    settings.STORAGES = settings.STORAGES | {
        "vault": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "file" / "vault")},
        }
    }
    not_ok(503, "storage")


def test_a_storage_that_gives_back_something_else_is_no_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = storages["vault"].save
    monkeypatch.setattr(storages["vault"], "save", lambda name, content: whole(name, ContentFile(b"something else")))
    not_ok(503, "storage")


def test_a_storage_that_is_another_one_is_none(
    add_certificate: Any, owner: Person, settings: Any, tmp_path: Path
) -> None:
    """As when a volume is not mounted: an empty folder takes and gives."""
    for name in ("Bank payments", "Tax", "Customs"):
        add_certificate(name)
    settings.STORAGES = settings.STORAGES | {
        "vault": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "vault")},
        }
    }
    not_ok(503, "storage")
    assert "has none of the" in parts_of(owner)["storage"]


def test_a_look_at_the_storage_leaves_nothing_there() -> None:
    storages["vault"].save("there.sealed", ContentFile(b"before"))
    before = storages["vault"].listdir("")
    assert ready()[0] == 200
    assert storages["vault"].listdir("") == before
    storages["vault"].delete("there.sealed")


@pytest.mark.parametrize("what", ["gone", "readable by others", "another"])
def test_without_the_right_key_the_portal_is_not_ready(
    what: str, add_certificate: Any, settings: Any, tmp_path: Path
) -> None:
    add_certificate()
    key = tmp_path / "key.json"
    if what == "another":
        local.generate(key)
    elif what == "readable by others":
        shutil.copy(settings.VAULT_KEYRING["path"], key)
        key.chmod(0o644)
    settings.VAULT_KEYRING = {"name": "local", "path": str(key)}
    not_ok(503, "vault_key")


def test_a_key_that_was_added_to_the_ring_fits(add_certificate: Any, settings: Any, tmp_path: Path) -> None:
    add_certificate()
    key = tmp_path / "key.json"
    shutil.copy(settings.VAULT_KEYRING["path"], key)
    local.add_key(key)
    settings.VAULT_KEYRING = {"name": "local", "path": str(key)}
    assert ready()[0] == 200


def test_a_database_older_than_this_release_is_not_ready(owner: Person) -> None:
    recorder = MigrationRecorder(connection)
    name = recorder.migration_qs.filter(app="vault").order_by("-id")[0].name
    recorder.record_unapplied("vault", name)
    try:
        not_ok(503, "database", "worker", "clock")  # nothing is known of these without it
        assert "older than this release" in parts_of(owner)["database"]
    finally:
        recorder.record_applied("vault", name)


def test_without_a_broker_rollouts_wait_and_pages_work(monkeypatch: pytest.MonkeyPatch, owner: Person) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        monkeypatch.setitem(
            current_app.conf, "broker_write_url", f"redis://:hunter2@127.0.0.1:{taken.getsockname()[1]}/0"
        )
        not_ok(200, "broker")
        said = parts_of(owner)["broker"]
    assert "Look at it" in said
    assert "refused" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("kind", ["worker", "clock"])
def test_a_silent_worker_or_clock_is_told_and_does_not_keep_people_away(kind: str) -> None:
    Pulse.objects.filter(kind=kind).update(at=timezone.now() - timedelta(seconds=60))
    not_ok(200, kind)


@pytest.fixture
def a_bucket_that_never_answers(settings: Any) -> Iterator[None]:
    """A real client of S3, and a server that takes the connection and says nothing."""
    from portal import engines

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        settings.STORAGES = settings.STORAGES | {
            "vault": engines.bucket(
                "vault", endpoint=f"http://127.0.0.1:{server.getsockname()[1]}", region="us-east-1",
                access_key="key", secret_key="hunter2", addressing="path", ca="",
            )
        }  # fmt: skip
        yield


@pytest.mark.usefixtures("a_bucket_that_never_answers")
def test_a_storage_that_hangs_hangs_nobody_and_costs_one_thread(owner: Person) -> None:
    probes.PROBES["storage"] = probes.Probe(probes.AskStorage(), 2.0)

    def asking() -> int:
        return sum(thread.name == "health" for thread in threading.enumerate())

    threads = asking()
    took = []
    for _time in range(5):
        begun = time.monotonic()
        not_ok(503, "storage")
        took.append(time.monotonic() - begun)
    # Its own limits add up to more than twenty seconds; the first asker waits for ours, the others not at all.
    assert took[0] < 10
    assert sum(took[1:]) < 5
    assert asking() - threads <= len(probes.PROBES)
    said = parts_of(owner)["storage"]
    assert "It does not answer within 2 seconds." in said
    assert "hunter2" not in said


def test_many_at_once_are_told_of_one_look() -> None:
    asked = []

    def ask() -> dict[str, Any]:
        asked.append(threading.get_ident())
        time.sleep(0.3)
        return {}

    probe = probes.Probe(ask, 5)
    threads = [threading.Thread(target=probe.outcome) for _n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert probe.outcome().ok
    assert len(asked) == 1


def test_what_hung_is_well_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FRESH", 0.0)
    go_on, hangs = threading.Event(), [True]

    def ask() -> dict[str, Any]:
        if hangs:
            go_on.wait(60)
        return {}

    probe = probes.Probe(ask, 0.2)
    first, second = probe.outcome(), probe.outcome()
    assert not first.ok
    assert second.since == first.since
    hangs.clear()
    go_on.set()
    deadline = time.monotonic() + 20
    while not probe.outcome().ok:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_change_is_one_line_in_the_log_and_no_change_none(caplog: Any) -> None:
    caplog.set_level(logging.INFO, "portal.health")
    for _time in range(3):
        ready()
    assert caplog.messages == []
    Pulse.objects.filter(kind="clock").delete()
    for _time in range(3):
        look_again()
        ready()
    seen("clock", pid=2)
    look_again()
    ready()
    assert caplog.messages == ["degraded: not ok: clock", "ready: everything is ok"]


# --- Signs of life ----------------------------------------------------------------------------------------------------


def test_a_worker_has_one_row_and_takes_the_place_of_one_that_died_here(owner: Person) -> None:
    Pulse.objects.all().delete()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    seen("worker", pid=gone.pid, host=socket.gethostname(), ago=5)
    seen("worker", pid=os.getppid(), host=socket.gethostname(), ago=5)
    seen("worker", pid=gone.pid, host="elsewhere", ago=5)
    for _time in range(2):
        pulses.pulse(pulses.WORKER)
    rows = {(row.host == socket.gethostname(), row.pid) for row in Pulse.objects.filter(kind="worker")}
    assert rows == {(True, os.getpid()), (True, os.getppid()), (False, gone.pid)}
    said = parts_of(owner)["worker"]
    assert "3 workers work" in said
    assert f"elsewhere (process {gone.pid}, since " in said


def test_a_pulse_costs_one_statement() -> None:
    pulses.pulse(pulses.WORKER)
    with CaptureQueriesContext(connection) as queries:
        pulses.pulse(pulses.WORKER)
    assert len(queries.captured_queries) == 1


def test_signs_of_life_of_those_who_are_gone_are_removed_after_a_day() -> None:
    seen("worker", pid=7, ago=25 * 3600)
    pulses.tidy()
    assert not Pulse.objects.filter(pid=7).exists()
    assert Pulse.objects.filter(kind="worker").count() == 1


# --- The owners' page -------------------------------------------------------------------------------------------------


def test_only_installation_owners_know_that_there_is_such_a_page(application: Application, owner: Person) -> None:
    ada = Person.objects.create_user("ada", password=PASSWORD)
    actions.add_member(application=application, person=ada, role="owner", by=owner)
    for address in ("/health/", "/health/parts/", "/health/operations/"):
        assert Client().get(address).headers["Location"].startswith("/sign-in/")
        assert signed_in(ada).get(address).status_code == 404
        assert signed_in(owner).get(address).status_code in (200, 286)
    assert 'href="/health/"' in signed_in(owner).get("/").content.decode()
    assert "/health/" not in signed_in(ada).get("/").content.decode()


def test_all_is_well_in_words(owner: Person, add_certificate: Any) -> None:
    add_certificate()
    said = parts_of(owner)
    assert set(said) == PARTS | {"sweep", "rollouts", "apps", "disk", "drafts", "watch", "notices", "web"}
    assert all(" OK " in words for key, words in said.items() if key != "disk"), said
    assert "all migrations are applied" in said["database"]
    assert "1 sealed object is known" in said["storage"]
    assert "1 key is in use" in said["vault_key"]
    assert "1 worker works: host-a (process 1, since " in said["worker"]
    assert "It ticked just now." in said["clock"]
    assert f"Process {os.getpid()} on " in said["web"]


def test_the_worst_comes_first(owner: Person, settings: Any, tmp_path: Path) -> None:
    settings.VAULT_KEYRING = {"name": "local", "path": str(tmp_path / "gone.json")}
    Pulse.objects.filter(kind="clock").update(at=timezone.now() - timedelta(hours=1))
    tags_of = list(parts_of(owner))
    assert tags_of[0] == "vault_key"
    assert tags_of.index("clock") < min(tags_of.index(key) for key in ("database", "worker", "web"))
    page = signed_in(owner).get("/health/").content.decode()
    assert "Not ready" in page
    assert "Put the key back from its copy" in page


def test_a_database_that_can_be_read_and_not_be_written_is_told_when_nobody_shows_a_sign_of_life(owner: Person) -> None:
    Pulse.objects.update(at=timezone.now() - timedelta(minutes=2))
    assert "can be read and not" not in parts_of(owner)["database"]
    client = signed_in(owner)
    look_again()
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN IMMEDIATE" if other.vendor == "sqlite" else "BEGIN")
            if other.vendor == "postgresql":
                cursor.execute(f"LOCK TABLE {Pulse._meta.db_table} IN EXCLUSIVE MODE")
        page = client.get("/health/").content.decode()
    finally:
        other.close()
    assert re.search(r"It can be read and not be written \(OperationalError: .*lock", page)


def test_a_sealed_file_that_is_gone_is_named(owner: Person, add_certificate: Any) -> None:
    for name in ("Bank payments", "Tax", "Customs"):
        add_certificate(name)
    name = SealedObject.objects.order_by("pk")[1].storage_name
    storages["vault"].delete(name)
    assert f"lacks {name}, which was to be there." in parts_of(owner)["storage"]
    assert ready()[0] == 200, "one file is no reason to keep people away"


def test_what_takes_too_long_is_named_with_its_page(environment: Environment, owner: Person, running_app: Any) -> None:
    long_ago = timezone.now() - timedelta(minutes=5)
    rollout = Rollout.objects.create(
        environment=environment, kind="restart", requested_by="Grace", state_since=long_ago
    )
    said = parts_of(owner)["rollouts"]
    assert "1 takes longer than expected." in said
    assert "Invoicing / Acceptance: restart" in said
    assert rollout.get_absolute_url() in signed_in(owner).get("/health/").content.decode()


def test_apps_that_cannot_be_reached_are_named(
    environment: Environment, owner: Person, running_app: Destination
) -> None:
    assert "1 app should run and was reached." in parts_of(owner)["apps"]
    Destination.objects.update(observed_status="unreachable")
    said = parts_of(owner)["apps"]
    assert "1 of 1 apps that should run cannot be reached." in said
    assert "Invoicing / Acceptance" in said


@pytest.mark.parametrize(
    ("free", "total", "word"),
    [(400_000_000, 10**9, "Look at it"), (9 * 10**9, 10**11, "Look at it"), (20 * 10**9, 10**11, "OK")],
)
def test_little_room_on_the_disk_is_told_beforehand(
    free: int, total: int, word: str, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes.shutil, "disk_usage", lambda _place: shutil._ntuple_diskusage(total, total - free, free))
    assert word in parts_of(owner)["disk"]


def test_drafts_that_nobody_removed_are_told(owner: Person, environment: Environment) -> None:
    for minutes in (5, -90):
        sealed = SealedObject.objects.create(storage_name=f"draft{minutes}", header=b"x", field="draft", size=1)
        Draft.objects.create(
            person=owner, session="x", environment=environment, sealed=sealed, file_size=1,
            expires_at=timezone.now() + timedelta(minutes=minutes),
        )  # fmt: skip
    said = parts_of(owner)["drafts"]
    assert "2 uploads wait to be confirmed. 1 should be gone by now." in said


def test_a_look_that_was_left_out_and_messages_that_nobody_takes_are_told(
    owner: Person, application: Application
) -> None:
    assert "OK" in parts_of(owner)["watch"]
    assert "OK" in parts_of(owner)["notices"]
    now = timezone.now()
    Watch.objects.create(due_at=now - timedelta(hours=13), began_at=now, ended_at=now - timedelta(hours=13), checked=7)
    channel = Channel.objects.create(application=application, kind="mail", title="Mail", created_by="x")
    Message.objects.create(
        channel=channel, kind="notice", title="t", text="t", created_at=now - timedelta(hours=2), next_try_at=now
    )
    said = parts_of(owner)
    assert "Look at it" in said["watch"]
    assert "7 in all" in said["watch"]
    assert "Look at it Messages that wait for longer than an hour: 1;" in said["notices"]


def test_the_page_asks_as_often_of_the_database_however_much_there_is(owner: Person, environment: Environment) -> None:
    client = signed_in(owner)

    def queries() -> int:
        look_again()
        with CaptureQueriesContext(connection) as captured:
            assert client.get("/health/").status_code == 200
        return len(captured)

    def one_more(number: int) -> None:
        more = actions.create_environment(application=environment.application, name=f"More {number}", by=owner)
        Destination.objects.create(
            environment=more, connector="local-process", exporter="mendix-settings", place=f"place-{number}",
            wanted_running=True, observed_status="unreachable",
        )  # fmt: skip
        Rollout.objects.create(
            environment=more, kind="restart", requested_by="Grace", state_since=timezone.now() - timedelta(hours=1)
        )
        seen("worker", pid=100 + number)

    one_more(0)
    queries()
    few = queries()
    for number in range(1, 13):
        one_more(number)
    assert queries() == few


def test_it_refreshes_itself_and_stops_after_a_while(owner: Person) -> None:
    client = signed_in(owner)
    page = client.get("/health/").content.decode()
    assert f'hx-get="/health/parts/?left={TIMES}"' in page
    answer = client.get(f"/health/parts/?left={TIMES}")
    assert (answer.status_code, f"?left={TIMES - 1}" in answer.content.decode()) == (200, True)
    for left in ("1", "0", "-5", "x", "", "99999999"):
        answer = client.get(f"/health/parts/?left={left}")
        assert answer.status_code == 286, left
        assert "hx-get" not in answer.content.decode()
    assert client.get("/health/parts/?left=9000").content.decode().count(f"?left={TIMES - 1}") == 1


def test_every_part_leads_to_what_the_documentation_says_of_it(owner: Person) -> None:
    client = signed_in(owner)
    led = set(re.findall(r'href="/health/operations/#([a-z_-]+)"', client.get("/health/").content.decode()))
    there = set(re.findall(r'<div class="panel" id="([a-z_-]+)"', client.get("/health/operations/").content.decode()))
    assert led
    assert led <= there


# --- On every other page ----------------------------------------------------------------------------------------------


def test_owners_read_on_their_pages_that_nobody_works(owner: Person, environment: Environment) -> None:
    client = signed_in(owner)
    assert "See Health" not in client.get("/").content.decode()
    Pulse.objects.filter(kind="worker").update(at=timezone.now() - timedelta(minutes=4))
    said = client.get("/people/").content.decode()
    assert "No worker shows itself, so what is asked for may wait. Last sign of life:" in said
    # Those pages say themselves when something waits for a worker.
    assert "See Health" not in client.get("/apps/invoicing/acceptance/").content.decode()
    assert "See Health" not in client.get("/health/").content.decode()
    Pulse.objects.filter(kind="worker").update(at=timezone.now())
    Pulse.objects.filter(kind="clock").update(at=timezone.now() - timedelta(minutes=4))
    assert "The clock is silent, so apps are not looked after." in client.get("/").content.decode()
    ada = Person.objects.create_user("ada", password=PASSWORD)
    assert "See Health" not in signed_in(ada).get("/").content.decode()


def test_nobody_is_called_silent_before_there_was_time_to_show_oneself(
    owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pulse.objects.all().delete()
    monkeypatch.setattr(parts, "STARTED", timezone.now())
    assert "See Health" not in signed_in(owner).get("/").content.decode()


# --- On the command line ----------------------------------------------------------------------------------------------


def test_the_command_says_the_same_and_its_exit_code_too(capsys: Any, settings: Any, tmp_path: Path) -> None:
    call_command("check_health")
    said = capsys.readouterr().out
    assert "ok  Vault key: It is in " in said
    Pulse.objects.filter(kind="clock").delete()
    look_again()
    call_command("check_health")  # degraded is ready
    with pytest.raises(SystemExit, match="1"):
        call_command("check_health", "clock")
    settings.VAULT_KEYRING = {"name": "local", "path": str(tmp_path / "gone.json")}
    look_again()
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        call_command("check_health", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["ready"] is False
    assert found["parts"]["vault_key"]["state"] == "not ready"
