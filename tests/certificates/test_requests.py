"""A request for a certificate: its key is made here and never leaves; what comes back is matched with it."""

from __future__ import annotations

import base64
import json
import smtplib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, pkcs7
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.core import mail
from django.core.files.storage import storages
from django.db import connection
from django.test import Client
from django.utils import timezone

from audit.models import Event
from certificates import actions, identities, pkcs10, pkcs12
from certificates.models import CertificateRequest, ClientCertificate, Draft, Version
from environments import actions as environments
from environments.models import Environment, Person
from environments.refusals import Refused
from rollouts import actions as rollouts
from tests import pki
from tests.certificates.conftest import error_beside, text_of, upload
from vault import safe
from vault.models import SealedObject

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = pki.make_authority("Partner Root")
ISSUING = pki.make_authority("Partner Issuing", authority=ROOT)
SUBJECT = "CN=client.example.com\nO=Example"


@pytest.fixture
def ask(environment: Environment, owner: Person) -> Callable[..., CertificateRequest]:
    def ask(name: str = "Bank", certificate: ClientCertificate | None = None, **kwargs: Any) -> CertificateRequest:
        given = {"subject": SUBJECT, "names": "", "key": "ec-p256", "environment": environment, "by": owner}
        return actions.request_certificate(**given | {"name": name, "certificate": certificate} | kwargs)

    return ask


def issue(request: CertificateRequest, authority: pki.Issued = ISSUING, serial: int = 0) -> x509.Certificate:
    """What a partner's authority makes of a request: its subject, its key and its extensions."""
    asked = x509.load_der_x509_csr(bytes(request.request))
    builder = (
        x509.CertificateBuilder()
        .subject_name(asked.subject)
        .issuer_name(authority.certificate.subject)
        .public_key(asked.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(pki.NOW - timedelta(days=1))
        .not_valid_after(pki.NOW + timedelta(days=365))
    )
    for extension in asked.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(authority.key, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def p7b(*certificates: x509.Certificate) -> bytes:
    return pkcs7.serialize_certificates(list(certificates), Encoding.DER)


def give_back(client: Client, at: Any, request: CertificateRequest, file: bytes, name: str = "client.p7b") -> Any:
    return client.post(at("request", request.pk), {"file": upload(file, name)}, follow=True)


def identity_of(version: Version) -> identities.Identity:
    assert version.sealed is not None
    return identities.unpack(safe.open_sealed(version.sealed, record=lambda _sealed: None))


def key_of(request: CertificateRequest) -> bytes:
    assert request.sealed is not None
    return safe.open_sealed(request.sealed, record=lambda _sealed: None)


@pytest.fixture
def sealed_files() -> Callable[[], int]:
    """How many ciphertexts there are more than at the beginning."""

    def names() -> set[str]:
        try:
            return set(storages["vault"].listdir("")[1])
        except FileNotFoundError:
            return set()  # nothing was ever put there

    before = names()
    return lambda: len(names() - before)


def details_of(action: str) -> dict[str, Any]:
    details: dict[str, Any] = json.loads(Event.objects.filter(action=action).latest("id").body)["details"]
    return details


# --- What is asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "size", "digest"), [("rsa-3072", 3072, "sha256"), ("ec-p256", 256, "sha256"), ("ec-p384", 384, "sha384")]
)
def test_a_request_says_subject_names_and_purpose_and_is_signed_by_its_own_key(kind, size, digest, ask):
    names = "a.example.com\n192.0.2.7\nDNS: *.b.example.com\nops@example.com\nurn:client:7"
    request = ask(key=kind, names=names)

    made = x509.load_pem_x509_csr(pkcs10.text_of(bytes(request.request)).encode())
    assert made.is_signature_valid
    assert made.signature_hash_algorithm is not None
    assert made.signature_hash_algorithm.name == digest
    key = load_der_private_key(key_of(request), None)
    assert key.key_size == size  # type: ignore[union-attr]
    assert key.public_key() == made.public_key()
    # The organisation first: the order that certificates have, and pages turn round.
    assert [one.value for one in made.subject] == ["Example", "client.example.com"]
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    asked = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [type(one).__name__ for one in asked] == [
        "DNSName", "IPAddress", "DNSName", "RFC822Name", "UniformResourceIdentifier"
    ]  # fmt: skip
    assert request.names == ["a.example.com", "192.0.2.7", "*.b.example.com", "ops@example.com", "urn:client:7"]


def test_a_renewal_asks_for_the_old_subject_in_its_order_and_its_string_types(owner, environment, signed_in, at):
    old = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "client.example.com", _ASN1Type.PrintableString),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Bänk, Inc", _ASN1Type.BMPString),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
        ]
    )
    key = pki.make_key("ec-p384")
    leaf = x509.CertificateBuilder().subject_name(old).issuer_name(old).public_key(key.public_key()).serial_number(7)
    leaf = leaf.not_valid_before(pki.NOW).not_valid_after(pki.NOW + timedelta(days=9)).sign(key, hashes.SHA256())
    file = pki.pfx(pki.Issued(key, leaf), "secret")
    certificate = actions.add(environment=environment, name="B", identity=pkcs12.read(file, "secret"), by=owner)

    address = at("request-renewal", certificate.pk)
    form = signed_in.get(address).context["form"]
    assert form.initial["subject"] == "C=DE\nO=Bänk, Inc\nCN=client.example.com"
    assert form.initial["key"] == "ec-p384"
    signed_in.post(address, {**form.initial, "key": "ec-p256"})
    signed_in.post(address, {**form.initial, "subject": "C=AT\nO=Bänk, Inc\nCN=other.example.com", "key": "ec-p256"})

    same, edited = (x509.load_der_x509_csr(bytes(one.request)).subject for one in CertificateRequest.objects.all())
    assert same.public_bytes() == old.public_bytes(), "byte by byte"
    assert [one._type for one in edited] == [one._type for one in old]
    assert [one.value for one in edited] == ["other.example.com", "Bänk, Inc", "AT"]


