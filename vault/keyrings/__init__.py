"""Where the keys that wrap data keys live. No Django.

A new keyring (a key service, say) is one file in this folder and one line in `KEYRINGS`; the contract suite
(tests/vault/test_keyring_contract.py) then tests it through the registry.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self, cast

from vault.errors import KeyringUnusable

# name in settings.VAULT_KEYRING["name"] → dotted path of the class
KEYRINGS: dict[str, str] = {
    "local": "vault.keyrings.local.LocalKeyring",
}


class Keyring(Protocol):
    """One or more keys by id, exactly one of them active. Key ids are 1 to 64 characters of `a-z 0-9 . _ : / -`.

    A key never leaves its ring: callers hand in data keys and get bytes back. `repr()` shows ids only.
    """

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Open the ring that the settings describe. Raises KeyringAbsent (nothing there yet) or KeyringUnusable."""

    @classmethod
    def generate(cls, options: Mapping[str, Any]) -> str:
        """Make the first key where the settings say and return its id. Raises KeyExists, KeyringUnusable."""

    @classmethod
    def trial_options(cls, folder: Path) -> dict[str, Any]:
        """Options for a ring that does not exist yet, within `folder`; the contract suite starts from them."""

    @classmethod
    def whereabouts(cls, options: Mapping[str, Any]) -> str:
        """Where the keys are, for people: a path or an address, without anything secret."""

    @property
    def active_id(self) -> str:
        """The id of the key that wraps from now on."""

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of all keys in the ring."""

    def check_value(self, key_id: str) -> str:
        """16 hex digits that tell one key from another and nothing about it. Raises KeyMissing."""

    def wrap(self, key_id: str, data_key: bytes, *, context: bytes) -> bytes:
        """Encrypt a data key, bound to `context`; at most 4096 bytes. Raises KeyMissing."""

    def unwrap(self, key_id: str, wrapped: bytes, *, context: bytes) -> bytes:
        """Give back a data key. Raises KeyMissing, or TamperedOrMoved when bytes, key or context do not fit."""


def load(name: str) -> type[Keyring]:
    """The keyring class registered as `name`. Raises KeyringUnusable for a name that is not."""
    try:
        module, _, attribute = KEYRINGS[name].rpartition(".")
    except KeyError:
        known = ", ".join(sorted(KEYRINGS))
        raise KeyringUnusable(f'There is no keyring called "{name}"; VAULT_KEYRING can name: {known}.') from None
    return cast("type[Keyring]", getattr(import_module(module), attribute))


def configured(setting: Mapping[str, Any]) -> tuple[type[Keyring], dict[str, Any]]:
    """Split a setting such as {"name": "local", "path": …} into the class and its options. Raises KeyringUnusable."""
    options = dict(setting)
    return load(options.pop("name", "")), options


def length_prefixed(*parts: bytes) -> bytes:
    """Each part behind its length as four big-endian bytes, so that different lists never give equal bytes."""
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)
