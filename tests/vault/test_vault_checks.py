"""A missing or wrong key is told before it is needed."""

from pathlib import Path
from uuid import uuid4

import pytest
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from vault import safe
from vault.keyrings import local
from vault.models import SealedObject

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("vault_settings")]


def found(*, database: bool = False, deploy: bool = False) -> list[str]:
    """The ids of the vault's messages from the checks that are really registered."""
    messages = checks.run_checks(
        databases=["default"] if database else None,
        include_deployment_checks=deploy,
        tags=[checks.Tags.database] if database else [checks.Tags.security],
    )
    return [message.id for message in messages if message.id.startswith("vault.")]


def put() -> SealedObject:
    sealed = safe.put(b"secret", environment_id=uuid4(), field="identity")
    sealed.save()
    return sealed


def test_a_vault_in_order_gives_no_message() -> None:
    put()
    assert found() == found(database=True) == found(deploy=True) == []


def test_a_fresh_installation_is_warned_and_a_deployment_stopped(key_file: Path) -> None:
    key_file.unlink()
    assert found() == ["vault.W001"]
    assert sorted(found(deploy=True)) == ["vault.E002", "vault.W001"]
    assert found(database=True) == []


def test_a_loose_key_file_is_an_error(key_file: Path) -> None:
    key_file.chmod(0o640)
    assert found() == found(deploy=True) == ["vault.E001"]


def test_an_unknown_keyring_is_an_error(vault_settings) -> None:
    vault_settings.VAULT_KEYRING = {"name": "cloud"}
    assert found() == ["vault.E001"]


def test_sealed_objects_without_their_key_are_counted(key_file: Path) -> None:
    put()
    put()
    key_file.unlink()
    assert found(database=True) == ["vault.E003"]
    local.generate(key_file)
    assert found(database=True) == ["vault.E003"]
    with pytest.raises(SystemCheckError, match="which 2 sealed objects need"):
        call_command("check", databases=["default"], tags=["database"])


def test_a_wrong_key_under_the_right_id_is_told(key_file: Path) -> None:
    key_id = local.LocalKeyring.from_options({"path": key_file}).active_id
    put()
    key_file.write_bytes(local._dump(key_id, {key_id: bytes(32)}))
    assert found(database=True) == ["vault.E004"]


def test_a_header_that_cannot_be_read_is_told() -> None:
    SealedObject.objects.filter(pk=put().pk).update(header=b"nonsense")
    assert found(database=True) == ["vault.E005"]


def test_destroyed_objects_need_no_key(key_file: Path) -> None:
    safe.destroy(put())
    key_file.unlink()
    assert found(database=True) == []


def test_the_database_is_left_alone_unless_asked_for(
    key_file: Path, django_assert_num_queries: pytest.FixtureRequest
) -> None:
    put()
    key_file.unlink()
    with django_assert_num_queries(0):
        assert found() == ["vault.W001"]