def test_what_was_uploaded_before_string_types_were_kept_is_asked_for_by_its_text(add_certificate, signed_in, at):
    certificate = add_certificate(
        cn="client", sans=["a.example.com", x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]
    )
    Version.objects.update(subject_parts=[])
    shown = signed_in.get(at("request-renewal", certificate.pk))
    assert shown.context["form"].initial["subject"] == "CN=client\nO=Example Partner"
    assert shown.context["form"].initial["names"] == "a.example.com"
    assert "Not carried over from the version in use: 1.2.3." in text_of(shown)


BAD = [
    ("subject", "client.example.com", "no part of a name"),
    ("subject", "CN=client, O=Example", "more than one part"),
    ("subject", "CN=client\nC=Germany", "two letters"),
    ("subject", "CN=" + "x" * 65, "at most 64 characters"),
    ("subject", "XY=client", "not known as a part of a name"),
    ("subject", "CN=a\x00b", "control characters"),
    ("subject", "", "at least one part"),
    ("names", "a.example.com:443", "leave the port out"),
    ("names", "bücher.example", "xn--"),
    ("names", "IP: 1.2.3.400", "not an IP address"),
    ("key", "rsa-1024", "Choose one of the kinds"),
    ("name", "  ", "Give it a name."),
    ("name", "Taken", "already a certificate “Taken” here"),
]


def test_what_cannot_be_asked_for_is_said_beside_its_field_and_stays_typed(
    sealed_files, signed_in, at, add_certificate
):
    add_certificate("Taken")
    for field, typed, words in BAD:
        given = {"name": "Bank", "subject": SUBJECT, "names": "a.example.com", "key": "ec-p256"} | {field: typed}
        refused = signed_in.post(at("request-new"), given)
        assert refused.status_code == 422, typed
        assert words in error_beside(refused, field)
        assert refused.context["form"]["subject"].value() == given["subject"]
    assert not CertificateRequest.objects.exists()
    assert sealed_files() == 1


# --- The key ----------------------------------------------------------------------------------------------------------


