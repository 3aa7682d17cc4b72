"""Connection tests in a rollout, on a pin's page and at the command line, against OpenSSL's own server."""

from __future__ import annotations

import html
import json
import re

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit.models import Event
from certificates import actions as certificates
from certificates import pkcs12
from certificates.intake import Upload
from environments import actions as environments
from environments.models import Environment, Person
from environments.refusals import Refused
from rollouts import actions, connections
from rollouts.connectors import connect
from rollouts.models import ConnectionTest
from rollouts.standing import standing, standings
from tests import pki
from tests.rollouts import partners
from tests.rollouts.partners import CLIENT, HOST, OF_STRANGER, ROOT, Files

pytestmark = pytest.mark.django_db(transaction=True)
DEMANDS = ("-Verify", "3", "-verify_return_error")


def text_of(response) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


@pytest.fixture
def partner(tmp_path, settings):
    """A server that demands a certificate of its own authority; its name is known here."""
    with partners.s_server(Files(tmp_path), *DEMANDS) as port:
        settings.DOORS = settings.DOORS | {"tests": partners.door(port)}
        yield f"{HOST}:{port}"


@pytest.fixture
def trusts(environment, owner):
    file = Upload("root.pem", pki.pem(ROOT.certificate_der))
    found = certificates.read_authorities(environment=environment, files=[file])
    (authority,) = certificates.trust(environment=environment, authorities=found, by=owner)
    return authority


@pytest.fixture
def pinned(environment, owner, partner, trusts):
    """Pins the partner to what somebody issued; returns the pin."""

    def pinned(issued: pki.Issued = CLIENT, name: str = "Bank", text: str = HOST, address: str = partner):
        identity = pkcs12.read(pki.pfx(issued, "secret", certificates=issued.chain[:1]), "secret")
        certificate = certificates.add(environment=environment, name=name, identity=identity, by=owner)
        target = certificates.read_target(environment=environment, text=text)
        return certificates.pin(
            environment=environment, target=target, certificate=certificate, test_address=address, by=owner
        )

    return pinned


def last(pin) -> ConnectionTest | None:
    """What the page would say of it."""
    asked = connections.of_pins(pin.environment, None, [pin.pk])
    return connections.newest(pin.environment, asked).get(pin.key)


# --- In a rollout ---


def test_a_refused_certificate_ends_the_apply_before_the_restart(
    running_app, place, pinned, apply, client, owner, environment
):
    before = connect("local-process", place).observe()
    pinned(OF_STRANGER)
    rollout = apply()

    assert rollout.state == "refused"
    assert rollout.failure.startswith(f"{HOST}: The server refused the certificate: the server does not know")
    assert "unknown_ca" in rollout.failure
    assert connect("local-process", place).observe() == before, "the app was not touched"
    client.force_login(owner)
    page = text_of(client.get(rollout.get_absolute_url()))
    assert "Connection tests 1" in page
    assert "Refused The server refused the certificate" in page
    assert "Nothing was delivered; what ran before runs on." in page
    # The next apply says beforehand what it would meet, and lets the person go on.
    again = client.get(environment.url("apply"))
    assert "The last tests say that the apply would stop before the restart" in text_of(again)
    shown = actions.pending(environment)[0].digest
    answer = client.post(environment.url("apply"), {"shown": shown, "reason": "known", "despite_tests": "on"})
    assert answer.status_code == 302
    assert environment.rollouts.latest("created_at").connection_tests == "warn"


def test_an_accepted_certificate_is_tested_before_the_restart_and_after_it(
    running_app, pinned, apply, environment, client, owner
):
    pin = pinned()
    rollout = apply()
    assert (rollout.state, rollout.failure) == ("verified", "")
    tests = {test.moment: test for test in rollout.tests.all()}
    assert {moment: test.verdict for moment, test in tests.items()} == {"before": "accepted", "after": "accepted"}
    assert tests["before"].version == pin.certificate.in_use
    steps = list(rollout.steps.filter(call="test").values_list("state", "outcome", "result"))
    assert steps == [("checking", "ok", "1 accepted"), ("verifying", "ok", "1 accepted")]
    client.force_login(owner)
    assert "Accepted just now" in text_of(client.get(environment.url("network")))


