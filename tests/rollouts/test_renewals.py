"""A renewal in several places, from its worklist to its evidence; the old key is in no bundle made after it."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.hazmat.primitives.serialization import pkcs12 as files
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from certificates import actions as certificates
from certificates import current, pkcs12
from certificates.models import ClientCertificate, Renewal
from environments import actions as environments
from environments.models import Environment, Membership, Person
from rollouts import actions, exporters, unseal
from rollouts.actions.asking import freeze
from rollouts.models import Bundle, Rollout
from rollouts.worklist import worklist
from tests import pki
from tests.certificates.conftest import text_of, upload

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]
PARTNER = pki.make_authority("Partner CA")
OLD = pki.issue("bank", authority=PARTNER)
NEW = pki.issue("bank", authority=PARTNER, not_after=pki.NOW + timedelta(days=700))
HOST = "bank.example.com"


@pytest.fixture
def five(environment: Environment, owner: Person) -> list[ClientCertificate]:
    """The same certificate, pinned, in five environments of two applications."""
    orders = environments.create_application(name="Orders", by=owner)
    places = [environment]
    for application, name in (
        (environment.application, "Test"), (orders, "Test"), (orders, "Acceptance"), (orders, "Production")
    ):  # fmt: skip
        places.append(environments.create_environment(application=application, name=name, by=owner))
    identity = pkcs12.read(pki.pfx(OLD, "secret"), "secret")
    found = []
    for place in places:
        Environment.objects.filter(pk=place.pk).update(connection_tests="skip", base_folder="/srv/app")
        place.refresh_from_db()
        found.append(certificates.add(environment=place, name="Bank", identity=identity, by=owner))
        target = certificates.read_target(environment=place, text=HOST, never=False)
        certificates.pin(environment=place, target=target, certificate=found[-1], by=owner)
    return found


def replace_everywhere(five: list[ClientCertificate], by: Person, *, ready: tuple[int, ...] = ()) -> Renewal:
    """As its page does, from an upload for the first of them."""
    client = Client()
    client.force_login(by)
    address = five[0].environment.url("certificate-renew", five[0].pk)
    shown = client.post(address, {"file": upload(pki.pfx(NEW, "secret")), "password": "secret"}, follow=True)
    chosen = {f"place-{one.pk}": "ready" if n in ready else "next" for n, one in enumerate(five) if n}
    use = {"use": "ready" if 0 in ready else "now"}
    client.post(shown.redirect_chain[-1][0], {**use, **chosen})
    return Renewal.objects.get()


# --- The old key ------------------------------------------------------------------------------------------------------


def traces(issued: pki.Issued) -> dict[str, bytes]:
    """What of a certificate and its key could lie in a file, in the form that is looked for."""
    key = issued.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    number = issued.key.private_numbers().private_value.to_bytes(32, "big")  # of an EC key, in any encoding of it
    return {"certificate": issued.certificate_der, "key": key, "number": number}


def within(content: bytes) -> list[bytes]:
    """The file, what a zip has in it, and each long run of base64 in them, decoded (also twice)."""
    found = [content]
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found += [part for name in archive.namelist() for part in within(archive.read(name))]
        return found
    for run in re.findall(rb"(?:[A-Za-z0-9+/]{40,}={0,2}(?:\\n|\s)*)+[A-Za-z0-9+/=]*", content):
        run = re.sub(rb"\\n|\s", b"", run)
        try:
            inner = base64.b64decode(run + b"=" * (-len(run) % 4))
        except ValueError:
            continue
        found += within(inner)
    return found


def presented(bundle: Any) -> set[str]:
    """Public keys (SHA-256 of the SPKI) of every PKCS #12 in a bundle, and of what its slots were written with."""
    passwords = {pfx.password for pfx in bundle.sent.values()}
    found = set()
    blobs = [part for file in bundle.files for part in within(file.content)]
    blobs += [pfx.pfx for pfx in bundle.sent.values()]
    for blob in blobs:
        if not blob.startswith(b"\x30\x82"):
            continue
        for password in passwords:
            try:
                key, certificate, _chain = files.load_key_and_certificates(blob, password.encode())
            except ValueError:
                continue
            for half in (key, certificate):
                if half is not None:
                    spki = half.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
                    found.add(hashlib.sha256(spki).hexdigest())
    return found