def test_the_key_lies_nowhere_in_clear_and_no_page_shows_it(signed_in, at, caplog, environment, settings):
    settings.MAILS = True
    given = {"name": "Bank", "subject": SUBJECT, "names": "", "key": "ec-p256"}
    page = signed_in.post(at("request-new"), given, follow=True)
    request = CertificateRequest.objects.get()
    der = key_of(request)
    key = load_der_private_key(der, None)
    secret = key.private_numbers().private_value  # type: ignore[union-attr]
    raw = secret.to_bytes(32, "big")
    signed_in.post(at("request-mail", request.pk), {"to": "ca@example.com", "message": "Please"})
    download = signed_in.get(at("request-download", request.pk))
    give_back(signed_in, at, request, p7b(issue(request)))

    said = [page.content, download.content, signed_in.get(at("network")).content, caplog.text.encode()]
    said += [signed_in.get(at("draft", Draft.objects.get().pk)).content]
    said += [str(event.body).encode() for event in Event.objects.all()]
    said += [mail.outbox[0].message().as_bytes()]
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            for row in cursor.fetchall():
                said += [bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode() for cell in row]
    for name in storages["vault"].listdir("")[1]:
        with storages["vault"].open(name, "rb") as file:
            said.append(file.read())
    # Whatever stands in front, these digits of its base64 are the same.
    needles = [raw, raw.hex().encode(), base64.b64encode(der)[60:100], b"PRIVATE KEY", str(secret).encode()]
    assert not [(needle, where[:80]) for needle in needles for where in said if needle in where]
    assert "-----BEGIN CERTIFICATE REQUEST-----" in download.content.decode()
    assert download["Content-Disposition"] == 'attachment; filename="bank.csr"'


def test_a_key_that_nobody_answers_is_destroyed_when_its_time_is_over(sealed_files, ask, signed_in, at):
    request, later = ask("Bank"), ask("Tax")
    assert request.expires_at - request.created_at > timedelta(days=89)
    sealed = request.sealed
    CertificateRequest.objects.filter(pk=request.pk).update(expires_at=timezone.now())

    rollouts.tidy()

    request.refresh_from_db()
    assert (request.ending, request.sealed, request.ended_by) == ("expired", None, "Countersign")
    assert not SealedObject.objects.filter(pk=sealed.pk).exists()
    assert sealed_files() == 1, "that of the other"
    assert Event.objects.get(action="request.expired").subject == "Bank"
    listed = text_of(signed_in.get(at("network")))
    assert "Waiting for a certificate 1" in listed
    refused = give_back(signed_in, at, request, p7b(issue(request)))
    assert "The request for “Bank” expired on" in text_of(refused)
    assert "Its key was destroyed" in text_of(refused)
    actions.withdraw_request(request=later, by=None)
    assert "Waiting for a certificate" not in text_of(signed_in.get(at("network")))


def test_withdrawing_destroys_the_key_and_is_done_once(sealed_files, ask, signed_in, at):
    request = ask()
    assert "Its private key is destroyed" in text_of(signed_in.get(at("request-withdraw", request.pk)))
    assert "its key is gone" in text_of(signed_in.post(at("request-withdraw", request.pk), follow=True))
    assert sealed_files() == SealedObject.objects.count() == 0
    assert Event.objects.filter(action="request.withdrawn").count() == 1
    with pytest.raises(Refused, match="was withdrawn by Grace"):
        actions.withdraw_request(request=request, by=None)


def test_a_key_is_not_kept_for_a_request_that_could_not_be_stored(sealed_files, ask, monkeypatch):
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("audit.trail.record", broken)
    with pytest.raises(RuntimeError):
        ask()
    assert sealed_files() == SealedObject.objects.count() == 0


def test_the_page_says_that_one_waits_and_the_fifty_first_is_refused(ask, add_certificate, signed_in, at, monkeypatch):
    certificate = add_certificate()
    ask(certificate=certificate)
    assert "A request for it waits already" in text_of(signed_in.get(at("request-renewal", certificate.pk)))
    assert "A new key for it waits" in text_of(signed_in.get(certificate.get_absolute_url()))
    monkeypatch.setattr("certificates.actions.requests.MOST", 1)
    with pytest.raises(Refused, match="1 keys wait here already"):
        ask()