def test_what_is_back_is_tested_as_what_was_to_come(running_app, place, pinned, apply, client, owner):
    pin = pinned()
    first = pin.certificate
    assert apply().state == "verified"
    certificates.unpin(pin=pin, by=owner)
    renewed = pki.issue("client-2.example.com", authority=partners.ISSUING)
    second = pinned(renewed, name="Bank, renewed")
    place["behaviour"].write_text(json.dumps({"refuse": "renewed"}))
    rollout = apply()
    assert rollout.state == "rolled_back", rollout.failure
    tests = {test.moment: test for test in rollout.tests.all()}
    assert {moment: test.verdict for moment, test in tests.items()} == {"before": "accepted", "back": "accepted"}
    assert tests["before"].version == second.certificate.in_use
    assert tests["back"].version == first.in_use
    client.force_login(owner)
    assert "With what ran before: Accepted" in text_of(client.get(rollout.get_absolute_url()))
    moments = json.loads(client.get(rollout.get_absolute_url() + "report.json").content)["connection_tests"]
    assert [test["moment"] for test in moments] == ["before", "back"]


@pytest.mark.parametrize(("policy", "state", "tests"), [("warn", "verified", 2), ("skip", "verified", 0)])
def test_where_a_refusal_does_not_stop_an_apply(running_app, pinned, apply, environment, policy, state, tests):
    environment.connection_tests = policy
    environment.save()
    pinned(OF_STRANGER)
    rollout = apply()
    assert rollout.state == state
    assert rollout.tests.count() == tests
    assert set(rollout.steps.filter(call="test").values_list("outcome", flat=True)) <= {"warn"}


def test_what_cannot_be_told_from_here_stops_nothing(running_app, pinned, apply, environment):
    pinned(text="Module.Service", address="")
    pinned(pki.issue("other", authority=ROOT), "Other", "elsewhere.example.com", "")
    rollout = apply()
    assert rollout.state == "verified"
    assert set(rollout.tests.values_list("key", "verdict")) == {
        ("Module.Service", "untestable"),
        ("elsewhere.example.com", "unreachable"),
    }
    assert "Say on its pin which address to test" in rollout.tests.filter(key="Module.Service")[0].sentence


def test_a_server_that_the_app_would_not_believe_stops_it_too(running_app, pinned, apply, trusts, owner):
    pinned()
    certificates.distrust(authority=trusts, by=owner)
    rollout = apply()
    assert rollout.state == "refused"
    assert "which is not trusted here; add that authority" in rollout.failure


def test_what_a_dead_worker_has_tested_is_not_tested_again(running_app, pinned, environment, owner, run_rollout):
    pin = pinned(OF_STRANGER)
    shown = actions.pending(environment)[0].digest
    rollout = actions.apply(environment=environment, shown=shown, reason="x", by=owner)
    (asked,) = connections.of_pins(environment, running_app, [pin.pk])
    connections.kept(
        environment, asked, connections.Finding("accepted", "From before."), version=None, by="x",
        rollout=rollout, moment="before",
    )  # fmt: skip
    assert run_rollout(rollout).state == "verified"


