"""Whether the vault could do its work now, for whoever watches over it. Nothing here opens or shows anything sealed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import uuid4

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, storages

from vault import envelope, keyrings
from vault.errors import StorageFailed
from vault.models import KeyCheck, SealedObject
from vault.safe import SUFFIX
from vault.transactions import refuse_inside_transaction

TRIAL = b"written to see whether it can be"


@dataclass(frozen=True)
class KeysNeeded:
    """What the database knows of keys: each key's noted check value, and which was noted last (and still is needed)."""

    newest: str = ""
    noted: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls) -> KeysNeeded:
        """Two queries, however many objects are sealed. Without any there is no key that could be missing."""
        noted = dict(KeyCheck.objects.order_by("created_at").values_list("key_id", "check_value"))
        anything = SealedObject.objects.filter(destroyed_at=None).exists()
        return cls(newest=next(reversed(noted), "") if anything else "", noted=noted)


def key_fits(needed: KeysNeeded) -> keyrings.Keyring:
    """The ring, if its active key and the one noted last are those first used under their ids. Needs no database.

    Raises KeyringUnusable (KeyringAbsent), KeyMissing, KeyWrong.
    """
    kind, options = keyrings.configured(settings.VAULT_KEYRING)
    ring = kind.from_options(options)
    for key_id in {ring.active_id, needed.newest or ring.active_id}:
        envelope.verify_key(ring, key_id, expected=needed.noted.get(key_id) or ring.check_value(key_id))
    return ring


def key_is_kept() -> str:
    """Where the key is kept, in words: a path or an address."""
    kind, options = keyrings.configured(settings.VAULT_KEYRING)
    return kind.whereabouts(options)


def storage_is_local() -> bool:
    """A trial in a folder costs nothing; elsewhere every writing may have its price."""
    return isinstance(storages["vault"], FileSystemStorage)


def storage_answers(*, write: bool) -> None:
    """Asks the storage for a name that it does not have; with `write`, also puts, reads and deletes a few bytes.

    What a killed trial leaves behind has the name of a sealed object that no row knows, so the sweep removes it.
    Raises StorageFailed; TransactionOpen inside a transaction.
    """
    refuse_inside_transaction("The vault")
    storage, name = storages["vault"], f"trial-{uuid4()}{SUFFIX}"
    try:
        storage.exists(name)
        if not write:
            return
        name = storage.save(name, ContentFile(TRIAL))
        with storage.open(name, "rb") as file:
            same = file.read() == TRIAL
        storage.delete(name)
    except Exception as error:  # each storage has its own family, and their texts may hold addresses and credentials
        raise StorageFailed("a trial", type(error).__name__) from None
    if not same:
        raise StorageFailed("a trial", "it reads back as something else")


def sample(count: int) -> list[str]:
    """The names in storage of `count` living objects, others each time; all where there are no more. Two queries."""
    living = SealedObject.objects.filter(destroyed_at=None).order_by("pk").values_list("storage_name", flat=True)
    somewhere = uuid4()
    found = [*living.filter(pk__gte=somewhere)[:count], *living.filter(pk__lt=somewhere)[:count]]
    return found[:count]


def missing(names: Iterable[str]) -> list[str]:
    """Those that the storage does not have. Raises StorageFailed; TransactionOpen inside a transaction."""
    refuse_inside_transaction("The vault")
    storage = storages["vault"]
    try:
        return [name for name in names if not storage.exists(name)]
    except Exception as error:
        raise StorageFailed("a look", type(error).__name__) from None
