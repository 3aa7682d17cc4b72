"""The frozen values that travel between the layers: what an environment should run, and the files that say so.

No Django here. Secrets are kept out of every repr, so that a value in a log line or a traceback shows nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certificates.identities import Identity

# Raised when the meaning of the canonical form below changes; it is part of the digest.
CONTENT_FORMAT = 1


@dataclass(frozen=True)
class Slot:
    """One enabled client certificate at its position, by the fingerprints of the version in use.

    `slug` never changes and names the exported file; `sha256` and `chain` are lower-case hex over DER.
    """

    slug: str
    sha256: str
    chain: tuple[str, ...] = ()


@dataclass(frozen=True)
class PinnedTarget:
    """A target (`kind` is service, host or identifier; `key` is the exact exported key) and the slug it presents.

    `slug` is None for *never send a certificate*.
    """

    kind: str
    key: str
    slug: str | None


@dataclass(frozen=True)
class Content:
    """Everything that an exporter reads. Two environments with equal content get equal configurations."""

    runtime: str
    runtime_version: str
    profile: str
    base_folder: str
    slots: tuple[Slot, ...] = ()
    pins: tuple[PinnedTarget, ...] = ()
    authorities: tuple[str, ...] = ()
    format: int = CONTENT_FORMAT

    def canonical(self) -> str:
        """Canonical JSON text (sorted keys, compact, pins sorted by key), the form that is stored and digested."""
        return json.dumps(
            {
                "format": self.format,
                "runtime": self.runtime,
                "runtime_version": self.runtime_version,
                "profile": self.profile,
                "base_folder": self.base_folder,
                "slots": [{"slug": s.slug, "sha256": s.sha256, "chain": list(s.chain)} for s in self.slots],
                "pins": [
                    {"kind": p.kind, "key": p.key, "slug": p.slug} for p in sorted(self.pins, key=lambda p: p.key)
                ],
                "authorities": list(self.authorities),
            },
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        )

    @property
    def digest(self) -> str:
        """SHA-256 (lower-case hex) over the canonical form. Never over encrypted bytes, so equal content is equal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    @classmethod
    def from_canonical(cls, text: str) -> Content:
        """The inverse of `canonical`. Raises ValueError for a format that this release does not know."""
        stored: dict[str, Any] = json.loads(text)
        if stored["format"] != CONTENT_FORMAT:
            raise ValueError(f"content format {stored['format']} is not known to this release")
        return cls(
            runtime=stored["runtime"],
            runtime_version=stored["runtime_version"],
            profile=stored["profile"],
            base_folder=stored["base_folder"],
            slots=tuple(Slot(s["slug"], s["sha256"], tuple(s["chain"])) for s in stored["slots"]),
            pins=tuple(PinnedTarget(p["kind"], p["key"], p["slug"]) for p in stored["pins"]),
            authorities=tuple(stored["authorities"]),
        )


@dataclass(frozen=True)
class WrittenPfx:
    """A PFX written anew for one export, with the random ASCII password that opens it.

    `identity` is what is in it, for exports that carry it in another form. A preview, which opens no key, has none.
    """

    pfx: bytes = field(repr=False)
    password: str = field(repr=False)
    identity: Identity | None = field(default=None, repr=False)


@dataclass(frozen=True)
class File:
    """One exported file: a relative POSIX path, its bytes, and whether it holds a secret (0600, masked on pages)."""

    path: str
    content: bytes = field(repr=False)
    secret: bool = True


@dataclass(frozen=True)
class Bundle:
    """The files written for one revision. `preview` is the text of each file with its secrets masked."""

    files: tuple[File, ...]
    preview: Mapping[str, str] = field(default_factory=dict)
    # What the files carry, by slug, so that a connection can be tried with exactly that; not delivered.
    sent: Mapping[str, WrittenPfx] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over one `<sha256 of the bytes>  <path>` line a file, sorted by path (sha256sum's form)."""
        return digest_of_files((file.path, file.content) for file in self.files)


def digest_of_files(files: Iterable[tuple[str, bytes]]) -> str:
    """The digest that an app can compute over what it loaded and report back as its evidence."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
