"""Envelope encryption: every object under its own random key, that key under the keyring's. No Django.

The data is encrypted with a fresh 32-byte data key; the keyring encrypts ("wraps") the data key. Both are bound to a
`Context`, so that bytes moved to another object, environment, field or version do not open. Changing the keyring's key
means wrapping the small header anew (`rewrap`), never touching the data.

Header (kept in the database row), format 1; integers are big-endian:

    offset  length  content
    0       4       magic "CTSG"
    4       1       format = 1
    5       1       suite = 1 (Cobblestone-256 for the data; the keyring decides how it wraps)
    6       1       n, length of the key id (1..64)
    7       2       m, length of the wrapped key (1..4096)
    9       n       key id, ASCII [a-z0-9._:/-]
    9 + n   m       wrapped data key, bound to LP("countersign/wrap", header[0:6], key id, context)

Ciphertext (kept in storage): Cobblestone-256 (C2SP chunked-encryption with SHA-512 and AES-256-GCM) under the data key,
bound to LP("countersign/data", suite byte, context): 24 salt, 32 key commitment, then chunks of 16 KiB + 16.

LP(a, b, …) writes each part behind its length as four bytes, which makes the encoding injective. The context is
LP(table, object id (16), environment id (16, or empty for none), field, version (8)).
"""

from __future__ import annotations

import hmac
import re
import secrets
import struct
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from vault.errors import KeyMissing, KeyWrong, TamperedOrMoved, UnknownFormat, VaultError
from vault.keyrings import Keyring, length_prefixed

__all__ = [
    "Context",
    "KeyMissing",
    "KeyWrong",
    "Sealed",
    "TamperedOrMoved",
    "UnknownFormat",
    "VaultError",
    "key_id_of",
    "rewrap",
    "seal",
    "unseal",
    "verify_key",
]

MAGIC = b"CTSG"
FORMAT = 1
SUITE_COBBLESTONE_256 = 1
DATA_KEY_BYTES = 32
MAX_WRAPPED_BYTES = 4096

