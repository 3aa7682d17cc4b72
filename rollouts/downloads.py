"""Exports on their way out: what one would look like, without opening a key to show a page, and its files as a zip."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace

from certificates.content import Bundle, Content, WrittenPfx
from rollouts import exporters

# Stands for a file that is only written at the download; the preview shows neither it nor its password.
NOT_WRITTEN = WrittenPfx(b"\0", "masked")
ITS_SIZE = f"({exporters.count(len(NOT_WRITTEN.pfx), 'byte')})"


@dataclass(frozen=True)
class Preview:
    """`texts` are the masked texts by path; `binaries` the paths of the PFX files, `folders` those of the folders with
    one certificate as PEM each; `digest` is that of the content."""

    texts: tuple[tuple[str, str], ...]
    binaries: tuple[str, ...]
    folders: tuple[str, ...]
    certificates: int
    digest: str


def preview(content: Content, *, exporter: str, base_folder: str, trusted: Mapping[str, bytes]) -> Preview:
    """The files of an export with every secret masked; `trusted` has the authorities by fingerprint. Raises
    exporters.ExportError as the export itself would."""
    content = replace(content, base_folder=base_folder.strip())
    bundle = exporters.export(exporter, content, {slot.slug: NOT_WRITTEN for slot in content.slots}, trusted)
    binaries = tuple(file.path for file in bundle.files if file.path.endswith((".pfx", ".p12")))
    folders = tuple(path.removesuffix("key.pem") for path in bundle.preview if path.endswith("/key.pem"))
    texts = tuple(
        (path, text.replace(f" {ITS_SIZE}", ""))
        for path, text in bundle.preview.items()
        if path not in binaries and path.rpartition("/")[0] + "/" not in folders
    )
    return Preview(texts, binaries, folders, len(content.slots), content.digest)


def zipped(bundle: Bundle) -> bytes:
    """The files in memory as a zip: sorted by path, dated 1980, secrets for their owner only; the same files give the
    same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(bundle.files, key=lambda file: file.path):
            entry = zipfile.ZipInfo(file.path)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, so that the mode counts
            entry.external_attr = (0o100600 if file.secret else 0o100644) << 16
            archive.writestr(entry, file.content)
    return packed.getvalue()
