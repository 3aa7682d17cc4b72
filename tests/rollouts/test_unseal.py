"""What leaves the vault for a bundle is what the rows say, or a typed error; never another one's key."""

from __future__ import annotations

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from audit.models import Event
from certificates.models import Version
from rollouts import actions, unseal
from vault.envelope import TamperedOrMoved
from vault.models import SealedObject

pytestmark = pytest.mark.django_db(transaction=True)


def test_rows_that_point_at_each_others_keys_are_refused(environment, add_certificate, owner):
    first, second = add_certificate("First").in_use, add_certificate("Second").in_use
    Version.objects.filter(pk=first.pk).update(sealed=None)
    Version.objects.filter(pk=second.pk).update(sealed=first.sealed_id)
    Version.objects.filter(pk=first.pk).update(sealed=second.sealed_id)
    with pytest.raises(unseal.SwappedError, match="another certificate"):
        unseal.written(actions.wanted_versions(environment), reason="test", by=owner)


def test_files_that_were_swapped_in_storage_are_refused(environment, add_certificate, owner):
    names = [add_certificate(name).in_use.sealed.storage_name for name in ("First", "Second")]
    storage = storages["vault"]
    contents = [storage.open(name).read() for name in names]
    for name, other in zip(names, reversed(contents), strict=True):
        storage.delete(name)
        assert storage.save(name, ContentFile(other)) == name
    with pytest.raises(TamperedOrMoved):
        unseal.written(actions.wanted_versions(environment), reason="test", by=owner)


def test_a_draft_or_a_bundle_is_no_key(environment, add_certificate, owner):
    version = add_certificate().in_use
    SealedObject.objects.filter(pk=version.sealed_id).update(field="bundle")
    with pytest.raises(unseal.SwappedError, match="belongs to something else"):
        unseal.identity_of(Version.objects.get(pk=version.pk), reason="test", by=owner)


def test_each_opening_is_written_down_first_with_its_reason(environment, add_certificate, owner):
    add_certificate()
    unseal.written(actions.wanted_versions(environment), reason="because of the test", by=owner)
    event = Event.objects.get(action="key.opened")
    assert event.actor == "grace"
    assert "because of the test" in event.body


def test_each_export_has_fresh_passwords_and_the_same_certificates(environment, add_certificate, owner):
    add_certificate()
    once, again = (
        unseal.written(actions.wanted_versions(environment), reason="test", by=owner)["bank-payments"]
        for _time in range(2)
    )
    assert once.password != again.password
    assert once.pfx != again.pfx
    assert len(once.password) == 24
    assert once.password.isalnum()
