"""The commands import_certificate and pin: the pages' actions, for scripts."""

from __future__ import annotations

import getpass
import io
import json
import sys
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from audit.models import Event
from certificates import actions
from certificates.models import ClientCertificate, Pin
from tests import pki
from tests.certificates.conftest import stored

pytestmark = pytest.mark.django_db
PLACE = "invoicing/acceptance"


@pytest.fixture
def pfx(tmp_path, make_file):
    file = tmp_path / "bank.pfx"
    file.write_bytes(make_file())
    return str(file)


@pytest.fixture
def password(tmp_path):
    file = tmp_path / "password"
    file.write_text("secret\n")
    return str(file)


def run(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command(*words, stdout=out, stderr=err)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def test_a_file_is_imported_and_recorded_as_done_at_the_command_line(environment, pfx, password):
    code, out, _err = run("import_certificate", PLACE, pfx, "--name", "Bank", "--password-file", password, "--json")

    done = json.loads(out)
    assert (code, done["done"], done["certificate"], done["version"]) == (0, True, "Bank", 1)
    assert ClientCertificate.objects.get().in_use.sha256 == done["sha256"]
    event = Event.objects.get(action="certificate.added")
    assert event.actor_kind == "command"
    assert ClientCertificate.objects.get().created_by == event.actor == getpass.getuser()


def test_the_password_can_come_from_the_standard_input(environment, pfx, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))

    assert run("import_certificate", PLACE, pfx, "--name", "Bank", "--password-file", "-")[0] == 0


def test_a_certificate_without_its_key_is_imported_only_when_that_is_meant(environment, tmp_path, password):
    file = tmp_path / "watched.cer"
    file.write_bytes(pki.issue("watched").certificate_pem)
    words = ["import_certificate", PLACE, str(file), "--name", "Watched"]

    code, _out, err = run(*words, "--password-file", password)
    assert code == 1
    assert "holds no private key" in err

    code, out, _err = run(*words, "--tracked-only")
    assert code == 0
    assert "Watched, version 1, is tracked only" in out
    assert stored() == (1, 1, 0, 0, 0)


def test_a_chain_that_was_completed_is_said_and_marked(environment, password, tmp_path):
    issuing = pki.make_authority("Partner Issuing", authority=pki.make_authority("Partner Root"))
    whole, short = tmp_path / "whole.pfx", tmp_path / "short.pfx"
    whole.write_bytes(pki.pfx(pki.issue("one", authority=issuing), "secret"))
    short.write_bytes(pki.pfx(pki.issue("two", authority=issuing), "secret", certificates=[]))
    _code, first, _err = run("import_certificate", PLACE, str(whole), "--name", "One", "--password-file", password)
    assert "which is added" not in first

    _code, out, _err = run("import_certificate", PLACE, str(short), "--name", "Two", "--password-file", password)
    assert "did not contain CN=Partner Issuing,O=Example Partner, which is added from what is already here." in out
    assert [link["completed"] for link in ClientCertificate.objects.get(name="Two").in_use.chain] == [True]


def test_a_file_with_a_key_is_not_tracked_only(environment, pfx, password):
    code, _out, err = run(
        "import_certificate", PLACE, pfx, "--name", "Bank", "--password-file", password, "--tracked-only"
    )
    assert code == 1
    assert "leave out --tracked-only" in err
    assert stored() == (0, 0, 0, 0, 0)