def public_key(issued: pki.Issued) -> str:
    spki = issued.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def every_bundle(environment: Environment, by: Person) -> None:
    """One for each export that the environment's runtime has."""
    content = current.content(environment)
    with transaction.atomic():
        revision = freeze(environment, content, reason="test", ticket="", by=by)
    for kind in exporters.EXPORTERS:
        unseal.write_bundle(environment=environment, revision=revision, content=content, exporter=kind, by=by)


def test_after_a_replace_the_old_key_is_in_no_bundle_made_from_then_on(
    five: list[ClientCertificate], running_app: Any, apply: Any, owner: Person
):
    """Pains P2 and P3 of others: a replace that left the key, or half of it, behind."""
    assert apply().state == "verified"
    every_bundle(five[1].environment, owner)
    before = [unseal.open_bundle(bundle, reason="test") for bundle in Bundle.objects.exclude(revision=None)]
    assert len(before) == 1 + len(exporters.EXPORTERS)
    assert all(public_key(OLD) in presented(one) for one in before), "what is looked for is found where it is"
    pem = next(one for one in before if any(b"BEGIN PRIVATE KEY" in file.content for file in one.files))
    everything = b"".join(part for file in pem.files for part in within(file.content))
    assert all(trace in everything for trace in traces(OLD).values())

    replaced_at = timezone.now()
    replace_everywhere(five, owner)
    assert apply().state == "verified"
    for one in five:
        every_bundle(one.environment, owner)

    made = Bundle.objects.filter(created_at__gt=replaced_at)
    assert made.count() == 1 + 5 * len(exporters.EXPORTERS)
    for bundle in made:
        opened = unseal.open_bundle(bundle, reason="test")
        assert presented(opened) == {public_key(NEW)}, bundle.exporter
        for part in (part for file in opened.files for part in within(file.content)):
            for what, trace in traces(OLD).items():
                assert trace not in part, f"{bundle.exporter}: the old {what}"
        for file in opened.files:
            assert hashlib.sha256(OLD.certificate_der).hexdigest().encode() not in file.content.lower()


# --- The worklist -----------------------------------------------------------------------------------------------------


def seen_by(person: Person, address: str) -> Any:
    client = Client()
    client.force_login(person)
    return client.get(address)


def chips(renewal: Renewal, person: Person) -> list[str]:
    return [line.chip.text for line in worklist(renewal, person).lines]


def test_the_worklist_goes_from_ready_over_chosen_to_evidence(
    five: list[ClientCertificate], running_app: Any, apply: Any, owner: Person
):
    apply()
    renewal = replace_everywhere(five, owner, ready=(0, 3))
    address = renewal.get_absolute_url()
    assert chips(renewal, owner) == ["Ready", "To be exported", "To be exported", "Ready", "To be exported"]
    page = seen_by(owner, address)
    assert "0 of 5 applied" in text_of(page)
    assert "Use all 2 that are ready" in text_of(page)
    client = Client()
    client.force_login(owner)
    first = renewal.versions.get(certificate=five[0])
    used = client.post(address, {"use": first.pk}, follow=True)
    assert "It goes with the next apply in 1 place." in text_of(used)
    assert chips(renewal, owner)[0] == "Not running yet"
    assert f'href="{five[0].environment.url("apply")}"' in used.content.decode()
    apply()
    done = text_of(seen_by(owner, address))
    assert "1 of 5 applied" in done
    assert "Running Up to date The app itself reports the digest of what was delivered. · just now" in done
    again = client.post(address, {"use": first.pk}, follow=True)
    assert "That is not ready here any more" in text_of(again)
    client.post(address, {"use": "all"})
    assert "Ready" not in chips(renewal, owner)