# --- The answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa-3072", "ec-p256", "ec-p384"])
def test_the_certificate_becomes_the_next_version_with_the_key_that_waited(
    sealed_files, kind, ask, add_certificate, signed_in, at
):
    certificate = add_certificate()
    request = ask(certificate=certificate, key=kind)
    key, files = key_of(request), sealed_files()
    leaf = issue(request)
    # Anywhere in the file, among strangers.
    file = p7b(ROOT.certificate, pki.issue("other", authority=ISSUING).certificate, leaf, ISSUING.certificate)

    preview = give_back(signed_in, at, request, file)
    said = text_of(preview)
    assert "old beside new" in said
    assert "Its private key waits here: the request for Bank payments was made on" in said
    assert key_of(request) == key, "nothing is done with it yet"
    done = signed_in.post(preview.redirect_chain[-1][0], {"use": "now"}, follow=True)

    assert "Version 2 goes with the next apply." in text_of(done)
    certificate.refresh_from_db()
    version = certificate.in_use
    assert (version.number, version.sha256) == (2, leaf.fingerprint(hashes.SHA256()).hex())
    identity = identity_of(version)
    assert identity.key == key
    assert len(identity.chain) == len(version.chain) == 2
    request.refresh_from_db()
    assert (request.ending, request.sealed, request.version) == ("answered", None, version)
    assert sealed_files() == SealedObject.objects.count() == files, "the key is in one place, as before"
    assert details_of("key.opened")["reason"] == "to join it with its certificate"
    assert details_of("request.answered")["version"] == 2
    assert "Answered" in text_of(signed_in.get(at("request", request.pk)))


def test_a_new_certificate_gets_the_name_it_was_asked_for_and_a_chain_from_here(ask, signed_in, at, environment, owner):
    beside = pki.pfx(pki.issue("beside", authority=ISSUING), "secret")
    actions.add(environment=environment, name="Beside", identity=pkcs12.read(beside, "secret"), by=owner)
    request = ask("Bank")
    preview = signed_in.post(at("request", request.pk), {"text": pem(issue(request)).decode()}, follow=True)
    assert preview.context["form"]["name"].value() == "Bank"
    assert "added here" in text_of(preview)
    signed_in.post(preview.redirect_chain[-1][0], {"name": "Bank", "links": "1"})
    version = ClientCertificate.objects.get(name="Bank").in_use
    assert [link["completed"] for link in version.chain] == [True]
    assert identity_of(version).chain == (ISSUING.certificate_der,)


def test_the_ordinary_upload_finds_the_key_that_waits(ask, add_certificate, signed_in, at):
    certificate = add_certificate()
    request, new = ask(certificate=certificate), ask("Tax")
    for door, of_it, expected in (
        (at("certificate-new"), request, {"use": "ready"}),
        (at("certificate-new"), new, {"name": "Tax"}),
    ):
        preview = signed_in.post(door, {"file": upload(pem(issue(of_it)), "client.cer")}, follow=True)
        assert "Its private key waits here" in text_of(preview)
        signed_in.post(preview.redirect_chain[-1][0], {**expected, "confirmed": "on"})
    assert sorted(CertificateRequest.objects.values_list("ending", flat=True)) == ["answered", "answered"]
    assert certificate.versions.count() == 2
    assert ClientCertificate.objects.get(name="Tax").in_use.sealed is not None


def test_a_certificate_of_another_key_is_refused_and_says_where_it_belongs(
    sealed_files, ask, add_certificate, signed_in, at
):
    first, second, gone = ask("Bank"), ask("Tax"), ask("Old")
    actions.withdraw_request(request=gone, by=None)
    where = give_back(signed_in, at, first, pem(issue(second)))
    assert error_beside(where, "file") == (
        "This certificate belongs to the key of “Tax” in Invoicing / Acceptance; give it back there."
    )
    late = give_back(signed_in, at, first, pem(issue(gone)))
    assert "The request for “Old” was withdrawn by Countersign" in error_beside(late, "file")
    nobody = give_back(signed_in, at, first, pem(pki.issue("x", authority=ISSUING).certificate))
    assert error_beside(nobody, "file").startswith("This certificate belongs to another key than the one that waits")
    both = pem(pki.issue("x").certificate, pki.issue("y").certificate)
    assert "None of the certificates" in error_beside(give_back(signed_in, at, first, both), "file")
    for file, words in (
        (pkcs10.text_of(bytes(first.request)).encode(), "This is a request"),
        (b"hello", "no certificate in this file"),
        (pki.pfx(pki.issue("x"), "secret"), "may hold a private key"),
    ):
        assert words in error_beside(give_back(signed_in, at, first, file), "file")
    assert not Draft.objects.exists()
    assert sealed_files() == 2, "both keys wait as before"
    certificate, other = add_certificate("A"), add_certificate("B")
    wrong = signed_in.post(
        at("certificate-renew", other.pk), {"file": upload(pem(issue(ask(certificate=certificate))), "a.cer")}
    )
    assert "answers the request for “A”; give it back there" in error_beside(wrong, "file")


