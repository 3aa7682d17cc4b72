"""The one door to sealed objects: put, keep, open for a recorded reason, destroy.

The ciphertext goes to `STORAGES["vault"]`, the wrapped data key into the row. Every function here talks to storage and
to the keyring, so none may be called inside a transaction (vault/transactions.py). Few may import
this module; the contract "one-door" in pyproject.toml names them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from vault import envelope, keyrings
from vault.errors import Destroyed, FileMissing, StorageFailed, VaultError
from vault.models import KeyCheck, SealedObject
from vault.transactions import refuse_inside_transaction

# Files without this ending are not the vault's, and the sweep leaves them alone.
SUFFIX = ".sealed"
_TABLE = "vault.SealedObject"


@sensitive_variables("plaintext")
def put(plaintext: bytes, *, environment_id: UUID | None, field: str, version: int = 1) -> SealedObject:
    """Seal `plaintext`, write its ciphertext to storage, and return the row, not yet saved.

    The caller saves the row in the transaction that needs it; if that never happens, `sweep` removes the file.
    `field` says what it is ("identity", "credentials", …) and `version` counts from 1; both are bound to the object.

    Raises KeyringUnusable, KeyWrong, StorageFailed; TransactionOpen inside a transaction.
    """
    refuse_inside_transaction("The vault")
    if not field or version < 1:
        raise ValueError("a sealed object needs the name of its field and a version from 1 on")
    keyring = _open_keyring()
    _check_or_note_key(keyring, keyring.active_id)
    object_id = uuid4()
    context = envelope.Context(_TABLE, object_id, environment_id, field, version)
    sealed = envelope.seal(plaintext, context=context, keyring=keyring)
    return SealedObject(
        id=object_id,
        storage_name=_write(f"{object_id}{SUFFIX}", sealed.ciphertext),
        header=sealed.header,
        environment_id=environment_id,
        field=field,
        version=version,
        size=len(sealed.ciphertext),
    )


@sensitive_variables()
def open_sealed(sealed: SealedObject, *, record: Callable[[SealedObject], None]) -> bytes:
    """Return the plaintext of `sealed`, after `record(sealed)` wrote down who opens it and why.

    `record` comes first, before any key or file is touched: when it raises, nothing is opened.

    Raises Destroyed, KeyringUnusable, KeyMissing, KeyWrong, FileMissing, StorageFailed, UnknownFormat, TamperedOrMoved;
    TransactionOpen inside a transaction.
    """
    refuse_inside_transaction("The vault")
    record(sealed)
    header = _header_of(sealed)
    keyring = _open_keyring()
    _check_key(keyring, envelope.key_id_of(header))
    halves = envelope.Sealed(header=header, ciphertext=_read(sealed.storage_name))
    return envelope.unseal(halves, context=_context_of(sealed), keyring=keyring)


def destroy(sealed: SealedObject) -> None:
    """Forget the wrapped data key and delete the ciphertext. Doing it twice, or for an unsaved row, does no harm.

    The key goes first: once it is forgotten the file is noise, and `sweep` finds a file that stayed behind. Copies in
    older backups can be opened for as long as those backups and the keyring exist.

    Raises StorageFailed; TransactionOpen inside a transaction.
    """
    refuse_inside_transaction("The vault")
    now = timezone.now()
    SealedObject.objects.filter(pk=sealed.pk, destroyed_at=None).update(header=None, destroyed_at=now)
    sealed.header, sealed.destroyed_at = None, sealed.destroyed_at or now
    with _storage_errors(sealed.storage_name):
        _storage().delete(sealed.storage_name)


@contextmanager
def kept(sealed: SealedObject) -> Iterator[None]:
    """What was sealed stays where all that is done inside succeeds, and is destroyed where it does not, so that no key
    is left of what never came to be. Put it around the transaction that saves the row.

    A storage that does not let go of the file now hides no other error: the file is `sweep`'s.
    """
    try:
        yield
    except BaseException:  # also where a worker is told to stop in the middle of it
        with contextlib.suppress(VaultError):
            destroy(sealed)
        raise


@sensitive_variables()
def rewrap(sealed: SealedObject) -> bool:
    """Wrap a saved object's data key under the active key; False if it already was, or if the row changed meanwhile.

    Raises as `open_sealed` does, StorageFailed and FileMissing aside: the ciphertext is not touched.
    """
    refuse_inside_transaction("The vault")
    header = _header_of(sealed)
    keyring = _open_keyring()
    key_id = envelope.key_id_of(header)
    if key_id == keyring.active_id:
        return False
    _check_key(keyring, key_id)
    _check_or_note_key(keyring, keyring.active_id)
    renewed = envelope.rewrap(header, context=_context_of(sealed), keyring=keyring)
    # Compare and swap: a row that was destroyed or rewrapped meanwhile keeps what that wrote.
    if not SealedObject.objects.filter(pk=sealed.pk, header=header).update(header=renewed):
        return False
    sealed.header = renewed
    return True


def sweep(older_than: timedelta) -> int:
    """Delete ciphertext files that no living row knows and return how many there were.

    `older_than` protects the files of actions that are still between `put` and their commit; an hour is plenty.

    Raises StorageFailed; TransactionOpen inside a transaction.
    """
    refuse_inside_transaction("The vault")
    storage = _storage()
    limit = timezone.now() - older_than
    with _storage_errors("all files"):
        try:
            names = {name for name in storage.listdir("")[1] if name.endswith(SUFFIX)}
        except FileNotFoundError:
            return 0  # nothing was ever put here
    # Rows are asked after the files, so that a row committed in between still counts; and the age only of files that
    # no row knows, because a bucket answers it one by one.
    unknown = names.difference(SealedObject.objects.filter(destroyed_at=None).values_list("storage_name", flat=True))
    with _storage_errors("all files"):
        orphans = [name for name in unknown if storage.get_modified_time(name) < limit]
    for name in orphans:
        with _storage_errors(name):
            storage.delete(name)
    return len(orphans)


def _open_keyring() -> keyrings.Keyring:
    kind, options = keyrings.configured(settings.VAULT_KEYRING)
    return kind.from_options(options)


def _check_key(keyring: keyrings.Keyring, key_id: str) -> None:
    """A key that is not the one first used under this id is told apart from a changed object."""
    noted = KeyCheck.objects.filter(pk=key_id).values_list("check_value", flat=True).first()
    if noted is None:
        keyring.check_value(key_id)  # raises KeyMissing
        return
    envelope.verify_key(keyring, key_id, expected=noted)


def _check_or_note_key(keyring: keyrings.Keyring, key_id: str) -> None:
    noted, _ = KeyCheck.objects.get_or_create(pk=key_id, defaults={"check_value": keyring.check_value(key_id)})
    envelope.verify_key(keyring, key_id, expected=noted.check_value)


def _context_of(sealed: SealedObject) -> envelope.Context:
    return envelope.Context(_TABLE, sealed.id, sealed.environment_id, sealed.field, sealed.version)


def _header_of(sealed: SealedObject) -> bytes:
    if sealed.header is None:
        raise Destroyed
    return bytes(sealed.header)  # PostgreSQL's driver gives a memoryview


def _storage() -> Storage:
    return storages["vault"]


def _write(name: str, ciphertext: bytes) -> str:
    """Write and return the name that the storage chose."""
    storage = _storage()
    with _storage_errors(name):
        name = storage.save(name, ContentFile(ciphertext))
        # A row that outlives a power cut must not point at a file that did not.
        # Storages elsewhere answer once they have it.
        if isinstance(storage, FileSystemStorage):
            path = Path(storage.path(name))
            for place in (path, path.parent):
                descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
    return name


def _read(name: str) -> bytes:
    with _storage_errors(name):
        try:
            with _storage().open(name, "rb") as file:
                content: bytes = file.read()
        except FileNotFoundError:
            raise FileMissing(name) from None
    return content


@contextmanager
def _storage_errors(name: str) -> Iterator[None]:
    try:
        yield
    except VaultError:
        raise
    except Exception as error:  # each storage has its own family, and their texts may hold addresses and credentials
        raise StorageFailed(name, type(error).__name__) from None
