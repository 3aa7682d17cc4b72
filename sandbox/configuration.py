"""What the app runs on: every file of the configuration folder, read once at start, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from sandbox.mendix import BrokenConfiguration, ListedCertificate, Settings, parse, unique_keys

SETTINGS_FILE = "custom-settings.json"
_MAX_FILES = 2_000
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class OpenedCertificate:
    """A client certificate with its key, ready to be presented. `pem` is key, leaf and chain, for memory only."""

    position: int
    path: str
    leaf: x509.Certificate
    pem: bytes = field(repr=False)

    @property
    def file(self) -> str:
        """The file's name without its folder."""
        return Path(self.path).name

    @property
    def sha256(self) -> str:
        """The leaf's SHA-256 fingerprint, lower-case hex."""
        return self.leaf.fingerprint(hashes.SHA256()).hex()


@dataclass(frozen=True)
class Configuration:
    """Everything that was loaded at start. Later changes in the folder do not reach it."""

    folder: Path
    digest: str
    settings: Settings
    certificates: tuple[OpenedCertificate, ...]
    authorities: tuple[bytes, ...]


def load(folder: Path) -> Configuration:
    """Read the folder (a symbolic link is followed once, now). Raises BrokenConfiguration with one sentence.

    No folder or an empty one means no certificates. A path inside the folder, whether written through the link or not,
    is answered from the bytes that were read for the digest; a path elsewhere is read from where it lies, and is not
    part of the digest.
    """
    try:
        resolved = folder.resolve()
        files = _read_all(resolved)
        settings = _settings(files)
        reader = _Reader(folder.absolute(), resolved, files)
        certificates = tuple(_open(entry, reader.read(entry.path)) for entry in settings.certificates)
        authorities = tuple(_first_pem(path, reader.read(path)) for path in settings.authorities)
    except OSError as error:
        raise BrokenConfiguration(f"The configuration in {folder} cannot be read: {error.strerror}.") from error
    return Configuration(resolved, digest_of(files), settings, certificates, authorities)


def digest_of(files: Mapping[str, bytes]) -> str:
    """SHA-256 (hex) over one `<sha256 hex of the bytes>  <relative path>` line a file, sorted by path."""
    lines = (f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_all(folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    size = 0
    if not folder.is_dir():
        return files
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        size += path.stat().st_size
        if len(files) >= _MAX_FILES or size > _MAX_BYTES:
            raise BrokenConfiguration(f"{folder} holds too much to be a configuration; check the folder's name.")
        files[path.relative_to(folder).as_posix()] = path.read_bytes()
    return files


def _settings(files: Mapping[str, bytes]) -> Settings:
    content = files.get(SETTINGS_FILE)
    if content is None:
        return Settings()
    try:
        read = json.loads(content, object_pairs_hook=unique_keys)
    except ValueError as error:
        raise BrokenConfiguration(f"{SETTINGS_FILE} is not JSON; export it again.") from error
    if not isinstance(read, dict):
        raise BrokenConfiguration(f"{SETTINGS_FILE} must be a JSON object of settings; export it again.")
    return parse(read)


@dataclass(frozen=True)
class _Reader:
    folder: Path
    resolved: Path
    files: Mapping[str, bytes]

    def read(self, path: str) -> bytes:
        place = Path(path)
        if not place.is_absolute():
            raise BrokenConfiguration(f"The path {path!r} is not absolute; write it from the root folder on.")
        for base in (self.folder, self.resolved):
            if place.is_relative_to(base):
                inside = self.files.get(place.relative_to(base).as_posix())
                if inside is not None:
                    return inside
        if not place.is_file():
            raise BrokenConfiguration(f"The settings name {path}, but there is no such file; deliver it or remove it.")
        return place.read_bytes()


def _open(entry: ListedCertificate, content: bytes) -> OpenedCertificate:
    if not entry.password.isascii():
        # Java's PKCS12 key store refuses such a password, though OpenSSL would open the file.
        raise BrokenConfiguration(f"The password of {entry.path} is not ASCII, which the runtime cannot use.")
    try:
        key, leaf, chain = pkcs12.load_key_and_certificates(content, entry.password.encode())
    except Exception as error:  # the parser has several error types, all of which mean the same here
        raise BrokenConfiguration(
            f"{entry.path} cannot be opened with the password at place {entry.position} of ClientCertificatePasswords: "
            "the password is wrong or the file is damaged."
        ) from error
    if key is None or leaf is None:
        raise BrokenConfiguration(f"{entry.path} holds no private key with its certificate; export it with its key.")
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + b"".join(link.public_bytes(serialization.Encoding.PEM) for link in (leaf, *chain))
    return OpenedCertificate(entry.position, entry.path, leaf, pem)


def _first_pem(path: str, content: bytes) -> bytes:
    """The first certificate of a PEM file as DER: the runtime seems to ignore further ones (m2ee-tools' example)."""
    try:
        return x509.load_pem_x509_certificate(content).public_bytes(serialization.Encoding.DER)
    except ValueError as error:
        raise BrokenConfiguration(f"{path} in CACertificates is not a PEM certificate.") from error