def test_another_application_s_request_is_named_to_nobody_who_may_not_see_it(ask, person_with, owner, at):
    elsewhere = environments.create_application(name="Secret", by=owner)
    there = environments.create_environment(application=elsewhere, name="Test", by=owner)
    hidden, here = ask("Hidden", environment=there), ask("Bank")
    said = error_beside(give_back(person_with("editor"), at, here, pem(issue(hidden))), "file")
    assert "Hidden" not in said
    assert "Secret" not in said


def test_two_certificates_for_one_key_are_a_choice(ask, signed_in, at):
    request = ask()
    choice = give_back(signed_in, at, request, pem(issue(request, serial=11), issue(request, serial=12)))
    versions = choice.context["versions"]
    assert {version.serial for version in versions} == {"b", "c"}
    assert "2 certificates in the file have their key waiting here" in text_of(choice)
    preview = signed_in.post(choice.redirect_chain[-1][0], {"sha256": versions[0].sha256}, follow=True)
    signed_in.post(preview.redirect_chain[-1][0], {"name": "Bank"})
    assert ClientCertificate.objects.get(name="Bank").in_use.serial == versions[0].serial


def test_a_request_is_answered_once(ask, signed_in, at):
    request = ask()
    previews = [
        give_back(signed_in, at, request, pem(issue(request, serial=serial))).redirect_chain[-1][0]
        for serial in (21, 22)
    ]
    signed_in.post(previews[0], {"name": "First"})
    second = signed_in.post(previews[1], {"name": "Second"})
    assert second.status_code == 422
    assert "was answered on" in text_of(second)
    assert ClientCertificate.objects.count() == 1
    assert "was answered on" in text_of(give_back(signed_in, at, request, pem(issue(request))))


def test_a_key_that_is_withdrawn_between_preview_and_confirmation_is_not_tracked_instead(ask, signed_in, at):
    request = ask()
    preview = give_back(signed_in, at, request, pem(issue(request))).redirect_chain[-1][0]
    actions.withdraw_request(request=request, by=None)
    refused = signed_in.post(preview, {"name": "Bank"})
    assert refused.status_code == 422
    assert "its key is gone; make a new one" in text_of(refused)
    assert not ClientCertificate.objects.exists()


def test_one_who_ends_it_at_the_same_moment_leaves_no_second_copy_of_the_key(
    sealed_files, ask, signed_in, at, monkeypatch
):
    request = ask()
    preview = give_back(signed_in, at, request, pem(issue(request))).redirect_chain[-1][0]
    real = safe.open_sealed

    def meanwhile(sealed: SealedObject, **kwargs: Any) -> bytes:
        opened = real(sealed, **kwargs)
        if sealed.field == "request":
            monkeypatch.undo()
            actions.withdraw_request(request=CertificateRequest.objects.get(), by=None)
        return opened

    monkeypatch.setattr(safe, "open_sealed", meanwhile)
    assert "was withdrawn" in text_of(signed_in.post(preview, {"name": "Bank"}))
    assert not ClientCertificate.objects.exists()
    assert sealed_files() == SealedObject.objects.count() == Draft.objects.count() == 1, "the draft, which has no key"


def test_a_renewal_of_what_was_removed_meanwhile_becomes_a_new_certificate(ask, add_certificate, signed_in, at, owner):
    certificate = add_certificate()
    request = ask(certificate=certificate)
    actions.remove(certificate=certificate, by=owner)
    preview = give_back(signed_in, at, request, pem(issue(request)))
    signed_in.post(preview.redirect_chain[-1][0], {"name": "Bank payments"})
    assert ClientCertificate.objects.filter(name="Bank payments", removed_at=None).count() == 1


# --- To the partner ---------------------------------------------------------------------------------------------------


