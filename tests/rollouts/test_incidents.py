"""A compromised key: said, seen to place by place, and not used again by mistake."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import Event
from certificates import actions as certificates
from certificates.compromised import CompromisedKey
from certificates.models import Announcement, ClientCertificate, Incident, Version
from environments import actions as environments
from environments.models import Environment, Person
from environments.refusals import Refused
from rollouts import actions
from rollouts.incidents import course
from rollouts.models import Destination
from tests import pki

pytestmark = pytest.mark.django_db(transaction=True)

PARTNER = pki.make_authority("Partner CA")
OLD, NEW = pki.issue("bank", authority=PARTNER), pki.issue("bank", authority=PARTNER)
SAME_KEY = pki.issue("bank", authority=PARTNER, key=OLD.key)


def text_of(response: Any) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def signed_in(person: Person) -> Client:
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def bank(environment: Environment, owner: Person) -> ClientCertificate:
    return certificates.add(environment=environment, name="Bank", identity=OLD.identity, by=owner)


@pytest.fixture
def hidden(environment: Environment, owner: Person) -> ClientCertificate:
    """The same key in a place that a member of the first one may not see."""
    where = environments.create_environment(application=environment.application, name="Hidden", by=owner)
    made = certificates.add(environment=where, name="Secret project", identity=OLD.identity, by=owner)
    certificates.describe(certificate=made, contact="secret@example.com", by=owner)
    return made


@pytest.fixture
def member(environment: Environment, owner: Person) -> Callable[[str, str], Person]:
    def member(name: str, role: str) -> Person:
        person = Person.objects.create_user(name, password="x")
        environments.add_member(
            application=environment.application, environment=environment, person=person, role=role, by=owner
        )
        return person

    return member


def said(certificate: ClientCertificate, by: Person) -> Incident:
    version = certificate.versions.get(number=1)
    return actions.open_incident(certificate=certificate, version=version, reason="The laptop was stolen", by=by)


def first(certificate: ClientCertificate) -> Version:
    found: Version = certificate.versions.get(number=1)
    found.certificate = certificate
    return found


# --- From the beginning to the end ---


def test_it_is_closed_when_nothing_runs_with_the_key_and_its_revocation_was_asked_for(
    bank: ClientCertificate, environment: Environment, owner: Person, running_app: Any, apply: Any
) -> None:
    apply()
    incident = said(bank, owner)
    assert said(bank, owner) == incident, "said twice, it is one"

    def why() -> str:
        found = course(incident, owner)
        assert found is not None
        return found.why_not_closed

    assert "replace or disable it" in why()
    certificates.renew(certificate=bank, identity=NEW.identity, in_use=True, by=owner)
    told = course(incident, owner)
    assert told is not None
    assert [(place.taken_out, place.over, place.apply) for place in told.places] == [(True, False, True)]
    assert told.places[0].says == "Version 1 is still in what runs (revision 1)."
    assert "apply first" in why()
    with pytest.raises(Refused, match="apply first"):
        actions.close_incident(incident=incident, by=owner)
    apply()
    told = course(incident, owner)
    assert told is not None
    assert told.places[0].done
    assert told.places[0].says == "Revision 2 runs without it, as the app itself reports."
    assert "revocation" in why()
    actions.announce(
        incident=incident, kind="revocation", version=first(bank), certificate=bank, note="call 17", by=owner
    )
    with pytest.raises(Refused, match="noted already"):
        actions.announce(incident=incident, kind="revocation", version=first(bank), certificate=bank, note="", by=owner)
    actions.close_incident(incident=incident, note="All done", by=owner)
    with pytest.raises(Refused, match="closed meanwhile"):
        actions.withdraw_incident(incident=incident, note="x", by=owner)
    recorded = Event.objects.filter(action__in=("key.compromised", "revocation.requested", "incident.closed"))
    assert [event.action for event in recorded.order_by("id")] == [
        "key.compromised", "revocation.requested", "incident.closed",
    ]  # fmt: skip
    assert first(bank).key_is_compromised, "also afterwards"
    log = text_of(signed_in(owner).get("/audit/"))
    assert "said that the key of Bank is compromised" in log
    assert "closed what was done about the compromised key of Bank" in log
    assert "asked for the revocation of Bank (serial number" in log


def test_what_may_run_is_never_said_to_be_over(
    bank: ClientCertificate, environment: Environment, owner: Person, running_app: Destination, apply: Any
) -> None:
    apply()
    incident = said(bank, owner)
    certificates.disable(certificate=bank, by=owner)
    shown = actions.pending(environment)[0].digest
    rollout = actions.apply(environment=environment, shown=shown, reason="out", by=owner)

    def seen() -> tuple[str, bool]:
        found = course(incident, owner)
        assert found is not None
        return found.places[0].seen.text, found.places[0].over

    assert seen() == ("Applying", False)
    actions.cancel(rollout=rollout, by=owner)
    assert seen() == ("Runs with the key", False)
    apply()
    assert seen() == ("Gone from what runs", True)
    Destination.objects.update(observed_digest="another", observed_status="running")
    assert seen() == ("Changed outside Countersign", False)
    environment.rollouts.update(state="needs_help")
    assert seen() == ("Needs help", False)


def test_a_false_alarm_makes_the_key_as_good_as_any_other(bank: ClientCertificate, owner: Person) -> None:
    incident = said(bank, owner)
    assert first(bank).key_is_compromised
    with pytest.raises(Refused, match="Say why"):
        actions.withdraw_incident(incident=incident, note=" ", by=owner)
    actions.withdraw_incident(incident=incident, note="It was another file", by=owner)
    assert not first(bank).key_is_compromised
    assert said(bank, owner) != incident, "and it can be said again"


def test_one_open_incident_per_key(bank: ClientCertificate, owner: Person) -> None:
    incident = said(bank, owner)
    again = Incident(spki_sha256=incident.spki_sha256, certificate=bank, reason="x", opened_by="x")
    with pytest.raises(IntegrityError), transaction.atomic():
        again.save()
    actions.announce(incident=incident, kind="partner", version=first(bank), certificate=bank, note="", by=owner)
    made = Announcement.objects.get()
    made.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        made.save()


def test_who_has_only_the_certificate_cannot_speak_for_the_key(environment: Environment, owner: Person) -> None:
    tracked = certificates.add(
        environment=environment, name="Theirs", identity=OLD.identity.__class__(b"", OLD.certificate_der, (), None),
        by=owner,
    )  # fmt: skip
    assert first(tracked).is_tracked_only
    with pytest.raises(Refused, match="not here"):
        said(tracked, owner)
    assert not Incident.objects.exists()


def test_who_has_only_the_certificate_neither_learns_of_an_incident_nor_touches_it(
    bank: ClientCertificate, environment: Environment, owner: Person
) -> None:
    """Certificates are public: to track one is no right to anything."""
    where = environments.create_application(name="Elsewhere", by=owner)
    place = environments.create_environment(application=where, name="Test", by=owner)
    eve = Person.objects.create_user("eve", password="x")
    environments.add_member(application=where, person=eve, role="owner", by=owner)
    public = OLD.identity.__class__(b"", OLD.certificate_der, (), None)
    tracked = certificates.add(environment=place, name="Watched", identity=public, by=eve)
    incident, client = said(bank, owner), signed_in(eve)
    pages = (tracked.get_absolute_url(), "/", "/certificates/", f"/reach/keys/{incident.spki_sha256}/")
    for page in pages:
        assert "ompromised" not in client.get(page).content.decode(), page
    for page, typed in (("", None), ("announce/", {"kind": "revocation", "sha256": first(bank).sha256})):
        address = f"{incident.get_absolute_url()}{page}"
        assert (client.post(address, typed) if typed else client.get(address)).status_code == 404
    assert not Announcement.objects.exists()


def test_of_what_is_exported_by_hand_nothing_is_claimed(bank: ClientCertificate, owner: Person) -> None:
    incident = said(bank, owner)
    certificates.disable(certificate=bank, by=owner)
    page = text_of(signed_in(owner).get(incident.get_absolute_url()))
    assert "1 not seen from here" in page
    assert "Exported by hand: see to it there." in page
    assert "Nothing runs with" not in page


# --- Not back into use by mistake ---


def test_a_version_with_it_is_used_again_only_with_a_reason(bank: ClientCertificate, owner: Person) -> None:
    certificates.renew(certificate=bank, identity=NEW.identity, in_use=True, by=owner)
    said(bank, owner)
    client, page = signed_in(owner), f"{bank.get_absolute_url()}versions/1/use/"
    with pytest.raises(CompromisedKey):
        certificates.use_version(version=first(bank), by=owner)
    answer = client.post(page)
    assert answer.status_code == 422
    assert "The private key of “Bank v1” is compromised; say why" in text_of(answer)
    bank.refresh_from_db()
    assert bank.in_use.number == 2
    assert client.post(page, {"despite": "The bank is  closed today"}).status_code == 302
    bank.refresh_from_db()
    assert bank.in_use.number == 1
    event = Event.objects.filter(action="certificate.version-chosen").get()
    assert json.loads(event.body)["details"]["despite"] == "The bank is closed today"


def test_a_disabled_certificate_with_it_is_enabled_only_with_a_reason(bank: ClientCertificate, owner: Person) -> None:
    said(bank, owner)
    certificates.disable(certificate=bank, by=owner)
    client, page = signed_in(owner), f"{bank.get_absolute_url()}switch/"
    answer = client.post(page, {"enabled": "yes"})
    assert answer.status_code == 422
    bank.refresh_from_db()
    assert not bank.enabled
    hidden_fields = dict(re.findall(r'type="hidden" name="(enabled)" value="(\w+)"', answer.content.decode()))
    client.post(page, {**hidden_fields, "despite": "until tonight"})
    bank.refresh_from_db()
    assert bank.enabled


def test_going_back_to_a_revision_with_it_has_to_be_insisted_on(
    bank: ClientCertificate, environment: Environment, owner: Person, running_app: Any, apply: Any
) -> None:
    apply()
    certificates.renew(certificate=bank, identity=NEW.identity, in_use=True, by=owner)
    apply()
    page = f"{environment.get_absolute_url()}revisions/1/roll-back/"
    client = signed_in(owner)
    assert "compromised" not in text_of(client.get(page))
    said(bank, owner)
    assert "Revision 1 contains a key that is compromised: Bank v1" in text_of(client.get(page))
    answer = client.post(page, {"reason": "The new one is refused"})
    assert answer.status_code == 422
    assert "Revision 1 has a compromised key: that of “Bank v1”. Tick that you want it all the same." in text_of(answer)
    assert client.post(page, {"reason": "The new one is refused", "despite_key": "on"}).status_code == 302
    event = Event.objects.filter(action="rollout.requested").first()
    assert event is not None
    assert json.loads(event.body)["details"]["despite"] == "The new one is refused"


def test_undoing_a_replacement_has_to_be_insisted_on(
    bank: ClientCertificate, environment: Environment, owner: Person, running_app: Any, apply: Any
) -> None:
    apply()
    said(bank, owner)
    certificates.renew(certificate=bank, identity=NEW.identity, in_use=True, by=owner)
    client, page = signed_in(owner), f"{environment.get_absolute_url()}undo/"
    shown = actions.pending(environment)[0].digest
    answer = client.post(page, {"shown": shown})
    assert answer.status_code == 422
    assert "Why a compromised key comes back" in text_of(answer)
    bank.refresh_from_db()
    assert bank.in_use.number == 2
    assert client.post(page, {"shown": shown, "despite": "The new one is refused"}).status_code == 302
    bank.refresh_from_db()
    assert bank.in_use.number == 1
    certificates.rename(certificate=bank, name="Renamed", by=owner)
    certificates.add(environment=environment, name="More", identity=pki.issue("more").identity, by=owner)
    shown = actions.pending(environment)[0].digest
    actions.undo_changes(environment=environment, shown=shown, by=owner)  # it was in use all the time


def test_the_same_key_uploaded_again_is_warned_about(bank: ClientCertificate, owner: Person) -> None:
    said(bank, owner)
    version = certificates.unsaved_version(SAME_KEY.identity)
    assert [warning["code"] for warning in certificates.warnings_of(version)] == ["compromised"]
    client, file = signed_in(owner), SimpleUploadedFile("again.pfx", pki.pfx(SAME_KEY, "secret"))
    preview = client.post(bank.environment.url("certificate-new"), {"file": file, "password": "secret"}, follow=True)
    assert "Its private key is compromised: others may have it." in text_of(preview)
    refused = client.post(preview.redirect_chain[-1][0], {"name": "Again"})
    assert refused.status_code == 422
    assert "Read the warnings and tick the box" in text_of(refused)
    assert certificates.warnings_of(certificates.unsaved_version(NEW.identity)) == []


def test_lists_say_that_its_key_is_compromised(bank: ClientCertificate, owner: Person) -> None:
    said(bank, owner)
    client = signed_in(owner)
    for page in ("/certificates/", f"{bank.environment.get_absolute_url()}network/", bank.get_absolute_url()):
        assert "Key compromised" in text_of(client.get(page)), page


# --- Who is told what ---


def test_a_member_sees_their_places_and_nothing_of_the_rest(
    bank: ClientCertificate, hidden: ClientCertificate, owner: Person, member: Any
) -> None:
    incident = said(hidden, owner)
    page, editor = incident.get_absolute_url(), signed_in(member("ada", "editor"))
    told = text_of(editor.get(page))
    assert "The key of Bank is compromised" in told
    assert "1 to take out" in told
    assert "Ask an installation owner to look at the whole installation." in told
    whole = editor.get(page).content.decode() + editor.get(f"{page}places/").content.decode()
    for word in ("Secret", "Hidden", "secret@", "laptop", "Grace"):
        assert word not in whole
    assert editor.post(f"{page}close/", {"false_alarm": "yes", "note": "x"}).status_code == 404
    assert editor.post(f"{page}take-out/", {"certificate": str(hidden.pk)}).status_code == 404
    actions.announce(
        incident=incident, kind="revocation", version=first(hidden), certificate=hidden, note="secret", by=owner
    )
    told = text_of(editor.get(page))
    assert "Revocation asked for" in told
    assert "secret" not in told
    assert "Grace" not in told
    assert "2 to take out" in text_of(signed_in(owner).get(page))


@pytest.mark.matrix
@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 302), ("editor", 302), (None, 404)])
def test_who_may_say_so_and_act(
    role: str | None, status: int, bank: ClientCertificate, environment: Environment, owner: Person, member: Any
) -> None:
    person = member("ada", role) if role else Person.objects.create_user("eve", password="x")
    client = signed_in(person)
    typed = {"version": "1", "reason": "The laptop was stolen"}
    assert client.post(f"{bank.get_absolute_url()}compromised/", typed).status_code == status
    incident = said(bank, owner)
    page = incident.get_absolute_url()
    assert client.get(page).status_code == (404 if role is None else 200)
    assert client.get(f"{page}places/").status_code == (404 if role is None else 286)
    sha256 = first(bank).sha256
    note = {"kind": "revocation", "sha256": sha256}
    assert client.post(f"{page}announce/", note).status_code == status
    assert client.post(f"{page}take-out/", {"certificate": str(bank.pk)}).status_code == status
    assert client.post(f"{page}close/", {"note": "all done"}).status_code == status
    incident.refresh_from_db()
    assert (incident.closed_at is not None) == (status == 302), "it never ran, it is disabled, and it is asked for"


def test_another_places_closing_does_not_silence_this_one(
    bank: ClientCertificate, hidden: ClientCertificate, owner: Person, member: Any
) -> None:
    ada = member("ada", "editor")
    incident = said(bank, ada)
    certificates.disable(certificate=bank, by=ada)
    actions.announce(incident=incident, kind="revocation", version=first(bank), certificate=bank, note="", by=ada)
    actions.close_incident(incident=incident, by=ada)
    home = text_of(signed_in(owner).get("/"))
    assert "Key compromised Secret project in Invoicing / Hidden" in home
    certificates.disable(certificate=hidden, by=owner)
    assert "Key compromised" not in text_of(signed_in(owner).get("/"))


def test_an_open_incident_stands_first_on_the_home_page(
    bank: ClientCertificate, owner: Person, add_certificate: Any
) -> None:
    past = timezone.now() - timedelta(days=1)
    add_certificate("Gone", not_before=past - timedelta(days=9), not_after=past)
    said(bank, owner)
    home = text_of(signed_in(owner).get("/"))
    assert home.index("Key compromised Bank in Invoicing / Acceptance") < home.index("Expired Gone")


def test_its_page_asks_as_often_for_many_places_as_for_one(
    bank: ClientCertificate, environment: Environment, owner: Person, member: Any
) -> None:
    incident, client = said(bank, owner), signed_in(owner)

    def queries(page: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(page).status_code == 200
        return len(captured)

    pages = (incident.get_absolute_url(), "/")
    for page in pages:
        client.get(page)  # what is counted once is counted
    before = [queries(page) for page in pages]
    for number in range(6):
        where = environments.create_environment(application=environment.application, name=f"Site {number}", by=owner)
        issued = OLD if number % 2 else SAME_KEY
        made = certificates.add(environment=where, name=f"Bank {number}", identity=issued.identity, by=owner)
        if number < 2:
            actions.announce(
                incident=incident, kind="partner", version=first(made), certificate=made, note="", by=owner
            )
    for page in pages:
        client.get(page)
    assert [queries(page) for page in pages] == before