def test_the_worklist_follows_what_is_under_way_and_says_what_went_wrong(
    five: list[ClientCertificate], running_app: Any, place: dict[str, Any], apply: Any, owner: Person, run_rollout: Any
):
    apply()
    renewal = replace_everywhere(five, owner)
    environment = five[0].environment
    identity = pkcs12.read(pki.pfx(pki.issue("sour"), "secret"), "secret")
    certificates.add(environment=environment, name="Sour", identity=identity, by=owner)
    place["behaviour"].write_text('{"refuse": "sour"}')
    shown = actions.pending(environment)[0].digest
    rollout = actions.apply(environment=environment, shown=shown, reason="renewal", by=owner)
    live = f"{renewal.get_absolute_url()}live/"
    under_way = seen_by(owner, live)
    assert under_way.status_code == 200
    assert "Applying" in text_of(under_way)
    assert "hx-get" in under_way.content.decode()
    assert run_rollout(rollout).state == "rolled_back"
    ended = seen_by(owner, live)
    assert ended.status_code == 286
    assert "Not running yet Rolled back, 1 is running" in text_of(ended)
    assert f"{Rollout.objects.get(pk=rollout.pk).failure} 1 other change waits Apply…" in text_of(ended)


def test_a_revision_that_is_scheduled_says_whether_it_has_the_renewal(
    five: list[ClientCertificate], running_app: Any, apply: Any, owner: Person
):
    apply()
    environment = five[0].environment

    def schedule() -> None:
        shown = actions.pending(environment)[0].digest
        at = timezone.now() + timedelta(days=2)
        actions.apply(environment=environment, shown=shown, reason="later", due_at=at, replace=True, by=owner)

    identity = pkcs12.read(pki.pfx(pki.issue("another"), "secret"), "secret")
    certificates.add(environment=environment, name="Another", identity=identity, by=owner)
    schedule()
    renewal = replace_everywhere(five, owner)
    page = text_of(seen_by(owner, renewal.get_absolute_url()))
    assert "Revision 2, scheduled for" in page
    assert "was frozen before this; an apply takes its place." in page
    schedule()
    assert "Goes with revision 3, scheduled for" in text_of(seen_by(owner, renewal.get_absolute_url()))


def test_a_worklist_shows_each_person_the_places_that_they_may_see_and_a_stranger_none(
    five: list[ClientCertificate], owner: Person
):
    renewal = replace_everywhere(five, owner, ready=(1, 2))
    mary, eve = (Person.objects.create_user(name, password="x") for name in ("mary", "eve"))
    for one, role in ((five[1], "editor"), (five[2], "viewer")):
        place = one.environment
        Membership.objects.create(person=mary, application=place.application, environment=place, role=role)
    address = renewal.get_absolute_url()
    page = text_of(seen_by(mary, address))
    assert "0 of 2 applied" in page
    assert "Orders / Production" not in page
    client = Client()
    client.force_login(mary)
    foreign = renewal.versions.get(certificate=five[2])
    refused = client.post(address, {"use": foreign.pk}, follow=True)
    assert "you may not change it" in text_of(refused)
    client.post(address, {"use": "all"})
    assert [ClientCertificate.objects.get(pk=one.pk).in_use.number for one in five[1:3]] == [2, 1]
    for where in (address, f"{address}live/"):
        assert seen_by(eve, where).status_code == 404
    stranger = Client()
    stranger.force_login(eve)
    assert stranger.post(address, {"use": "all"}).status_code == 404
    assert stranger.get(f"/apply/?renewal={renewal.pk}").context["renewal"] is None


def test_the_worklist_asks_as_much_for_five_places_as_for_one(five: list[ClientCertificate], owner: Person):
    renewal = replace_everywhere(five, owner)

    def asked() -> int:
        worklist(renewal, owner)  # what was counted anew is kept
        with CaptureQueriesContext(connection) as queries:
            worklist(renewal, owner)
        return len(queries)

    with_five = asked()
    renewal.versions.set(renewal.versions.filter(certificate=five[0]))
    assert asked() == with_five


def test_apply_to_all_comes_with_the_places_of_the_worklist_ticked(
    five: list[ClientCertificate], running_app: Any, apply: Any, owner: Person
):
    apply()
    renewal = replace_everywhere(five, owner)
    page = seen_by(owner, f"/apply/?renewal={renewal.pk}")
    (ticked,) = page.context["form"]["environments"].initial
    assert ticked.startswith(str(five[0].environment.pk))
    assert seen_by(owner, "/apply/?renewal=nonsense").context["renewal"] is None
