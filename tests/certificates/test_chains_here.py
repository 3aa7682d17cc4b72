"""Chains that files lack are completed from what somebody may see, and ended where they choose."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.storage import storages

from certificates import actions, pkcs12
from certificates.identities import unpack
from certificates.models import ChainCertificate, Version
from environments import actions as environments
from tests import pki
from tests.certificates.conftest import text_of, upload
from vault import safe

pytestmark = pytest.mark.django_db(transaction=True)


def name_of(issued: pki.Issued) -> str:
    return issued.certificate.subject.rfc4514_string()


ROOT = pki.make_authority("Partner Root")
ISSUING = pki.make_authority("Partner Issuing", authority=ROOT)


def only_leaf(cn: str = "client.example.com", authority: pki.Issued = ISSUING) -> bytes:
    return pki.pfx(pki.issue(cn, authority=authority), "secret", certificates=[])


def whole(cn: str = "first.example.com") -> bytes:
    return pki.pfx(pki.issue(cn, authority=ISSUING), "secret")


def preview_of(client, at, file: bytes):
    return client.post(at("certificate-new"), {"file": upload(file), "password": "secret"}, follow=True)


def subjects(version: Version) -> list[str]:
    return [link["subject"] for link in version.chain]


def sealed_chain(version: Version) -> int:
    assert version.sealed is not None
    return len(unpack(safe.open_sealed(version.sealed, record=lambda _sealed: None)).chain)


@pytest.fixture
def add(owner, environment):
    def add(file: bytes, name: str = "First", place=environment):
        return actions.add(environment=place, name=name, identity=pkcs12.read(file, "secret"), by=owner)

    return add


def test_a_missing_intermediate_is_added_from_what_is_here_and_said_so(signed_in, at, add):
    add(whole())
    preview = preview_of(signed_in, at, only_leaf())
    assert f"The file did not contain {name_of(ISSUING)}, which is added from what is already here." in text_of(preview)
    assert "intermediate , added here" in text_of(preview) or "intermediate, added here" in text_of(preview)

    signed_in.post(preview.redirect_chain[-1][0], {"name": "Completed"})
    version = Version.objects.get(certificate__name="Completed")
    assert subjects(version) == [name_of(ISSUING)]  # a server that accepts it has the root
    assert sealed_chain(version) == 1


def test_the_file_as_it_was_can_be_kept_instead(signed_in, at, add):
    add(whole())
    preview = preview_of(signed_in, at, only_leaf())
    signed_in.post(preview.redirect_chain[-1][0], {"name": "As it was", "links": "0"})
    version = Version.objects.get(certificate__name="As it was")
    assert (subjects(version), sealed_chain(version)) == ([], 0)
    assert [w["code"] for w in version.warnings] == ["chain_incomplete"]


def test_a_chain_is_not_completed_from_what_somebody_may_not_see(person_with, at, add, owner):
    elsewhere = environments.create_application(name="Hidden", by=owner)
    place = environments.create_environment(application=elsewhere, name="Production", by=owner)
    add(whole(), place=place)
    preview = preview_of(person_with("editor"), at, only_leaf())
    assert "added from what is already here" not in text_of(preview)
    assert "does not contain its issuer" in text_of(preview)


def test_an_issuer_of_the_same_name_with_another_key_is_not_taken(signed_in, at, add):
    add(whole())
    impostor = pki.make_authority("Partner Issuing", authority=ROOT)
    preview = preview_of(signed_in, at, only_leaf(authority=impostor))
    assert "added from what is already here" not in text_of(preview)


def test_an_expired_intermediate_completes_nothing(signed_in, at, add):
    old = pki.make_authority(
        "Old Issuing", authority=ROOT, not_before=pki.NOW - timedelta(days=90), not_after=pki.NOW - timedelta(days=1)
    )
    add(pki.pfx(pki.issue("first", authority=old), "secret"))
    preview = preview_of(signed_in, at, only_leaf(authority=old))
    assert "added from what is already here" not in text_of(preview)


def sealed_files() -> set[str]:
    return set(storages["vault"].listdir("")[1])


def test_the_root_is_kept_or_left_by_choice(signed_in, at):
    before = sealed_files()
    preview = preview_of(signed_in, at, whole("kept"))
    assert "Without the root; who trusts it has it" in text_of(preview)
    signed_in.post(preview.redirect_chain[-1][0], {"name": "Kept", "links": "2"})
    preview = preview_of(signed_in, at, whole("left"))
    signed_in.post(preview.redirect_chain[-1][0], {"name": "Left", "links": "1"})

    kept, left = (Version.objects.get(certificate__name=name) for name in ("Kept", "Left"))
    assert (subjects(kept), sealed_chain(kept)) == (
        [name_of(ISSUING), name_of(ROOT)],
        2,
    )
    assert (subjects(left), sealed_chain(left)) == ([name_of(ISSUING)], 1)
    assert left.missing_issuer == name_of(ROOT)
    # No copy of a key stays behind where its chain was shortened.
    assert sealed_files() - before == {kept.sealed.storage_name, left.sealed.storage_name}


def test_a_number_of_links_that_is_no_choice_is_refused(signed_in, at):
    preview = preview_of(signed_in, at, whole())
    refused = signed_in.post(preview.redirect_chain[-1][0], {"name": "Odd", "links": "7"})
    assert refused.status_code == 422
    assert not Version.objects.exists()


def test_each_certificate_of_chains_is_kept_once(add):
    add(whole("one"), "One")
    add(whole("two"), "Two")
    assert ChainCertificate.objects.count() == 2