def test_a_test_that_cannot_be_made_stops_no_apply(running_app, pinned, apply, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise ValueError("no such curve")

    monkeypatch.setattr("rollouts.probing.probe", broken)
    pinned()
    rollout = apply()
    assert rollout.state == "verified"
    assert set(rollout.tests.values_list("verdict", flat=True)) == {"untestable"}
    assert "no such curve" in caplog.text


def test_the_bytes_of_the_export_are_what_is_sent(running_app, pinned, apply):
    """The PFX that the test opens is one of the files that were delivered."""
    from rollouts import unseal

    pinned()
    rollout = apply()
    bundle = unseal.open_bundle(rollout.bundle, reason="test")
    (sent,) = bundle.sent.values()
    assert sent.pfx in [file.content for file in bundle.files]
    assert sent.password in b"".join(file.content for file in bundle.files).decode(errors="ignore")
    assert sent.password not in repr(bundle)


# --- By itself ---


def test_a_pin_is_tested_from_its_page(pinned, client, owner, environment):
    pin = pinned()
    client.force_login(owner)
    page = client.post(environment.url("connection", pin.pk), follow=True)
    assert "The server accepted CN=client.example.com" in text_of(page)
    assert "Partner Root" in text_of(page)
    event = json.loads(Event.objects.get(action="connection.tested").body)["details"]
    assert (event["target"], event["verdict"]) == (HOST, "accepted")
    opened = [json.loads(event.body)["details"]["reason"] for event in Event.objects.filter(action="key.opened")]
    assert opened == [f"connection test of {HOST}"]
    assert "Accepted just now" in text_of(client.get(environment.url("network")))


def test_a_refusal_is_red_on_the_network_page(pinned, client, owner, environment):
    pin = pinned(OF_STRANGER)
    client.force_login(owner)
    client.post(environment.url("connection", pin.pk))
    page = client.get(environment.url("network")).content.decode()
    assert re.search(r'class="chip bad[^"]*">.*?Refused', page, re.DOTALL)


def test_a_refused_certificate_is_red_wherever_it_is_listed_until_it_is_accepted(pinned, client, owner, environment):
    pin = pinned(OF_STRANGER)
    client.force_login(owner)
    pages = [environment.url("network"), pin.certificate.get_absolute_url(), reverse("all-certificates")]
    assert not any("Refused in test" in text_of(client.get(page)) for page in pages)

    actions.test_connection(pin=pin, by=owner)
    assert all("Refused in test" in text_of(client.get(page)) for page in pages)
    assert standing(environment).certificates.text == "1 refused in test"
    home = text_of(client.get(reverse("home")))
    assert f"Refused in test Bank in {environment} by {HOST} See why" in home

    # A test that would be accepted is one of another certificate: the red goes with the change, before any new test.
    good = certificates.add(
        environment=environment, name="Good", by=owner, identity=pkcs12.read(pki.pfx(CLIENT, "secret"), "secret")
    )
    target = certificates.read_target(environment=environment, text=HOST)
    certificates.change_pin(
        pin=pin, target=target, certificate=good, test_address=pin.test_address, by=owner
    )  # fmt: skip
    assert not any("Refused in test" in text_of(client.get(page)) for page in [*pages, reverse("home")])


def test_lists_ask_no_more_for_many_refused_certificates_than_for_one(pinned, client, owner, environment):
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            standings([environment])
        return len(queries)

    connections_of = [pinned(OF_STRANGER, name="Bank 1", text="one.example.com")]
    actions.test_connection(pin=connections_of[0], by=owner)
    standings([environment])
    one = asked()
    for number in (2, 3):
        pin = pinned(OF_STRANGER, name=f"Bank {number}", text=f"n{number}.example.com")
        actions.test_connection(pin=pin, by=owner)
    standings([environment])
    assert asked() == one
    assert standing(environment).certificates.text == "3 refused in test"


def test_a_viewer_looks_and_does_not_test(pinned, owner, environment):
    pin = pinned()
    actions.test_connection(pin=pin, by=owner)
    viewer = Person.objects.create_user("vera", password="x")
    environments.add_member(application=environment.application, person=viewer, role="viewer", by=owner)
    browser = Client()
    browser.force_login(viewer)
    page = browser.get(environment.url("connection", pin.pk))
    assert "The server accepted" in text_of(page)
    assert 'aria-disabled="true"' in page.content.decode()
    assert browser.post(environment.url("connection", pin.pk)).status_code == 403
    assert ConnectionTest.objects.count() == 1


@pytest.mark.parametrize("change", ["certificate", "address", "trust", "removed"])
def test_a_result_is_gone_when_what_it_depends_on_changes(pinned, owner, environment, trusts, change):
    pin = pinned()
    actions.test_connection(pin=pin, by=owner)
    assert last(pin) is not None
    if change == "certificate":
        fresh = pkcs12.read(pki.pfx(pki.issue("client.example.com", authority=partners.ISSUING), "x"), "x")
        certificates.renew(certificate=pin.certificate, identity=fresh, in_use=True, by=owner)
    elif change == "address":
        target = certificates.read_target(environment=environment, text=HOST)
        certificates.change_pin(
            pin=pin, target=target, certificate=pin.certificate, test_address=f"{HOST}:1", by=owner
        )  # fmt: skip
    elif change == "trust":
        file = Upload("x.pem", pki.pem(partners.STRANGER.certificate_der))
        found = certificates.read_authorities(environment=environment, files=[file])
        certificates.trust(environment=environment, authorities=found, by=owner)
    else:
        certificates.distrust(authority=trusts, by=owner)
    assert last(pin) is None


def test_never_a_certificate_is_tried_without_one(partner, trusts, environment, owner):
    target = certificates.read_target(environment=environment, text=HOST, never=True)
    pin = certificates.pin(environment=environment, target=target, certificate=None, test_address=partner, by=owner)
    test = actions.test_connection(pin=pin, by=owner)
    assert (test.verdict, test.version) == ("refused", None)
    assert "refused a connection without a certificate" in test.sentence


def test_a_disabled_certificate_is_not_sent(pinned, owner):
    pin = pinned()
    certificates.disable(certificate=pin.certificate, by=owner)
    pin.refresh_from_db()
    with pytest.raises(Refused, match="disabled"):
        actions.test_connection(pin=pin, by=owner)


def test_only_the_last_tests_of_a_target_are_kept(pinned, owner, settings):
    pin = pinned(text="Module.Service", address="")
    for _time in range(connections.KEPT + 3):
        actions.test_connection(pin=pin, by=owner)
    assert ConnectionTest.objects.count() == connections.KEPT


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("http://partner.example.com", "give the https:// address"),
        ("tls://partner.example.com", "Say which port"),
        ("https://user:secret@partner.example.com", "Leave out the user"),
        ("ftp://partner.example.com", "Begin with https://"),
        ("partner.example.com:0", "from 1 to 65535"),
        ("partner.example.com/\r\nHost: other", "no blanks"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_beside_its_field(environment, client, owner, typed, words):
    client.force_login(owner)
    answer = client.post(
        environment.url("pin-new"), {"target": "a.example.com", "certificate": "never", "test_address": typed}
    )
    assert answer.status_code == 422
    assert words in answer.context["form"].errors["test_address"][0]
    assert "secret" not in " ".join(answer.context["form"].errors["test_address"])


def test_the_settings_say_what_a_refusal_does(environment, client, owner):
    client.force_login(owner)
    page = client.get(environment.url("environment-settings"))
    form = {**page.context["form"].initial, "form": "environment", "connection_tests": "skip"}
    assert client.post(environment.url("environment-settings"), form).status_code == 302
    assert Environment.objects.get().connection_tests == "skip"
    with pytest.raises(Refused):
        environments.change_environment(
            environment=environment,
            name="A",
            production=False,
            runtime_version="",
            connection_tests="perhaps",
            by=owner,
        )


# --- At the command line ---


def probe(*words: str) -> tuple[int, str, str]:
    import io

    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("probe", "invoicing/acceptance", *words, stdout=out, stderr=err)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def test_probe_tells_each_pin_and_ends_with_one_where_somebody_turned_us_away(pinned):
    pinned()
    code, said, _error = probe()
    assert code == 0
    assert re.match(rf"{HOST} +accepted +The server accepted CN=client\.example\.com", said)
    pinned(OF_STRANGER, "Stranger", "Module.Service")
    code, said, _error = probe("--json")
    told = json.loads(said)
    assert code == 1
    assert [(test["key"], test["verdict"]) for test in told["tests"]] == [
        ("Module.Service", "refused"), (HOST, "accepted"),
    ]  # fmt: skip
    assert probe(HOST)[0] == 0
    assert probe("nobody.example.com")[0] == 1


def test_apply_environment_goes_on_despite_a_refusal_where_it_is_told_to(running_app, pinned, environment):
    pinned(OF_STRANGER)
    call_command("apply_environment", "invoicing/acceptance", "--reason", "known", "--despite-tests")
    assert environment.rollouts.get().connection_tests == "warn"


# --- What else stands in front of an apply, and what is kept of it ---


def test_an_apply_names_its_ticket_where_the_environment_asks_for_one(
    running_app, environment, owner, add_certificate, client
):
    environment.ticket_pattern = "CHG-####"
    environment.save()
    add_certificate()
    client.force_login(owner)
    form = {"shown": actions.pending(environment)[0].digest, "reason": "x"}
    for ticket, words in (
        ("", "Name the ticket, written like CHG-####."),
        ("4711", "Tickets here are written like CHG"),
    ):
        answer = client.post(environment.url("apply"), {**form, "ticket": ticket})
        assert answer.status_code == 422
        assert words in answer.context["form"].errors["ticket"][0]
    assert not environment.rollouts.exists()
    with pytest.raises(Refused, match="Name the ticket"):
        actions.apply(environment=environment, by=owner, **form)
    assert client.post(environment.url("apply"), {**form, "ticket": " chg-4711 "}).status_code == 302
    assert environment.rollouts.get().ticket == "chg-4711"


@pytest.mark.parametrize(
    ("pattern", "ticket", "fits"),
    [
        ("CHG-####", "CHG-471", False), ("CHG-####", "CHG-47111", False), ("*-#*", "INC-12", True),
        ("a.c", "abc", False),
        ("(#)", "(1)", True), ("", "anything at all", True),
    ],
)  # fmt: skip
def test_a_pattern_means_what_it_says(pattern, ticket, fits):
    from environments.tickets import checked_ticket

    if fits:
        assert checked_ticket(ticket, pattern) == ticket
    else:
        with pytest.raises(Refused):
            checked_ticket(ticket, pattern)


def test_a_pattern_that_would_take_long_is_refused(environment, client, owner):
    client.force_login(owner)
    page = client.get(environment.url("environment-settings"))
    form = {**page.context["form"].initial, "form": "environment", "ticket_pattern": "*#*#*#*"}
    answer = client.post(environment.url("environment-settings"), form)
    assert answer.status_code == 422
    assert "at most twice" in answer.context["form"].errors["ticket_pattern"][0]


def test_going_back_names_what_has_expired_since(running_app, environment, owner, add_certificate, apply, client):
    tax = add_certificate("Tax authority")
    assert apply().state == "verified"
    add_certificate("Other")
    assert apply().state == "verified"
    client.force_login(owner)
    address = environment.url("roll-back", 1)
    assert "expired since" not in text_of(client.get(address))
    tax.in_use.not_after = partners.YESTERDAY
    tax.in_use.save()
    page = text_of(client.get(address))
    assert f"Tax authority v1, expired {partners.YESTERDAY:%-d %b %Y}" in page


def test_a_rollout_is_a_file_for_a_colleague_and_nothing_secret_is_in_it(
    running_app, pinned, apply, client, owner, environment
):
    from rollouts import unseal

    pinned()
    rollout = apply(reason="The bank goes live", ticket="CHG-1")
    client.force_login(owner)
    answer = client.get(environment.url("rollout-report", rollout.pk))
    assert answer["Content-Disposition"].startswith('attachment; filename="invoicing-acceptance-rollout-')
    told = answer.json()
    assert (told["state"], told["proof"], told["ticket"]) == ("verified", "reported", "CHG-1")
    assert told["delivered"] == rollout.bundle.digest
    assert [change["name"] for change in told["changes"]] == ["Bank", HOST, "Partner Root"]
    assert {(test["moment"], test["verdict"]) for test in told["connection_tests"]} == {
        ("before", "accepted"), ("after", "accepted"),
    }  # fmt: skip
    assert [stage["name"] for stage in told["stages"]][-2:] == ["Started", "Verified"]
    assert all(step["at"] and step["text"] for step in told["log"])
    for pfx in unseal.open_bundle(rollout.bundle, reason="test").sent.values():
        assert pfx.password not in answer.content.decode()
    stranger = Client()
    stranger.force_login(Person.objects.create_user("eve", password="x"))
    assert stranger.get(environment.url("rollout-report", rollout.pk)).status_code == 404


# --- What is only said ---


def test_a_vault_that_is_sealed_after_the_restart_sends_nothing_back(running_app, pinned, apply, monkeypatch):
    """The app runs with what was delivered, and that is proved; the second test is no reason to take it away."""
    from rollouts import unseal
    from vault.envelope import VaultError

    real = unseal.open_bundle

    def sealed_by_then(bundle, *, reason, by=None):
        if "after the restart" in reason:
            raise VaultError("The vault is sealed.")
        return real(bundle, reason=reason, by=by)

    monkeypatch.setattr(unseal, "open_bundle", sealed_by_then)
    pinned()
    rollout = apply()
    assert (rollout.state, rollout.proof) == ("verified", "reported"), rollout.failure
    assert rollout.steps.filter(outcome="warn", text__contains="could not be tested again").count() == 1
