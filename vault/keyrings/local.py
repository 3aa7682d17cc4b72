"""Keys in one file on this machine, readable by its owner alone. No Django.

The file is JSON: {"format": 1, "active": "local/2026-11-23-9f3a1c", "keys": {"<id>": "<base64 of 32 bytes>", …}}.
Keep a copy of it away from the backups of the database and the storage: who has all three can open everything, and who
has lost this file can open nothing.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Self

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from vault.errors import KeyExists, KeyMissing, KeyringAbsent, KeyringUnusable, TamperedOrMoved

FORMAT = 1
KEY_BYTES = 32
# A ring of a thousand keys is below this; anything larger is not a key file.
MAX_FILE_BYTES = 128 * 1024

_KEY_ID = re.compile(r"[a-z0-9._:/-]{1,64}", re.ASCII)


class LocalKeyring:
    """A key file, read once. Its option is `path`."""

    def __init__(self, *, active_id: str, keys: Mapping[str, bytes]) -> None:
        self._active_id = active_id
        self._keys = dict(keys)

    def __repr__(self) -> str:
        return f"LocalKeyring(active_id={self._active_id!r}, key_ids={sorted(self._keys)!r})"

    def __reduce__(self) -> NoReturn:
        # A pickled ring would be its keys in clear, in a cache or a broker.
        raise TypeError("a keyring cannot be pickled")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Read the file at `options["path"]`. Raises KeyringAbsent or KeyringUnusable with what to do about it."""
        path = _path(options)
        active_id, keys = _parse(path, _read(path))
        return cls(active_id=active_id, keys=keys)

    @classmethod
    def generate(cls, options: Mapping[str, Any]) -> str:
        """Write a new file with one random key and return the key's id. Raises KeyExists if there is a file already."""
        return generate(_path(options))

    @classmethod
    def trial_options(cls, folder: Path) -> dict[str, Any]:
        """A file that is not there yet."""
        return {"path": folder / "vault.key"}

    @classmethod
    def whereabouts(cls, options: Mapping[str, Any]) -> str:
        """The path of the file."""
        return str(_path(options))

    @property
    def active_id(self) -> str:
        """The id that the file names as active."""
        return self._active_id

    @property
    def key_ids(self) -> frozenset[str]:
        """Every id in the file."""
        return frozenset(self._keys)

    def check_value(self, key_id: str) -> str:
        """The first 8 bytes of HMAC-SHA-256(key, "countersign/key-check"), as hex."""
        return hmac.new(self._key(key_id), b"countersign/key-check", hashlib.sha256).hexdigest()[:16]

    def wrap(self, key_id: str, data_key: bytes, *, context: bytes) -> bytes:
        """Cobblestone-256 of the data key: 24 salt, 32 commitment, 32 + 16."""
        encryptor = Cobblestone256Encryptor(self._key(key_id), context)
        return encryptor.update(data_key) + encryptor.finalize()

    def unwrap(self, key_id: str, wrapped: bytes, *, context: bytes) -> bytes:
        """The reverse of `wrap`."""
        decryptor = Cobblestone256Decryptor(self._key(key_id), context)
        try:
            return decryptor.update(wrapped) + decryptor.finalize()
        except InvalidTag:
            raise TamperedOrMoved from None

    def _key(self, key_id: str) -> bytes:
        try:
            return self._keys[key_id]
        except KeyError:
            raise KeyMissing(key_id) from None


def generate(path: Path) -> str:
    """Write a key file with one random key at `path` (mode 0600, folders made with 0700) and return the key's id.

    Raises KeyExists rather than touch a file that is there, KeyringUnusable if it cannot be written.
    """
    key_id = _new_id()
    try:
        _make_folder(path.parent)
        _write_new(path, _dump(key_id, {key_id: secrets.token_bytes(KEY_BYTES)}))
    except FileExistsError:
        raise KeyExists(f'There already is a key file at "{path}"; it was kept as it is.') from None
    except OSError as error:
        raise _unusable(
            path, f"cannot be written ({error.strerror}); choose a folder that this user may write"
        ) from None
    return key_id


