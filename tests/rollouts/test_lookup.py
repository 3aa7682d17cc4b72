"""“Which certificate is sent to …?” on the Network tab and at the command line."""

from __future__ import annotations

import csv
import html
import io
import json
import re

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from certificates import actions as certificates
from certificates.identities import Identity
from environments import actions as environments
from environments.models import Person
from tests import crowd, pki

pytestmark = pytest.mark.django_db(transaction=True)
PLACE = "invoicing/acceptance"


def text_of(response) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


@pytest.fixture
def ask(client: Client, owner, environment):
    client.force_login(owner)

    def ask(target: str, **more):
        return client.post(environment.url("lookup"), {"target": target}, **more)

    return ask


@pytest.fixture
def pin(environment, owner):
    def pin(text: str, certificate=None):
        target = certificates.read_target(environment=environment, text=text, never=certificate is None)
        return certificates.pin(environment=environment, target=target, certificate=certificate, by=owner)

    return pin


def explain(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("explain", PLACE, *words, stdout=out, stderr=err)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def test_before_anything_runs_the_answer_is_that_of_the_next_apply(ask, add_certificate, pin):
    pin("api.example.com", add_certificate("Bank"))
    page = text_of(ask("https://grace:secret@API.example.com:8443/v1?key=1"))
    assert "After the next apply api.example.com is sent Bank , because it is pinned to it; expires" in page
    assert "Running" not in page.partition("Which certificate is sent?")[2]


def test_what_runs_and_what_comes_are_told_apart(ask, running_app, add_certificate, pin, apply):
    bank, tax = add_certificate("Bank"), add_certificate("Tax")
    made = pin("api.example.com", bank)
    apply()
    assert "Running, and after the next apply api.example.com is sent Bank" in text_of(ask("api.example.com"))

    certificates.unpin(pin=made, by=None)
    pin("api.example.com", tax)
    page = text_of(ask("api.example.com"))
    assert "Running (1) api.example.com is sent Bank" in page
    assert "After the next apply api.example.com is sent Tax" in page


def test_an_unpinned_host_is_told_whom_it_may_meet_and_never_means_never(ask, add_certificate, pin):
    add_certificate("Bank")
    add_certificate("Tax")
    pin("quiet.example.com")
    page = text_of(ask("other.example.com"))
    assert "it may be sent any of these 2 certificates; the server's CA list decides:" in page
    assert "Bank expires" in page
    assert "quiet.example.com is never sent a certificate" in text_of(ask("quiet.example.com"))


def test_what_is_tracked_only_is_no_candidate(ask, environment, owner):
    issued = pki.issue("watched")
    certificates.add(environment=environment, name="Watched", identity=Identity(b"", issued.certificate_der), by=owner)
    assert "is sent no certificate, because this environment has none" in text_of(ask("other.example.com"))


def test_what_is_no_target_is_refused_in_a_sentence_and_stays_typed(ask):
    page = ask("https://exa mple")
    assert page.status_code == 422
    assert "This is not a host name" in text_of(page)
    assert 'value="https://exa mple"' in page.content.decode()


def test_a_viewer_may_ask_and_a_stranger_does_not_learn_that_there_is_anything(environment, add_certificate):
    add_certificate("Bank")
    answers = {}
    for name in ("viewer", "stranger"):
        person = Person.objects.create_user(name)
        if name == "viewer":
            environments.add_member(application=environment.application, person=person, role="viewer", by=None)
        client = Client()
        client.force_login(person)
        answers[name] = client.post(environment.url("lookup"), {"target": "api.example.com"}).status_code
    assert answers == {"viewer": 200, "stranger": 404}


def test_the_page_swaps_only_the_answer(ask, add_certificate):
    add_certificate("Bank")
    part = ask("api.example.com", headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div id="answers" role="status">')


def test_asking_takes_as_many_queries_for_a_thousand_certificates_as_for_ten(ask, environment):
    counts = []
    for more in (10, 990):
        crowd.fill(environment, more)
        ask("api.example.com")
        with CaptureQueriesContext(connection) as captured:
            ask("api.example.com")
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_the_command_explains_what_comes_what_runs_and_what_ran(running_app, add_certificate, pin, apply):
    bank = add_certificate("Bank")
    made = pin("api.example.com", bank)
    apply()
    certificates.unpin(pin=made, by=None)

    code, out, _err = explain("https://api.example.com/x", "Module.WS", "--running", "--json")
    done = json.loads(out)
    first, second = done["answers"]
    assert (code, done["configuration"]) == (0, "Running (1)")
    assert (first["rule"], first["certificate"]["name"]) == ("pinned", "Bank")
    assert (second["kind"], second["rule"], [one["name"] for one in second["may_be_sent"]]) == (
        "service",
        "any",
        ["Bank"],
    )
    assert "no pin names it" in explain("api.example.com")[1]
    assert "because it is pinned to it" in explain("api.example.com", "--revision", "1")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("api.example.com", "--revision", "9"), "There is no revision 9 here"),
        (("api.example.com", "--running"), "Nothing was applied here yet"),
        (("exa mple.com/",), "type"),
    ],
)
def test_what_cannot_be_explained_is_refused_with_a_sentence(environment, words, said):
    code, out, err = explain(*words)
    assert (code, out) == (1, "")
    assert said in err


def test_it_says_why_each_other_certificate_is_not_sent(ask, add_certificate, pin):
    pin("api.example.com", add_certificate("Bank"))
    add_certificate("Tax")
    page = text_of(ask("api.example.com"))
    assert "1 other certificate, and why it is not sent Tax the target is pinned to bank" in page


def test_a_pin_in_other_letters_is_named_and_does_not_count(ask, add_certificate, pin):
    pin("MY_S3", add_certificate("Bank"))
    page = text_of(ask("my_s3"))
    assert "Pinned in other letters: MY_S3." in page
    assert "may be sent this certificate" in page


def test_it_says_what_another_kind_of_runtime_would_do(ask, add_certificate, pin):
    pin("Billing.PaymentService", add_certificate("Bank"))
    page = text_of(ask("Billing.PaymentService"))
    assert "nginx, curl and others that read PEM cannot be told about Billing.PaymentService" in page
    assert "Java keystore is sent Bank" in page


def test_a_file_of_addresses_becomes_a_table(add_certificate, pin, tmp_path):
    pin("api.example.com", add_certificate("=Bank"))
    asked = tmp_path / "urls.txt"
    asked.write_text("# those that we call\nhttps://api.example.com/v1\n\nhttps://other.example.com:8443/\n")
    code, out, _err = explain("--file", str(asked), "--csv")
    assert code == 0
    table = list(csv.DictReader(io.StringIO(out)))
    assert [(row["target"], row["rule"], row["certificate"]) for row in table] == [
        ("api.example.com", "pinned", "'=Bank"),
        ("other.example.com", "any", ""),
    ]
    assert table[1]["may be sent"] == "'=Bank"
    assert explain("--csv")[0] == 2
    assert explain("--file", str(tmp_path / "none"))[0] == 2
