"""System checks: is there a usable key, and is it the right one for what was sealed?

The second question needs the database and runs under `check --database default`, and before every `migrate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connection

from vault import envelope, keyrings
from vault.errors import KeyMissing, KeyringAbsent, KeyringUnusable, KeyWrong, UnknownFormat
from vault.models import KeyCheck, SealedObject


@register(Tags.security)
def the_keyring_can_be_used(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W001: there is no key yet, as on a fresh installation. E001: there is one, and it cannot be used."""
    try:
        keyring, options = keyrings.configured(settings.VAULT_KEYRING)
        keyring.from_options(options)
    except KeyringAbsent as error:
        return [Warning(str(error), id="vault.W001")]
    except KeyringUnusable as error:
        return [Error(str(error), id="vault.E001")]
    return []


@register(Tags.security, deploy=True)
def a_deployment_has_its_key(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E002: `check --deploy` does not let an installation through without a key."""
    try:
        keyring, options = keyrings.configured(settings.VAULT_KEYRING)
        keyring.from_options(options)
    except KeyringAbsent as error:
        return [Error(str(error), id="vault.E002")]
    except KeyringUnusable:
        pass  # said by E001
    return []


@register(Tags.database)
def the_ring_holds_every_key_in_use(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """E003: sealed objects need a key that is not in the ring. E004: it is another key. E005: headers are unreadable.

    Without any sealed object there is nothing to find, whatever the state of the ring.
    """
    if connection.alias not in (databases or ()) or not _tables_exist():
        return []
    uses, unreadable = _key_ids_in_use()
    messages: list[CheckMessage] = []
    if unreadable:
        messages.append(
            Error(
                f"The headers of {unreadable} sealed objects cannot be read; restore the database from a backup.",
                id="vault.E005",
            )
        )
    if not uses:
        return messages
    try:
        kind, options = keyrings.configured(settings.VAULT_KEYRING)
        keyring = kind.from_options(options)
    except KeyringUnusable as error:
        return [*messages, Error(f"{uses.total()} sealed objects cannot be opened. {error}", id="vault.E003")]
    noted = dict(KeyCheck.objects.values_list("key_id", "check_value"))
    for key_id, count in sorted(uses.items()):
        try:
            envelope.verify_key(keyring, key_id, expected=noted.get(key_id) or keyring.check_value(key_id))
        except KeyMissing:
            text = f'The keyring has no key "{key_id}", which {count} sealed objects need; put that key back.'
            messages.append(Error(text, id="vault.E003"))
        except KeyWrong as error:
            messages.append(Error(str(error), id="vault.E004"))
    return messages


def _tables_exist() -> bool:
    """False before the first `migrate`, which runs this check too."""
    present = set(connection.introspection.table_names())
    return {SealedObject._meta.db_table, KeyCheck._meta.db_table} <= present


def _key_ids_in_use() -> tuple[Counter[str], int]:
    """How many living objects each key id wraps, and how many headers could not be read."""
    uses: Counter[str] = Counter()
    unreadable = 0
    for header in SealedObject.objects.filter(destroyed_at=None).values_list("header", flat=True).iterator():
        try:
            uses[envelope.key_id_of(bytes(header or b""))] += 1
        except UnknownFormat:
            unreadable += 1
    return uses, unreadable
