"""A certificate without its key: its expiry is watched, and it is sent to nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from audit.models import Event
from certificates import actions, current
from certificates.models import ClientCertificate, Draft
from environments.refusals import Refused
from rollouts.standing import standing
from tests import pki
from tests.certificates.conftest import stored, text_of, upload
from vault.models import SealedObject

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def track(signed_in, at, partner):
    """Uploads a .cer, confirms it, and returns what was added."""

    def track(name: str = "Watched", issued: pki.Issued | None = None) -> ClientCertificate:
        issued = issued or pki.issue("watched.example.com", authority=partner)
        file = upload(issued.certificate.public_bytes(Encoding.DER), "watched.cer")
        preview = signed_in.post(at("certificate-new"), {"file": file}, follow=True)
        assert "There is no private key in this file." in text_of(preview)
        assert "Track it" in text_of(preview)
        added = signed_in.post(preview.redirect_chain[-1][0], {"name": name, "confirmed": "on"}, follow=True)
        assert f"Added {name} as tracked only" in text_of(added)
        return ClientCertificate.objects.get(name=name)

    return track


def test_a_cer_alone_is_listed_with_its_expiry_and_leaves_nothing_sealed(track, signed_in, at):
    certificate = track()

    assert certificate.in_use.is_tracked_only
    assert certificate.expires_at == certificate.in_use.not_after
    assert stored() == (1, 1, 0, 0, 0)
    listed = text_of(signed_in.get(at("network")))
    assert "watched.example.com" in listed
    assert "Tracked only" in listed
    page = text_of(signed_in.get(certificate.get_absolute_url()))
    assert "Its private key is not here, so it is sent to nobody" in page
    assert "goes with the next apply" not in page
    assert "Pin client certificate to services" not in page
    assert '"tracked_only":true' in Event.objects.get(action="certificate.added").body


def test_what_is_tracked_only_never_goes_out(track, environment, add_certificate):
    add_certificate("Bank")
    before = current.content(environment)
    track()
    assert current.content(environment).digest == before.digest
    assert standing(environment).comparison.sendable == 1


def test_it_cannot_be_pinned_not_even_by_a_page_that_is_older(track, signed_in, at, environment, owner):
    certificate = track()
    form = signed_in.get(at("pin-new")).context["form"]
    assert "Watched" not in [label for _pk, label in form["certificate"].field.choices]
    target = actions.read_target(environment=environment, text="api.example.com")
    with pytest.raises(Refused, match="tracked only: its private key is not here"):
        actions.pin(environment=environment, target=target, certificate=certificate, by=owner)


def test_its_end_is_shown_as_of_any_other(track, signed_in, at, partner):
    month = timedelta(days=30)
    track(issued=pki.issue("old", authority=partner, not_before=pki.NOW - 9 * month, not_after=pki.NOW + month))
    assert "1 expiring" in text_of(signed_in.get(at("network")))


def test_its_key_comes_later_as_a_renewal_with_the_same_certificate(track, signed_in, at, partner):
    issued = pki.issue("watched.example.com", authority=partner)
    certificate = track(issued=issued)
    given = {"file": upload(pki.pfx(issued, "secret")), "password": "secret"}

    preview = signed_in.post(at("certificate-renew", certificate.pk), given, follow=True)
    signed_in.post(preview.redirect_chain[-1][0], {"use": "now"})

    certificate.refresh_from_db()
    assert certificate.in_use.number == 2
    assert not certificate.in_use.is_tracked_only
    assert SealedObject.objects.count() == 1


def test_a_cer_as_renewal_of_one_with_a_key_is_beside_it_and_never_in_its_place(
    signed_in, at, add_certificate, partner, environment
):
    certificate = add_certificate("Bank")
    before = current.content(environment).digest
    file = upload(pki.issue("client.example.com", authority=partner).certificate.public_bytes(Encoding.PEM), "new.pem")
    preview = signed_in.post(at("certificate-renew", certificate.pk), {"file": file}, follow=True)
    assert 'name="use"' not in preview.content.decode()
    said = signed_in.post(preview.redirect_chain[-1][0], {}, follow=True)
    assert "Version 2 is tracked only; what is in use stays." in text_of(said)

    certificate.refresh_from_db()
    assert certificate.in_use.number == 1
    assert current.content(environment).digest == before
    chosen = signed_in.post(at("version-use", certificate.pk, 2), follow=True)
    assert "Version 2 has no key here" in text_of(chosen)


def test_a_pfx_without_its_key_is_still_a_mistake_of_the_sender(signed_in, at):
    file = upload(pki.pfx(pki.issue(), "secret", key=False))
    refused = signed_in.post(at("certificate-new"), {"file": file, "password": "secret"})
    assert refused.status_code == 422
    assert "holds no private key" in text_of(refused)
    assert not Draft.objects.exists()
