"""How exported files are called, and the folder on the app's machine that configurations point into."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from certificates.content import Content
from rollouts.exporters import ExportError


@dataclass(frozen=True)
class Folder:
    """An absolute folder on the app's machine."""

    path: str
    separator: str

    def join(self, relative: str) -> str:
        """The absolute path of a file of the bundle, in the spelling of the app's machine."""
        return self.path.rstrip(self.separator) + self.separator + relative.replace("/", self.separator)


def base_folder(text: str) -> Folder:
    """The folder of the app's machine: Windows by a drive letter or a backslash, otherwise POSIX.

    Raises ExportError where it is missing, relative, or has characters that the settings cannot carry.
    """
    if not text:
        raise ExportError(
            "The settings need the folder in which the app finds its files; "
            "enter it under Settings, like /srv/app/certificates or D:\\App\\Certificates."
        )
    if "," in text:
        raise ExportError("The runtime separates paths by commas, so the base folder cannot contain one; rename it.")
    if not text.isprintable() or text != text.strip():
        raise ExportError("The base folder has line breaks, invisible characters or blanks around it; type it again.")
    if re.match(r"[A-Za-z]:", text) or "\\" in text:
        path = text.replace("/", "\\")
        if not re.match(r"[A-Za-z]:\\|\\\\[^\\]+\\[^\\]", path):
            raise ExportError("The base folder is relative; enter it with its drive, like D:\\App\\Certificates.")
        if re.search(r'[<>:"|?*]', re.sub(r"^[A-Za-z]:", "", path)):
            raise ExportError('Windows allows none of < > : " | ? * in a folder; correct the base folder.')
        return Folder(path.rstrip("\\") if len(path) > 3 else path, "\\")
    if not text.startswith("/"):
        raise ExportError("The base folder is relative; enter it from the root, like /srv/app/certificates.")
    return Folder(text.rstrip("/") or "/", "/")


def safe_name(slug: str) -> str:
    """The slug as a name of a file or an alias: small letters, digits, `_` and `-`.

    A slug of ours is one already, and never changes. A strange one loses its strange letters, because commas end a path
    in the runtime's lists, separators leave the folder, a JVM in the C locale opens no other name than ASCII, and some
    systems take capitals for small letters; the beginning of its SHA-256 keeps it apart from others.
    """
    if re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,99}", slug):
        return slug
    mark = hashlib.sha256(slug.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', slug)[:80]}-{mark}"


def pfx_name(slug: str) -> str:
    """`certificates/partner-a.pfx`."""
    return f"certificates/{safe_name(slug)}.pfx"


def authority_name(sha256: str) -> str:
    """`authorities/ca-0f1e2d3c4b5a6978.pem`: of a trusted authority, by the beginning of its fingerprint."""
    return f"authorities/ca-{sha256[:16]}.pem"


def shown_path(slug: str | None, folder: str) -> str:
    """The path of a slot's PFX for a page, whatever the folder is; "" for *never*."""
    if slug is None:
        return ""
    separator = "\\" if "\\" in folder else "/"
    name = pfx_name(slug).replace("/", separator)
    return f"{folder.rstrip(separator)}{separator}{name}" if folder else name


def pfx_paths(content: Content, folder: Folder) -> dict[str, str]:
    """The absolute path of each slot's PFX, by slug, in the order of the slots."""
    return {slot.slug: folder.join(pfx_name(slot.slug)) for slot in content.slots}
