"""The commands about an environment: the same actions as the pages, for whoever runs the server."""

from __future__ import annotations

import io
import json
import stat
import threading
import zipfile

import pytest
from django.core.management import call_command
from django.db import connection

from audit.models import Event
from certificates import pkcs12
from environments import actions as environments
from rollouts import moves
from rollouts.models import Rollout

pytestmark = pytest.mark.django_db(transaction=True)


def run(*words: str, **options: object) -> tuple[int, str, str]:
    """The exit code, and what was written to standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command(*words, stdout=out, stderr=err, **options)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def export(to, *more: str) -> tuple[int, str, str]:
    words = ("export_environment", "invoicing/acceptance", "--exporter", "mendix-settings", "--base-folder", "/srv/app")
    return run(*words, "--to", str(to), "--reason", "moves to another server", *more)


def test_an_export_is_a_zip_for_its_owner_only_that_is_never_overwritten_unasked(
    environment, add_certificate, tmp_path
):
    add_certificate()
    to = tmp_path / "export.zip"
    code, said, _error = export(to)
    assert code == 0, said
    assert stat.S_IMODE(to.stat().st_mode) == 0o600
    before = to.read_bytes()
    code, _said, error = export(to)
    assert code == 1
    assert "exists already" in error
    assert to.read_bytes() == before
    assert export(to, "--force")[0] == 0
    assert to.read_bytes() != before, "every export has fresh passwords"
    assert [p.name for p in tmp_path.iterdir()] == ["export.zip"], "nothing temporary stays"
    event = Event.objects.filter(action="export.downloaded").first()
    assert event.actor_kind == "command"
    assert "moves to another server" in event.body


def test_an_export_into_a_folder_can_be_opened_with_what_it_says(environment, add_certificate, tmp_path):
    add_certificate()
    to = tmp_path / "out"
    code, said, _error = export(to, "--json")
    assert code == 0
    told = json.loads(said)
    assert sorted(told["written"]) == sorted(str(p) for p in to.rglob("*") if p.is_file())
    assert {stat.S_IMODE(p.stat().st_mode) for p in to.rglob("*") if p.is_file()} == {0o600}
    settings = json.loads((to / "custom-settings.json").read_text())
    pfx = (to / "certificates" / "bank-payments.pfx").read_bytes()
    assert pkcs12.read(pfx, settings["ClientCertificatePasswords"]).key
    assert export(to)[0] == 1


def test_the_same_files_make_the_same_zip(environment, add_certificate, tmp_path):
    from certificates.content import Bundle, File
    from rollouts.downloads import zipped

    bundle = Bundle((File("b.pfx", b"secret"), File("a.txt", b"words", secret=False)))
    assert zipped(bundle) == zipped(Bundle(tuple(reversed(bundle.files))))
    modes = {i.filename: i.external_attr >> 16 & 0o777 for i in zipfile.ZipFile(io.BytesIO(zipped(bundle))).infolist()}
    assert modes == {"a.txt": 0o644, "b.pfx": 0o600}


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        ("invoicing", 2, "application/environment"),
        ("invoicing/a/b", 2, "application/environment"),
        ("invoicing/nowhere", 1, "There is no environment invoicing/nowhere"),
    ],
)
def test_an_environment_that_is_not_there_is_one_sentence(name, code, sentence, environment, tmp_path):
    words = (
        "export_environment",
        name,
        "--exporter",
        "buildpack-env",
        "--to",
        str(tmp_path / "x.zip"),
        "--reason",
        "x",
    )
    found, _said, error = run(*words)
    assert (found, sentence in error) == (code, True), error
    found, said, _error = run(*words, "--json")
    assert (found, sentence in json.loads(said)["reason"]) == (code, True)


def test_an_archived_environment_is_refused(environment, owner, tmp_path):
    environments.archive_environment(environment=environment, by=owner)
    code, _said, error = export(tmp_path / "x.zip")
    assert code == 1
    assert "is archived" in error


def work(stop: threading.Event) -> None:
    """A worker in a thread: makes the moves of whatever is there."""
    try:
        while not stop.is_set():
            for rollout in Rollout.objects.filter(finished_at=None):
                moves.advance(rollout.pk)
            stop.wait(0.05)
    finally:
        connection.close()


@pytest.fixture
def worker():
    stop = threading.Event()
    thread = threading.Thread(target=work, args=[stop])
    thread.start()
    yield
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


APPLY = ("apply_environment", "invoicing/acceptance", "--reason", "nightly")


def test_an_apply_waits_for_its_end_and_tells_the_steps(running_app, environment, add_certificate, worker):
    add_certificate()
    code, said, error = run(*APPLY, "--ticket", "CHG-1", "--wait")
    assert code == 0, said + error
    rollout = Rollout.objects.get()
    assert (rollout.state, rollout.ticket) == ("verified", "CHG-1")
    for step in rollout.steps.all():
        assert step.text in said
    assert "The app itself reports the digest" in said
    assert "Actor(" not in rollout.requested_by
    assert Event.objects.filter(action="rollout.requested", actor_kind="command").exists()


def test_an_apply_that_went_back_ends_with_one(running_app, place, environment, add_certificate, worker):
    add_certificate()
    place["behaviour"].write_text(json.dumps({"refuse": "bank"}))
    code, said, _error = run(*APPLY, "--wait", "--json")
    assert code == 1
    told = json.loads(said)
    assert told["state"] == "rolled_back"
    assert "did not come up" in told["failure"]
    code, _said, error = run(*APPLY)
    assert code == 1
    assert "blocked" in error
    place["behaviour"].unlink()
    assert run(*APPLY, "--insist", "--wait")[0] == 0


def test_an_apply_that_is_not_waited_for_only_asks(running_app, environment, add_certificate):
    add_certificate()
    code, said, _error = run(*APPLY, "--json")
    assert code == 0
    assert json.loads(said)["state"] == "requested"
    assert Rollout.objects.get().fence == 0


def test_an_apply_where_nothing_is_placed_is_refused(environment, add_certificate):
    add_certificate()
    code, _said, error = run(*APPLY)
    assert code == 1
    assert "where this environment runs" in error
