"""Versioned folders: a bundle lies in `versions/<digest>`, and a link is switched to it at once.

    versions/<digest>/     a delivered bundle (folders 0700, files 0600); the current one and the one before are kept
    current, previous      links into versions/

Whoever follows `current` meets one bundle or another, whole. No Django here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certificates.content import Bundle, digest_of_files
from rollouts.connectors import ConnectorError


@dataclass(frozen=True)
class Readers:
    """Who may read what is delivered, beside its owner: a group by its number, or nobody; and the owner's number where
    it is not the portal's own user."""

    group: int | None = None
    owner: int | None = None

    def give(self, path: Path, *, folder: bool) -> None:
        """Sets owner and mode of one file or folder."""
        shared = self.group is not None
        path.chmod((0o750 if shared else 0o700) if folder else (0o640 if shared else 0o600))
        if shared or self.owner is not None:
            os.chown(path, -1 if self.owner is None else self.owner, -1 if self.group is None else self.group)

    @property
    def nobody_elses(self) -> int:
        """The bits that no mode may have."""
        return 0o077 if self.group is None else 0o027


NOBODY = Readers()


@contextlib.contextmanager
def spoken(what: str) -> Iterator[None]:
    """Turns what the system says into a sentence."""
    try:
        yield
    except OSError as error:
        raise ConnectorError(
            f"{what} ({error.strerror or 'no reason given'}); look at the disk and the rights there."
        ) from error


def deliver(folder: Path, bundle: Bundle, readers: Readers = NOBODY) -> None:
    """Writes `versions/<digest>`, switches `current` to it, and deletes all but it and the one before.

    One delivery at a time: the caller holds the folder's lock. Raises OSError; the link is switched last.
    """
    versions = folder / "versions"
    versions.mkdir(mode=0o700, exist_ok=True)
    readers.give(versions, folder=True)
    digest = bundle.digest
    # A damaged version is never mended in place: the app may be reading it.
    found = [v.name for v in versions.glob(f"{digest}*") if _whole(v, digest, readers)]
    current = _target(folder / "current")
    name = current if current in found else found[0] if found else _write_version(versions, bundle, readers)
    if name != current:
        if current and not current.startswith(digest):  # a damaged one is nothing to go back to
            _point(folder / "previous", current)
        _point(folder / "current", name)
    kept = {name, _target(folder / "previous")}
    for version in versions.iterdir():  # what a killed delivery left behind goes too: keys must not lie around
        if version.name in kept:
            continue
        if version.is_dir() and not version.is_symlink():
            shutil.rmtree(version)
        else:
            version.unlink()
    sync(versions)


def delivered_digest(folder: Path) -> str:
    """SHA-256 (hex, certificates.content.digest_of_files) over what lies behind `current` now. Raises OSError."""
    return digest_of_files(_files((folder / "current").resolve()))


def refuse_bad_paths(bundle: Bundle) -> None:
    """Raises ConnectorError for a path that could leave the folder."""
    seen: set[str] = set()
    for file in bundle.files:
        parts = file.path.split("/")
        if any(p in ("", ".", "..") or len(p.encode(errors="replace")) > 200 or not p.isprintable() for p in parts):
            raise ConnectorError(f"The export holds a file with the path {file.path[:80]!r}; nothing was delivered.")
        seen.add(file.path)
    folders = {"/".join(path.split("/")[:n]) for path in seen for n in range(1, path.count("/") + 1)}
    if len(seen) < len(bundle.files) or seen & folders:
        raise ConnectorError("The export holds two files with the same path; nothing was delivered.")


def _write_version(versions: Path, bundle: Bundle, readers: Readers) -> str:
    """Writes the bundle under a name that is not in use, whole or not at all; returns the name."""
    new = versions / f".new-{secrets.token_hex(4)}"
    new.mkdir(mode=0o700)
    folders = {new}
    for file in bundle.files:
        path = new / file.path
        for folder in reversed([p for p in path.parents if new in p.parents]):
            folder.mkdir(mode=0o700, exist_ok=True)
            folders.add(folder)
        _write(path, file.content)
        readers.give(path, folder=False)
    for folder in sorted(folders, key=lambda f: len(f.parts), reverse=True):
        readers.give(folder, folder=True)
        sync(folder)
    name = bundle.digest
    if os.path.lexists(versions / name):
        name = f"{name}-{secrets.token_hex(4)}"
    new.rename(versions / name)
    sync(versions)
    return name


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _point(link: Path, name: str) -> None:
    """Switches the link at once: rename(2) replaces the old one, so there is no moment without any."""
    link_to(link, Path("versions", name))


def link_to(link: Path, target: Path) -> None:
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)
    sync(link.parent)


def _target(link: Path) -> str:
    """The name of the version that the link points at; "" for none."""
    try:
        target = link.readlink()
    except FileNotFoundError:
        return ""
    return target.name if target.parent == Path("versions") else ""


def _files(folder: Path) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISDIR(mode):
            # We write regular files only. Anything else must never digest like one.
            content = path.read_bytes() if stat.S_ISREG(mode) else b"\0not a regular file\0"
            found.append((path.relative_to(folder).as_posix(), content))
    return found


def _whole(version: Path, digest: str, readers: Readers) -> bool:
    bits = readers.nobody_elses
    private = all(path.lstat().st_mode & bits == 0 for path in (version, *version.rglob("*")) if not path.is_symlink())
    return private and digest_of_files(_files(version)) == digest