def test_it_is_mailed_with_the_request_attached_and_that_is_recorded(
    ask, add_certificate, signed_in, at, settings, owner
):
    certificate = add_certificate()
    actions.describe(certificate=certificate, contact_mail="ca@bank.example", by=owner)
    request = ask(certificate=certificate)
    assert "Mail it to the partner" not in text_of(signed_in.get(at("request", request.pk)))
    assert signed_in.post(at("request-mail", request.pk), {"to": "x@y.example", "message": "m"}).status_code == 422
    settings.MAILS = True
    form = signed_in.get(at("request", request.pk)).context["mail"]
    assert form["to"].value() == "ca@bank.example"
    given = {"to": "ca@bank.example", "message": form["message"].value()}

    done = signed_in.post(at("request-mail", request.pk), given, follow=True)

    assert "Mailed to ca@bank.example." in text_of(done)
    [sent] = mail.outbox
    assert (sent.to, sent.subject) == (["ca@bank.example"], "Certificate request: Bank payments")
    assert request.spki_sha256 in str(sent.body)
    [(name, attached, _kind)] = sent.attachments
    assert name == "bank-payments.csr"
    assert x509.load_pem_x509_csr(attached.encode() if isinstance(attached, str) else attached).is_signature_valid
    assert details_of("request.mailed")["to"] == "ca@bank.example"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError("secret of the server"), "the mail server cannot be reached"),
        (smtplib.SMTPRecipientsRefused({"x": (550, b"secret")}), "does not take mails to this address"),
        (smtplib.SMTPAuthenticationError(535, b"secret"), "does not let this portal in"),
    ],
)
def test_a_mail_server_that_does_not_take_it_costs_nothing(error, words, ask, signed_in, at, settings, monkeypatch):
    def away(*args: Any, **kwargs: Any) -> None:
        raise error

    settings.MAILS = True
    monkeypatch.setattr("django.core.mail.EmailMessage.send", away)
    request = ask()
    refused = signed_in.post(at("request-mail", request.pk), {"to": "ca@bank.example", "message": "my words"})
    assert refused.status_code == 422
    assert words in error_beside(refused, "to")
    assert "secret" not in error_beside(refused, "to")
    assert refused.context["mail"]["message"].value() == "my words"
    event = Event.objects.get(action="request.mailed")
    assert event.refused
    assert "secret" not in event.body
    assert "could not mail" in text_of(signed_in.get("/audit/"))
    request.refresh_from_db()
    assert request.waits
    assert request.mailed_at is None


# --- Who may ----------------------------------------------------------------------------------------------------------


def test_a_stranger_gets_404_and_who_only_looks_changes_nothing(ask, person_with, at, db, environment, owner):
    request = ask()
    doors = ["request", "request-download", "request-mail", "request-withdraw"]
    stranger, viewer = Client(), person_with("viewer")
    stranger.force_login(Person.objects.create_user("stranger", password="x"))
    other = environments.create_environment(application=environment.application, name="Other", by=owner)
    for door in doors:
        for method in ("get", "post"):
            allowed = getattr(stranger, method)(at(door, request.pk)).status_code
            assert allowed in (404, 405), door
            assert getattr(viewer, method)(other.url(door, request.pk)).status_code in (403, 404, 405), door
        assert viewer.post(at(door, request.pk)).status_code in (403, 405), door
    assert stranger.get(at("request-new")).status_code == 404
    assert viewer.get(at("request-new")).status_code == 403
    page = viewer.get(at("request", request.pk))
    assert page.status_code == 200
    assert "Give back the certificate" not in text_of(page)
    assert viewer.get(at("request-download", request.pk)).status_code == 200
    assert CertificateRequest.objects.get().waits


def test_an_archived_environment_asks_and_takes_nothing(ask, signed_in, at, environment, owner):
    request = ask()
    environments.archive_environment(environment=environment, by=owner)
    file = {"file": upload(pem(issue(request)), "a.cer")}
    for door, given in (("request-new", {}), ("request", file), ("request-withdraw", {}), ("request-mail", {})):
        args = [] if door == "request-new" else [request.pk]
        assert signed_in.post(at(door, *args), given).status_code == 403, door
    assert "Give back the certificate" not in text_of(signed_in.get(at("request", request.pk)))
    assert CertificateRequest.objects.get().waits