def add_key(path: Path) -> str:
    """Add a random key to the file, make it the active one and return its id. Older keys stay, to open older objects.

    The file is replaced whole or not at all. Raises as opening it does.
    """
    _, keys = _parse(path, _read(path))
    key_id = _new_id()
    target = path.resolve()
    draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}.new")
    try:
        _write_new(draft, _dump(key_id, {**keys, key_id: secrets.token_bytes(KEY_BYTES)}))
        draft.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _unusable(path, f"cannot be replaced ({error.strerror}); it was left as it is") from None
    return key_id


def _new_id() -> str:
    # The day is for people; the random part keeps two rings made on one day from using one id for two keys.
    return f"local/{datetime.now(UTC):%Y-%m-%d}-{secrets.token_hex(3)}"


def _path(options: Mapping[str, Any]) -> Path:
    path = options.get("path")
    if not path or not Path(path).is_absolute():
        raise KeyringUnusable('The local keyring needs an absolute "path" in VAULT_KEYRING; set one.')
    return Path(path)


def _unusable(path: Path, what: str) -> KeyringUnusable:
    return KeyringUnusable(f'The key file "{path}" {what}.')


def _read(path: Path) -> bytes:
    """The bytes of the file, after its owner and mode were checked on the open file itself (nothing can be swapped)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyringAbsent(
            f'There is no key file at "{path}"; put it back, or for a new installation run "generate_vault_key".'
        ) from None
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror}); let the portal's user own it") from None
    try:
        _refuse_unless_private(path, os.fstat(descriptor))
        return os.read(descriptor, MAX_FILE_BYTES)
    finally:
        os.close(descriptor)


def _refuse_unless_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _unusable(path, "is not a regular file; name a file in VAULT_KEYRING")
    if status.st_uid not in (0, os.geteuid()):
        raise _unusable(path, f"belongs to user {status.st_uid}; let the portal's user ({os.geteuid()}) own it")
    # systemd lets a unit's user read its credentials by an access control list, whose mask shows as the group's bits.
    credential = str(path.parent) == os.environ.get("CREDENTIALS_DIRECTORY")
    if status.st_mode & (0o037 if credential else 0o077):
        mode = stat.S_IMODE(status.st_mode)
        raise _unusable(path, f"has mode {mode:04o}, so others may use it; set it to 0600")
    if status.st_size > MAX_FILE_BYTES:
        raise _unusable(path, "is too large to be a key file; put the right one in its place")


def _parse(path: Path, content: bytes) -> tuple[str, dict[str, bytes]]:
    """The active id and the keys. What is wrong is named without quoting the content, which is secret."""
    broken = _unusable(path, "is not a key file of this version; put the original back")
    try:
        document = json.loads(content)
        if document["format"] != FORMAT:
            raise broken
        active_id = document["active"]
        keys = {key_id: base64.b64decode(text, validate=True) for key_id, text in document["keys"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise broken from None
    if not isinstance(active_id, str) or active_id not in keys:
        raise _unusable(path, "names an active key that it does not hold; put the original back")
    if not all(_KEY_ID.fullmatch(key_id) and len(key) == KEY_BYTES for key_id, key in keys.items()):
        raise _unusable(path, "holds a key with an improper id or length; put the original back")
    return active_id, keys


def _dump(active_id: str, keys: Mapping[str, bytes]) -> bytes:
    encoded = {key_id: base64.b64encode(key).decode() for key_id, key in keys.items()}
    return json.dumps({"format": FORMAT, "active": active_id, "keys": encoded}, indent=2).encode() + b"\n"


def _write_new(path: Path, content: bytes) -> None:
    """Create `path` with mode 0600 and see it on disk. Raises FileExistsError; a half-written file is removed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # The umask can only take bits away, and may take the owner's.
            os.fchmod(descriptor, 0o600)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        _sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _make_folder(folder: Path) -> None:
    """Make what is missing of it; a file in the way is an ordinary failure, not an existing key."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None


def _sync_folder(folder: Path) -> None:
    """Make the file's name as lasting as its content."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