_PRELUDE = struct.Struct(">4sBB")
_LENGTHS = struct.Struct(">BH")
_FIXED_BYTES = _PRELUDE.size + _LENGTHS.size
_KEY_ID = re.compile(r"[a-z0-9._:/-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class Context:
    """Where an object belongs. Sealing binds to it, unsealing demands the very same.

    `environment_id` is None for what belongs to no environment; `version` counts from 1.
    """

    table: str
    object_id: UUID
    environment_id: UUID | None
    field: str
    version: int

    def __bytes__(self) -> bytes:
        """Injective bytes: two contexts are equal exactly when their bytes are."""
        return length_prefixed(
            self.table.encode(),
            self.object_id.bytes,
            b"" if self.environment_id is None else self.environment_id.bytes,
            self.field.encode(),
            struct.pack(">Q", self.version),
        )


@dataclass(frozen=True)
class Sealed:
    """The two halves of a sealed object; one without the other, or without the keyring, is worthless."""

    header: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


def seal(plaintext: bytes, *, context: Context, keyring: Keyring) -> Sealed:
    """Encrypt `plaintext` under a fresh data key, wrapped by the keyring's active key. Empty plaintext is fine."""
    data_key = secrets.token_bytes(DATA_KEY_BYTES)
    encryptor = Cobblestone256Encryptor(data_key, _data_context(context))
    ciphertext = encryptor.update(plaintext) + encryptor.finalize()
    return Sealed(header=_header(data_key, context, keyring), ciphertext=ciphertext)


def unseal(sealed: Sealed, *, context: Context, keyring: Keyring) -> bytes:
    """Give back the plaintext, whole and authenticated, or raise.

    Raises UnknownFormat (header not readable), KeyMissing (its key id is not in the ring), TamperedOrMoved (anything
    else that does not fit: changed or truncated bytes, another context, another object's half, another key).
    """
    decryptor = Cobblestone256Decryptor(_data_key(sealed.header, context, keyring), _data_context(context))
    try:
        # update() hands out chunks before the end is authenticated, so nothing leaves here before finalize().
        return decryptor.update(sealed.ciphertext) + decryptor.finalize()
    except InvalidTag:
        raise TamperedOrMoved from None


def rewrap(header: bytes, *, context: Context, keyring: Keyring) -> bytes:
    """Wrap the header's data key under the keyring's active key. The ciphertext stays as it is.

    Raises as `unseal` does. Use it when a new key became active, before the old one leaves the ring.
    """
    return _header(_data_key(header, context, keyring), context, keyring)


def key_id_of(header: bytes) -> str:
    """The id of the key that wrapped this header. Raises UnknownFormat."""
    return _split(header)[0]


def verify_key(keyring: Keyring, key_id: str, *, expected: str) -> None:
    """Compare the check value of a key with the one noted earlier (16 hex digits). Raises KeyMissing or KeyWrong."""
    found = keyring.check_value(key_id)
    if not hmac.compare_digest(found, expected):
        raise KeyWrong(key_id, found=found, expected=expected)


def _prelude() -> bytes:
    return _PRELUDE.pack(MAGIC, FORMAT, SUITE_COBBLESTONE_256)


def _data_context(context: Context) -> bytes:
    return length_prefixed(b"countersign/data", bytes([SUITE_COBBLESTONE_256]), bytes(context))


def _wrap_context(key_id: str, context: Context) -> bytes:
    return length_prefixed(b"countersign/wrap", _prelude(), key_id.encode(), bytes(context))


def _header(data_key: bytes, context: Context, keyring: Keyring) -> bytes:
    key_id = keyring.active_id
    if not _KEY_ID.fullmatch(key_id):
        raise ValueError("a key id is 1 to 64 characters of a-z 0-9 . _ : / -")
    wrapped = keyring.wrap(key_id, data_key, context=_wrap_context(key_id, context))
    if not 1 <= len(wrapped) <= MAX_WRAPPED_BYTES:
        raise ValueError(f"a wrapped key is 1 to {MAX_WRAPPED_BYTES} bytes")
    return _prelude() + _LENGTHS.pack(len(key_id), len(wrapped)) + key_id.encode() + wrapped


def _data_key(header: bytes, context: Context, keyring: Keyring) -> bytes:
    key_id, wrapped = _split(header)
    data_key = keyring.unwrap(key_id, wrapped, context=_wrap_context(key_id, context))
    if len(data_key) != DATA_KEY_BYTES:
        raise TamperedOrMoved
    return data_key


def _split(header: bytes) -> tuple[str, bytes]:
    """The key id and the wrapped key, after every byte of the header is accounted for."""
    if len(header) < _FIXED_BYTES:
        raise UnknownFormat("a header that is too short")
    magic, version, suite = _PRELUDE.unpack_from(header)
    if magic != MAGIC:
        raise UnknownFormat("a header that is not the vault's")
    if version != FORMAT:
        raise UnknownFormat(f"format {version}, which this version does not read")
    if suite != SUITE_COBBLESTONE_256:
        raise UnknownFormat(f"cipher suite {suite}, which this version does not read")
    id_length, wrapped_length = _LENGTHS.unpack_from(header, _PRELUDE.size)
    if wrapped_length > MAX_WRAPPED_BYTES or len(header) != _FIXED_BYTES + id_length + wrapped_length:
        raise UnknownFormat("a header whose lengths do not add up")
    # latin-1 decodes anything; the expression then lets only the ASCII of a key id pass.
    key_id = header[_FIXED_BYTES : _FIXED_BYTES + id_length].decode("latin-1")
    if not _KEY_ID.fullmatch(key_id) or not wrapped_length:
        raise UnknownFormat("a header without a proper key id")
    return key_id, header[_FIXED_BYTES + id_length :]