def test_a_wrong_password_is_refused_with_the_sentence_of_the_page(environment, pfx, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("not-this-one")

    code, out, err = run("import_certificate", PLACE, pfx, "--name", "Bank", "--password-file", str(wrong))

    assert (code, out) == (1, "")
    assert "does not open this file" in err
    assert "not-this-one" not in err
    assert stored() == (0, 0, 0, 0, 0)


def test_warnings_have_to_be_confirmed(environment, password, tmp_path, make_file):
    file = tmp_path / "old.pfx"
    file.write_bytes(make_file(not_before=pki.NOW - timedelta(days=9), not_after=pki.NOW - timedelta(days=1)))
    words = ["import_certificate", PLACE, str(file), "--name", "Bank", "--password-file", password]

    code, _out, err = run(*words)
    assert code == 1
    assert "It has expired" in err
    assert stored() == (0, 0, 0, 0, 0)
    assert run(*words, "--confirm-warnings")[0] == 0


def test_a_renewal_that_changes_what_the_partner_goes_by_has_to_be_confirmed(add_certificate, pfx, password, owner):
    certificate = add_certificate("Bank")
    actions.describe(certificate=certificate, identified_by=["thumbprint"], by=owner)
    words = ["import_certificate", PLACE, str(pfx), "--renew", "Bank", "--password-file", password]
    code, _out, err = run(*words)
    assert (code, certificate.versions.count()) == (1, 1)
    assert "The partner recognises us by its fingerprint, which is another one" in err
    assert run(*words, "--confirm-warnings")[0] == 0


def test_a_renewal_is_kept_ready_on_demand(environment, add_certificate, pfx, password):
    certificate = add_certificate("Bank")

    code, out, _err = run(
        "import_certificate", PLACE, pfx, "--renew", "bank", "--password-file", password, "--keep-ready"
    )

    assert code == 0
    assert "Bank, version 2, is kept ready" in out
    certificate.refresh_from_db()
    assert certificate.in_use.number == 1


def test_a_name_that_exists_is_refused(environment, add_certificate, pfx, password):
    add_certificate("Bank")

    code, _out, err = run("import_certificate", PLACE, pfx, "--name", "bank", "--password-file", password)

    assert code == 1
    assert "already a certificate" in err


@pytest.mark.parametrize(
    "words",
    [
        ("no-slash", "FILE", "--name", "Bank", "--password-file", "PASSWORD"),
        (PLACE, "/nowhere.pfx", "--name", "Bank", "--password-file", "PASSWORD"),
        (PLACE, "FILE", "--name", "Bank", "--password-file", "/nowhere"),
    ],
)
def test_misuse_is_told_apart_from_a_refusal(words, environment, pfx, password):
    code, out, _err = run(
        "import_certificate", *(w.replace("FILE", pfx).replace("PASSWORD", password) for w in words), "--json"
    )

    assert (code, json.loads(out)["done"]) == (2, False)


def test_an_option_that_is_missing_is_misuse(environment, pfx):
    code, _out, err = run("import_certificate", PLACE, pfx, "--name", "Bank")
    assert code == 2
    assert "--password-file" in err
    with pytest.raises(CommandError, match="--name"):
        run("import_certificate", PLACE, pfx)


def test_a_target_is_pinned_as_the_page_would(environment, add_certificate):
    add_certificate("Bank")

    code, out, _err = run("pin", PLACE, "https://API.example.com/x", "--certificate", "bank", "--json")

    assert code == 0
    assert json.loads(out)["key"] == "api.example.com"
    pin = Pin.objects.get()
    assert (pin.key, pin.certificate.name) == ("api.example.com", "Bank")
    assert Event.objects.get(action="pin.added").actor_kind == "command"


def test_a_target_can_be_told_never_to_be_sent_a_certificate(environment):
    code, out, _err = run("pin", PLACE, "telemetry.example.com", "--never")

    assert (code, Pin.objects.get().certificate) == (0, None)
    assert "is never sent a certificate" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("api.example.com", "--certificate", "Nobody"), "no certificate “Nobody” here"),
        (("*.example.com", "--never", "--kind", "host"), "wildcards"),
        (("taken.example.com", "--never"), "already pinned here"),
    ],
)
def test_a_pin_that_cannot_be_is_refused(words, sentence, environment, pin):
    pin("taken.example.com")

    code, _out, err = run("pin", PLACE, *words)

    assert code == 1
    assert sentence in err
    assert Pin.objects.count() == 1
