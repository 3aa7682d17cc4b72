"""What can go wrong with a sealed object, each as one sentence for the operator. No Django.

No message ever contains plaintext or a key: only names, counts and what to do.
"""

from __future__ import annotations


class VaultError(Exception):
    """The family: the vault could not seal or open something. `str(error)` is a sentence for the operator."""


class KeyringUnusable(VaultError):
    """The keyring as a whole cannot be used: wrong settings, loose file mode, wrong owner, unreadable content."""


class KeyringAbsent(KeyringUnusable):
    """There is no key at all where the settings say; a fresh installation is in this state."""


class KeyExists(VaultError):
    """A key was asked for where one already is; an existing key is never overwritten."""


class KeyMissing(VaultError):
    """An object names a key id that is not in the ring."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f'The vault has no key "{key_id}", which this object was sealed with; put that key back.')
        self.key_id = key_id


class KeyWrong(VaultError):
    """The ring has a key under this id, but its check value is not the one that was noted when it was first used."""

    def __init__(self, key_id: str, *, found: str, expected: str) -> None:
        super().__init__(
            f'The key "{key_id}" is not the one that sealed earlier objects (its check value is {found}, not '
            f"{expected}); put the original key back."
        )
        self.key_id = key_id


class TamperedOrMoved(VaultError):
    """Authentication failed: bytes changed or cut off, or those of another object, environment, field or version."""

    def __init__(self) -> None:
        super().__init__(
            "This sealed object was changed or moved since it was sealed; restore its file and its row from one backup."
        )


class UnknownFormat(VaultError):
    """The header is not one that this version writes or reads."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"This sealed object has {what}; open it with the version that wrote it or restore it from a backup."
        )


class FileMissing(VaultError):
    """The row is there, its ciphertext file is not."""

    def __init__(self, storage_name: str) -> None:
        super().__init__(f'The vault\'s storage has no file "{storage_name}"; restore the storage from its backup.')


class StorageFailed(VaultError):
    """The storage answered with an error (its kind is named; its text may hold addresses, so it is left out)."""

    def __init__(self, storage_name: str, kind: str) -> None:
        super().__init__(
            f'The vault\'s storage could not be used for "{storage_name}" ({kind}); check that it is reachable and may '
            "be read and written."
        )


class Destroyed(VaultError):
    """The object's key was forgotten on purpose; nothing can open it again."""

    def __init__(self) -> None:
        super().__init__("This object was destroyed and cannot be opened again; upload it anew.")
