"""A partner sends the next certificate by a link: once, in time, and without learning anything of us."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core import mail
from django.core.files.storage import storages
from django.test import Client, override_settings
from django.utils import timezone

from audit.actors import Actor
from audit.models import Event
from certificates import actions, one_shot
from certificates.actions import drafts, links
from certificates.diagnosis import SENTENCES, Refusal
from certificates.models import ClientCertificate, Draft, UploadLink, Version
from certificates.partner import SENTENCES as THEIRS
from environments import actions as environments
from environments.models import Environment, Person
from environments.refusals import Refused
from portal import logs
from tests import pki
from tests.certificates.conftest import error_beside, stored, text_of, upload
from tests.certificates.test_requests import issue, pem
from vault import safe
from vault.errors import VaultError
from vault.models import SealedObject

pytestmark = pytest.mark.django_db(transaction=True)

PARTNER = Actor.partner("203.0.113.9")
ASKED = {"asked_by": "Example Ltd", "about": "Payments", "language": "en"}


@pytest.fixture
def certificate(add_certificate: Callable[..., ClientCertificate]) -> ClientCertificate:
    return add_certificate("Bank payments")


@pytest.fixture
def ask(certificate: ClientCertificate, owner: Person) -> Callable[..., str]:
    """Makes a link, and gives its path without a language."""

    def ask(**kwargs: Any) -> str:
        given = {"certificate": certificate, "asked_by": "Example Ltd", "about": "Payments", "by": owner} | kwargs
        _link, token = actions.create_link(**given)
        return f"/partner/{token}/"

    return ask


def send(client: Client, path: str, file: bytes | None, password: str = "secret", **kwargs: Any) -> Any:
    given = {"password": password, **kwargs.pop("given", {})} | ({"file": upload(file)} if file is not None else {})
    return client.post(path, given, **kwargs)


def events(*actions: str) -> list[str]:
    return list(Event.objects.filter(action__in=actions).order_by("pk").values_list("action", flat=True))


def ours(*names: str) -> list[str]:
    return [event for event in Event.objects.order_by("pk").values_list("action", flat=True) if event.startswith(names)]


# --- The way of one file ----------------------------------------------------------------------------------------------


def test_a_partner_sends_it_once_and_an_operator_confirms_it(client, signed_in, certificate, ask, make_file, at):
    partner, path = Client(), ask()
    asked = partner.get(path)
    assert "Example Ltd needs a new client certificate for “Payments”" in text_of(asked)

    thanks = send(partner, path, make_file("bank-client-2"))
    version = Draft.objects.get().version()
    assert thanks.status_code == 200
    assert ":".join(re.findall("..", version.sha256)) in text_of(thanks)
    assert "bank-client-2" in text_of(thanks)
    certificate.refresh_from_db()
    assert certificate.in_use.number == 1, "nothing is used before somebody here has confirmed it"

    page = signed_in.get(certificate.get_absolute_url())
    assert "The partner has sent it." in text_of(page)
    assert "The partner has sent it Bank payments in Invoicing / Acceptance" in text_of(signed_in.get("/"))
    preview = signed_in.get(at("draft", Draft.objects.get().pk))
    assert "old beside new" in text_of(preview)
    assert "by the link that Grace made" in text_of(preview)
    done = signed_in.post(at("draft", Draft.objects.get().pk), {"use": "ready"}, follow=True)

    assert "Version 2 is kept ready." in text_of(done)
    assert "Version 2, sent by the partner, confirmed and kept ready" in text_of(done)
    assert "The partner has sent it" not in text_of(done)
    assert Version.objects.get(number=2).sha256 == version.sha256
    assert "confirmed what the partner sent as renewal of Bank payments" in text_of(signed_in.get("/audit/"))
    assert ours("link.", "draft.") == ["link.created", "link.used"]
    used = Event.objects.get(action="link.used")
    assert (used.actor_kind, used.actor, json.loads(used.body)["address"]) == (
        "partner", "Partner (upload link)", "127.0.0.1",
    )  # fmt: skip


def test_another_operator_of_the_environment_may_confirm_and_nobody_else(ask, make_file, at, person_with, environment):
    send(Client(), ask(), make_file())
    address, discard = (at(name, Draft.objects.get().pk) for name in ("draft", "draft-discard"))
    mallory = Client()
    mallory.force_login(Person.objects.create_user("mallory", password="x"))

    viewer = person_with("viewer")
    assert {viewer.get(address).status_code, viewer.get(discard).status_code} == {403}
    assert {mallory.get(address).status_code, mallory.get(discard).status_code} == {404}
    assert Client().get(address).status_code == 302
    assert "The partner has sent it" not in text_of(viewer.get("/"))
    elsewhere = environments.create_environment(application=environment.application, name="Production", by=None)
    editor = person_with("editor")
    assert editor.get(elsewhere.url("draft-discard", Draft.objects.get().pk)).status_code == 404
    assert "choose the file again" in text_of(editor.get(elsewhere.url("draft", Draft.objects.get().pk), follow=True))
    assert editor.get(address).status_code == 200


def test_a_persons_own_draft_stays_their_own(keep, make_file, person_with, at):
    draft = keep(make_file())

    editor = person_with("editor")

    assert editor.get(at("draft", draft.pk)).status_code == 302
    assert editor.get(at("draft-discard", draft.pk)).status_code == 404


def test_what_came_is_discarded_with_a_reason_and_its_key_is_gone(signed_in, ask, make_file, at):
    before = stored()
    send(Client(), ask(), make_file())
    address = at("draft-discard", Draft.objects.get().pk)
    signed_in.post(at("draft", Draft.objects.get().pk), {"cancel": "yes"})
    assert Draft.objects.exists(), "to look and go away again destroys nothing"

    assert "Say why" in error_beside(signed_in.post(address, {"reason": " "}), "reason")
    done = signed_in.post(address, {"reason": "Wrong company"}, follow=True)

    assert stored() == before
    assert "What the partner sent was discarded: Wrong company" in text_of(done)
    assert signed_in.post(address, {"reason": "again"}).status_code == 404


def test_what_nobody_confirms_is_destroyed_after_fourteen_days_and_the_audit_log_tells(ask, make_file):
    before = stored()
    send(Client(), ask(), make_file())
    left = Draft.objects.get().expires_at - timezone.now()
    assert timedelta(days=13, hours=23) < left <= timedelta(days=14)
    actions.tidy_drafts()
    assert Draft.objects.exists()
    Draft.objects.update(expires_at=timezone.now())

    actions.tidy_drafts()

    assert stored() == before
    assert events("draft.expired") == ["draft.expired"]


# --- What is wrong with it --------------------------------------------------------------------------------------------


def test_after_a_wrong_password_the_file_is_kept_and_the_link_still_works(ask, make_file):
    partner, path = Client(), ask()

    wrong = send(partner, path, make_file(), "not this")

    assert wrong.status_code == 422
    assert "The password does not open this file." in error_beside(wrong, "password")
    assert b"not this" not in wrong.content
    kept = Draft.objects.get()
    assert "bank.pfx" in text_of(wrong)
    assert send(partner, path, None, given={"draft": kept.pk}).status_code == 200


def test_a_vault_that_cannot_be_opened_costs_the_partner_nothing_and_is_not_told_of(ask, make_file, monkeypatch):
    partner, path = Client(), ask()

    def closed(*_args: Any, **_kwargs: Any) -> bytes:
        raise VaultError("The key file /srv/vault-key.json is gone.")

    monkeypatch.setattr(safe, "open_sealed", closed)
    answer = send(partner, path, make_file())
    monkeypatch.undo()

    assert "Nothing was lost; try again later." in error_beside(answer, "password")
    assert "vault" not in text_of(answer)
    assert UploadLink.objects.get().tries == 0
    assert send(partner, path, None, given={"draft": Draft.objects.get().pk}).status_code == 200


def test_a_file_that_is_kept_no_longer_is_asked_for_again(ask, make_file):
    partner, path = Client(), ask()
    send(partner, path, make_file(), "not this")
    Draft.objects.update(expires_at=timezone.now())

    for draft in (Draft.objects.get().pk, "00000000-0000-0000-0000-000000000000"):
        answer = send(partner, path, None, given={"draft": draft})
        assert "not kept any longer" in error_beside(answer, "file")


@pytest.mark.parametrize(
    ("language", "words"),
    [("nl", "Het wachtwoord opent dit bestand niet"), ("de", "Das Passwort öffnet diese Datei nicht")],
)
def test_a_refusal_is_said_in_the_partners_language_and_recorded_in_ours(ask, make_file, language, words):
    answer = send(Client(), f"{ask()}{language}/", make_file(), "not this")

    assert words in error_beside(answer, "password")
    assert answer.headers["Content-Language"] == language
    assert Event.objects.get(action="certificate.refused").actor_kind == "partner"


def test_a_file_that_no_password_opens_is_asked_for_anew_and_nothing_of_it_stays(ask):
    before, partner, path = stored(), Client(), ask()

    for file in (b"", b"hello", pki.pem(pki.issue().certificate_der)):
        answer = send(partner, path, file)
        assert answer.status_code == 422
        assert error_beside(answer, "file")

    assert "holds no private key" in error_beside(answer, "file")
    assert stored() == before
    assert partner.get(path).status_code == 200
    assert "Choose the file." in error_beside(send(partner, path, None), "file")
    assert "larger" in error_beside(send(partner, path, bytes(1024 * 1024 + 1)), "file")


def test_the_certificate_that_is_in_use_is_not_the_next_one(ask, make_file, environment, owner, certificate):
    file = make_file("bank-client-2")
    send(Client(), ask(), file)
    draft = actions.open_draft(draft_id=Draft.objects.get().pk, environment=environment, session_key="", by=owner)
    actions.renew_with_draft(draft=draft, in_use=True, confirmed=True, by=owner)

    answer = send(Client(), ask(), file)

    assert "has been sent before" in error_beside(answer, "file")
    assert not Draft.objects.exists()


def test_a_certificate_alone_is_taken_where_its_key_waits_and_nothing_is_told_of_other_requests(
    ask, owner, signed_in, at, environment, certificate
):
    asked = {"environment": environment, "subject": "CN=bank", "names": "", "key": "ec-p256", "by": owner}
    another = actions.request_certificate(**asked, name="Secret project")
    partner, path = Client(), ask()
    before = send(partner, path, pem(issue(another)))
    request = actions.request_certificate(**asked, certificate=certificate)
    for answer in (
        before,
        send(partner, path, pem(issue(another))),
        send(partner, path, pki.issue("x").certificate_pem),
    ):
        assert "This file holds no private key." in error_beside(answer, "file")
        assert "Secret project" not in text_of(answer)

    assert "Thank you, it has arrived" in text_of(send(partner, path, pem(issue(request))))
    preview = at("draft", Draft.objects.get().pk)
    assert "old beside new" in text_of(signed_in.get(preview))
    assert "Version 2 is kept ready." in text_of(signed_in.post(preview, {"use": "ready"}, follow=True))
    request.refresh_from_db()
    assert (request.ending, request.version.number, request.version.is_tracked_only) == ("answered", 2, False)


def test_the_key_may_have_a_password_of_its_own(ask, monkeypatch, make_file):
    def differs(_question: Any) -> Any:
        raise Refusal("entry_password_differs")

    path = ask()
    monkeypatch.setattr(one_shot, "read", differs)
    answer = send(Client(), path, make_file())
    assert "Type both passwords" in error_beside(answer, "password")
    assert 'name="entry_password"' in answer.content.decode()


def test_of_several_certificates_in_the_file_the_operator_chooses(ask, partner, signed_in, at):
    both = [pki.issue(name, authority=partner) for name in ("one", "two")]
    text = b"".join(each.key_pem + pki.pem(each.certificate_der) for each in both)

    thanks = text_of(send(Client(), ask(), text, ""))

    assert "Subject one " in thanks
    assert "Subject two " in thanks
    assert "holds 2 certificates" in text_of(signed_in.get(at("draft", Draft.objects.get().pk)))


def test_every_refusal_has_a_sentence_for_the_partner():
    assert THEIRS.keys() == SENTENCES.keys()


# --- Links that are not open ------------------------------------------------------------------------------------------


def spoiled(path: str, how: str, owner: Person, make_file: Any) -> str:
    link = UploadLink.objects.get()
    if how == "used":
        send(Client(), path, make_file())
    elif how == "expired":
        UploadLink.objects.update(expires_at=timezone.now())
    elif how == "withdrawn":
        actions.withdraw(link=link, by=owner)
    elif how == "of a removed certificate":
        ClientCertificate.objects.update(removed_at=timezone.now())
    elif how == "of an archived environment":
        Environment.objects.update(archived_at=timezone.now())
    elif how == "spent":
        UploadLink.objects.update(tries=20)
        send(Client(), path, make_file())
    elif how == "with another signature":
        return path.replace(path[-8:-1], "AAAAAAA")
    elif how == "signed for something else":
        return f"/partner/{links.Signer(sep='.', salt='another').sign(path.partition('.')[0].rpartition('/')[2])}/"
    elif how == "made up":
        return "/partner/made-up/"
    return path


NOT_OPEN = [
    "used", "expired", "withdrawn", "of a removed certificate", "of an archived environment", "spent",
    "with another signature", "signed for something else", "made up",
]  # fmt: skip


def test_every_link_that_is_not_open_gets_the_same_answer(ask, owner, make_file):
    answers = {}
    for how in NOT_OPEN:
        path = ask()
        dead = spoiled(path, how, owner, make_file)
        partner = Client(REMOTE_ADDR=f"198.51.100.{NOT_OPEN.index(how)}")
        assert partner.get(path).status_code == (200 if dead != path else 404), how
        kept = stored()
        for answer in (partner.get(dead), partner.get(f"{dead}en/"), send(partner, dead, make_file())):
            telling = {name: value for name, value in answer.headers.items() if name != "X-Request-ID"}
            answers[how] = (answer.status_code, answer.content, telling)
        assert stored() == kept, how
        UploadLink.objects.all().delete()
        ClientCertificate.objects.update(removed_at=None)
        Environment.objects.update(archived_at=None)
    assert len({str(answer) for answer in answers.values()}) == 1, answers
    status, body, _headers = answers["used"]
    assert status == 404
    assert "not valid" in body.decode()
    for word in ("Countersign", "Example", "Payments", "Invoicing", "Acceptance", "Grace"):
        assert word not in body.decode()


def test_the_twentieth_failure_closes_a_link_and_what_is_our_fault_does_not_count(ask, make_file, monkeypatch):
    partner, path, file = Client(), ask(), make_file()

    def say(code: str) -> Callable[[Any], Any]:
        def read(_question: Any) -> Any:
            raise Refusal(code)

        return read

    monkeypatch.setattr(one_shot, "read", say("busy"))
    assert send(partner, path, file).status_code == 422
    assert UploadLink.objects.get().tries == 0
    monkeypatch.setattr(one_shot, "read", say("wrong_password"))
    for _ in range(19):
        assert send(partner, path, file).status_code == 422
    assert send(partner, path, file).status_code == 404
    monkeypatch.undo()

    assert send(partner, path, file).status_code == 404
    assert events("link.limited", "link.used") == ["link.limited"]
    assert not Draft.objects.exists(), "nothing that was sent stays"
    assert not SealedObject.objects.filter(field="draft").exists()


def test_whoever_tries_ten_links_that_are_not_open_waits_and_others_do_not(ask):
    path, guesser = ask(), Client(REMOTE_ADDR="198.51.100.7")
    for number in range(10):
        assert guesser.get(f"/partner/guess-{number}/").status_code == 404

    for address in ("/partner/guess/", path):
        assert guesser.get(address).status_code == 429
    assert Client(REMOTE_ADDR="198.51.100.8").get(path).status_code == 200
    assert len(events("link.refused")) == 10, "whoever waits fills no log"
    signed_in = Client()
    signed_in.force_login(Person.objects.get(username="grace"))
    assert "tried an upload link that does not exist" in text_of(signed_in.get("/audit/"))


def test_links_that_expire_are_closed_by_the_clock(ask, make_file):
    path = ask()
    send(Client(), path, make_file(), "not this")
    UploadLink.objects.update(expires_at=timezone.now())

    actions.tidy_links()
    actions.tidy_links()

    assert events("link.expired") == ["link.expired"]
    assert not Draft.objects.exists(), "what was sent and never opened"
    UploadLink.objects.update(ended_at=timezone.now() - timedelta(days=31))
    actions.tidy_links()
    assert not UploadLink.objects.exists()


def test_of_two_readings_at_once_one_is_taken(ask, make_file, monkeypatch, owner):
    path, file = ask(), make_file()
    link = UploadLink.objects.get()
    real = one_shot.read

    def meanwhile(question: Any) -> Any:
        monkeypatch.setattr(one_shot, "read", real)
        assert send(Client(), path, make_file("the other")).status_code == 200
        return real(question)

    monkeypatch.setattr(one_shot, "read", meanwhile)
    # Whoever was quicker has not come to this yet.
    monkeypatch.setattr(links, "_forget_unread", lambda _link: None)
    assert send(Client(), path, file).status_code == 404

    link.refresh_from_db()
    assert link.ended_as == "used"
    assert [draft.version().common_name for draft in links.arrived()] == ["the other"]
    left = Draft.objects.get(facts={})
    with pytest.raises(Refused, match="choose the file again"):
        actions.open_draft(draft_id=left.pk, environment=left.environment, session_key="", by=owner)


# --- What partners learn, and what is kept of them --------------------------------------------------------------------


def test_a_partner_reads_what_was_written_for_them_and_nothing_else(ask, environment, certificate, pin, make_file):
    pin("api.example.com", certificate)
    ClientCertificate.objects.update(contact="Anna", notes="a note", how_to_renew="By mail")
    partner, path = Client(), ask()

    pages = [partner.get(path), send(partner, path, make_file(), "no"), send(partner, path, make_file())]

    for page in pages:
        words = page.content.decode()
        for secret in (
            "Countersign", "Bank payments", "Invoicing", "Acceptance", "api.example.com", "Anna", "a note", "By mail",
            "Grace", "grace", str(certificate.pk), str(environment.pk), "sign-in", "page.js", "htmx",
        ):  # fmt: skip
            assert secret not in words, secret
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["X-Robots-Tag"] == "noindex, nofollow"
        assert "Set-Cookie" not in page.headers
    assert [page.headers["Referrer-Policy"] for page in pages] == ["strict-origin", "strict-origin", "no-referrer"]


def test_the_form_is_guarded_against_other_sites(ask, make_file):
    partner, path = Client(enforce_csrf_checks=True), ask()
    refused = send(partner, f"{path}de/", make_file())
    assert refused.status_code == 403
    assert "Es ist nichts angekommen" in text_of(refused)
    assert "Countersign" not in text_of(refused)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', partner.get(path).content.decode())[1]
    given = {"csrfmiddlewaretoken": token}
    assert send(partner, path, make_file(), given=given, headers={"Origin": "null"}).status_code == 403
    assert send(partner, path, make_file(), given=given, headers={"Origin": "http://testserver"}).status_code == 200


def test_neither_password_nor_key_nor_address_is_kept_in_any_row_file_or_log(ask, signed_in, caplog, at):
    wrong, right = "wrong-horse-3f9", "right-horse-7c1"
    issued = pki.issue()
    path = ask()
    token = path.split("/")[2]
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.extend((logs.Line().format(record), logs.Json().format(record)))

    keep = Keep()
    logging.getLogger().addHandler(keep)
    try:
        with caplog.at_level(logging.DEBUG):
            for password in (wrong, right, right):
                send(Client(), path, pki.pfx(issued, right), password)
            Client(enforce_csrf_checks=True).post(path)
            Client().get(path.removesuffix("/"))
            logging.getLogger("x").warning("Somebody asked for %s", path, extra={"facts": {"path": path}})
    finally:
        logging.getLogger().removeHandler(keep)
    signed_in.get(at("draft", Draft.objects.get().pk))

    models = (Event, Version, Draft, UploadLink, SealedObject)
    rows = " ".join(str(value) for model in models for row in model.objects.values() for value in row.values())
    files = b"".join(storages["vault"].open(name, "rb").read() for name in storages["vault"].listdir("")[1])
    assert files
    said = "\n".join(lines)
    assert "/partner/…" in said
    for secret in (wrong, right, token, token.partition(".")[0]):
        assert secret not in rows
        assert secret not in said
    for key in (issued.key_der, issued.key_pem):
        assert key not in files
        assert str(key) not in rows


def test_the_language_is_that_of_the_address_then_of_the_browser_then_english(ask):
    path = ask()

    def heard(suffix: str = "", accepted: str = "") -> str:
        page = Client().get(path + suffix, headers={"Accept-Language": accepted})
        return re.search(r'<html lang="(\w+)"', page.content.decode())[1]

    assert heard() == "en"
    assert heard(accepted="fr-CH, de-AT;q=0.9, nl;q=0.8") == "de"
    assert heard("nl/", accepted="de") == "nl"
    assert heard("xx/", accepted="nl-BE") == "nl"
    assert "Versturen" in text_of(Client().get(f"{path}nl/"))


def test_the_portal_stays_english_for_a_german_browser(signed_in, certificate):
    for client in (Client(), signed_in):
        for address in ("/sign-in/", certificate.get_absolute_url(), "/nothing/here/"):
            english = client.get(address, headers={"Accept-Language": "en"}, follow=True)
            german = client.get(address, headers={"Accept-Language": "de"}, follow=True)
            assert 'lang="en"' in german.content.decode()
            assert text_of(german) == text_of(english)


# --- Asking -----------------------------------------------------------------------------------------------------------


def test_a_link_is_shown_once_and_withdrawn(signed_in, at, certificate):
    page = signed_in.post(at("certificate-ask", certificate.pk), ASKED | {"language": "nl"})
    address = re.search(r'id="upload-link">([^<]+)<', page.content.decode())[1]
    assert address.startswith("http://testserver/partner/")
    assert page.headers["Cache-Control"] == "no-store"
    assert "Wachtwoord van het bestand" in text_of(Client().get(address))

    listed = signed_in.get(certificate.get_absolute_url())
    assert "Open until" in text_of(listed)
    assert address.split("/")[4] not in listed.content.decode()
    link = UploadLink.objects.get()
    assert timedelta(days=6, hours=23) < link.expires_at - timezone.now() <= timedelta(days=7)
    again = signed_in.get(at("certificate-ask", certificate.pk))
    assert again.context["form"]["asked_by"].value() == "Example Ltd", "who asked last asks again"

    withdrawn = signed_in.post(at("link-withdraw", certificate.pk, link.pk), follow=True)
    assert "Withdrawn. Nobody can send anything" in text_of(withdrawn)
    assert Client().get(address).status_code == 404
    assert "not open any more" in text_of(signed_in.post(at("link-withdraw", certificate.pk, link.pk), follow=True))
    assert ours("link.") == ["link.created", "link.withdrawn", "link.refused"]


@pytest.mark.matrix
def test_who_may_make_and_withdraw_links(at, certificate, ask, person_with, add_certificate):
    ask()
    link = UploadLink.objects.get()
    asking, withdrawing = at("certificate-ask", certificate.pk), at("link-withdraw", certificate.pk, link.pk)
    mallory = Client()
    mallory.force_login(Person.objects.create_user("mallory", password="x"))
    expected = {"viewer": 403, "exporter": 403, "editor": 200, "operator": 200}
    for role, status in expected.items():
        assert person_with(role).get(asking).status_code == status, role
    for stranger, status in ((mallory, 404), (Client(), 302)):
        assert stranger.get(asking).status_code == status
        assert stranger.post(asking, ASKED).status_code == status
        assert stranger.post(withdrawing).status_code == status
    other = add_certificate("Another")
    editor = Client()
    editor.force_login(Person.objects.get(username="a-editor"))
    assert editor.post(at("link-withdraw", other.pk, link.pk)).status_code == 404
    assert UploadLink.objects.get().is_open


@pytest.mark.parametrize(("field", "text"), [("asked_by", ""), ("about", "a\u202eb"), ("asked_by", "x" * 201)])
def test_what_a_partner_could_not_read_is_refused_and_what_was_typed_stays(signed_in, at, certificate, field, text):
    answer = signed_in.post(at("certificate-ask", certificate.pk), ASKED | {field: text})

    assert answer.status_code == 422
    assert error_beside(answer, field)
    assert answer.context["form"][field].value() == text
    assert not UploadLink.objects.exists()


MAILING = {"MAILS": True, "ADDRESS": "https://countersign.example"}


@override_settings(**MAILING)
def test_the_link_is_mailed_in_the_partners_language_where_it_is_wanted(signed_in, at, certificate):
    form = signed_in.get(at("certificate-ask", certificate.pk)).context["form"]
    assert "mail" not in form.fields, "nobody is known to mail to"
    assert "note their e-mail first" in text_of(signed_in.get(at("certificate-ask", certificate.pk)))
    ClientCertificate.objects.update(contact_mail="pki@bank.example")

    page = signed_in.post(at("certificate-ask", certificate.pk), ASKED | {"language": "de", "mail": "on"})

    address = re.search(r'id="upload-link">([^<]+)<', page.content.decode())[1]
    assert address.startswith("https://countersign.example/partner/")
    assert "Mailed to pki@bank.example." in text_of(page)
    sent = mail.outbox[0]
    assert (sent.to, sent.subject) == (
        ["pki@bank.example"],
        "Example Ltd benötigt ein neues Client-Zertifikat für „Payments“",
    )
    assert address in sent.body
    assert "Bitte senden Sie weder die Datei noch das Passwort per E-Mail." in sent.body
    assert ours("link.") == ["link.created", "link.mailed"]
    signed_in.post(at("certificate-ask", certificate.pk), ASKED)
    assert len(mail.outbox) == 1


@override_settings(**MAILING, EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend", EMAIL_PORT=1)
def test_a_mail_that_cannot_be_sent_is_said_and_the_link_holds(signed_in, at, certificate):
    ClientCertificate.objects.update(contact_mail="pki@bank.example")

    page = signed_in.post(at("certificate-ask", certificate.pk), ASKED | {"mail": "on"})

    assert "The mail server cannot be reached; give the partner the link yourself." in text_of(page)
    address = re.search(r'id="upload-link">([^<]+)<', page.content.decode())[1]
    assert Client().get(address.replace("https://countersign.example", "")).status_code == 200
    assert ours("link.") == ["link.created"]


def test_no_mail_is_offered_where_none_can_be_sent(signed_in, at, certificate):
    ClientCertificate.objects.update(contact_mail="pki@bank.example")
    assert not django_settings.MAILS
    assert "mail" not in signed_in.get(at("certificate-ask", certificate.pk)).context["form"].fields


def test_the_certificates_page_asks_as_much_of_the_database_for_many_links_as_for_one(
    signed_in, certificate, ask, make_file, django_assert_max_num_queries
):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    send(Client(), ask(), make_file())
    for address in (certificate.get_absolute_url(), "/"):
        with CaptureQueriesContext(connection) as few:
            signed_in.get(address)
        before = len(few)
        for _ in range(3):
            send(Client(), ask(), make_file(key="ec-p256"))
        with django_assert_max_num_queries(before):
            signed_in.get(address)


def test_a_reason_has_an_end(ask, make_file, owner):
    send(Client(), ask(), make_file())
    draft = links.arrived().select_related("certificate", "sealed").get()
    with pytest.raises(Refused, match="at most 500"):
        actions.discard(draft=draft, reason="x" * 501, by=owner)
    drafts.drop_draft(draft=draft, by=owner)
    with pytest.raises(Refused, match="a moment ago"):
        actions.discard(draft=draft, reason="gone", by=owner)
