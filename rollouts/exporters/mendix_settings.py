"""`mendix-settings`: PFX files and the four runtime settings, as one pastes them in Studio Pro's Custom tab.

Follows mendix/docs, refguide/runtime/custom-settings/_index.md and
deployment/mendix-cloud-deploy/certificates/use-a-client-certificate.md; parsed by the sandbox's app, not yet run
against a Mendix runtime.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from certificates.content import Bundle, Content, File, WrittenPfx
from certificates.targets import IDENTIFIER
from rollouts.exporters import MASKED_PASSWORD, ExportError, count

README = """\
Client certificates for a Mendix app

1. Put this folder's contents in {folder} on the machine that runs the app,
   readable by the app's account only: the files hold private keys and their passwords.
2. In Studio Pro open App > Settings > Configurations, edit the configuration, and choose the tab Custom.
3. Choose New for each name in custom-settings.txt and paste its value.

Then stop the app and start it; the settings are read at its start.
custom-settings.json holds the same values for programs.
"""


@dataclass(frozen=True)
class Folder:
    """The absolute folder on the app's machine that the settings point into."""

    path: str
    separator: str

    def join(self, relative: str) -> str:
        """The absolute path of a file of the bundle, in the spelling of the app's machine."""
        return self.path.rstrip(self.separator) + self.separator + relative.replace("/", self.separator)


class MendixSettings:
    """PFX files and the values of the Custom tab."""

    kind = "mendix-settings"
    title = "Mendix settings and files"
    description = "PFX files and the four custom settings, for Studio Pro or a server that you run yourself."

    def export(self, content: Content, pfx: Mapping[str, WrittenPfx]) -> Bundle:
        """Writes `certificates/<NN>-<slug>.pfx`, `custom-settings.json`, `custom-settings.txt` and `README.txt`.

        Raises ExportError for a base folder that the settings cannot carry.
        """
        folder = base_folder(content.base_folder)
        names = [file_name(position, slot.slug) for position, slot in enumerate(content.slots, start=1)]
        paths = {slot.slug: folder.join(name) for slot, name in zip(content.slots, names, strict=True)}
        written = [pfx[slot.slug] for slot in content.slots]
        values = settings(content, paths, [one.password for one in written])
        masked = settings(content, paths, [MASKED_PASSWORD for _ in written])
        readme = README.format(folder=folder.path)
        files = [File(name, one.pfx) for name, one in zip(names, written, strict=True)]
        files += [
            File("custom-settings.json", as_json(values).encode()),
            File("custom-settings.txt", as_text(values).encode()),
            File("README.txt", readme.encode(), secret=False),
        ]
        preview = {name: f"PKCS #12, {count(len(one.pfx), 'byte')}" for name, one in zip(names, written, strict=True)}
        preview |= {
            "custom-settings.json": as_json(masked),
            "custom-settings.txt": as_text(masked),
            "README.txt": readme,
        }
        return Bundle(tuple(files), preview)


def settings(content: Content, paths: Mapping[str, str], passwords: Sequence[str]) -> dict[str, str]:
    """The four settings by name, each as the text of the Custom tab.

    *Never send* is said twice, because the documents leave open which runtime obeys which: an empty path in
    ClientCertificateUsages ("use no client certificate even when the server accepts one") needs no newer setting, and
    NoClientCertificateUsages, in the documents of 9, is the one made for it. They cannot contradict one another.
    The latter is documented for hosts and services, so an identifier has the empty path alone.

    The lists are joined by "," alone, since it is not documented that blanks are trimmed.
    """
    pins = sorted(content.pins, key=lambda pin: pin.key)
    usages = {pin.key: "" if pin.slug is None else paths[pin.slug] for pin in pins}
    return {
        "ClientCertificates": ",".join(paths[slot.slug] for slot in content.slots),
        "ClientCertificatePasswords": ",".join(passwords),
        # Backslashes single above and doubled here: that is what JSON does to them.
        "ClientCertificateUsages": json.dumps(usages, ensure_ascii=False),
        "NoClientCertificateUsages": ",".join(pin.key for pin in pins if pin.slug is None and pin.kind != IDENTIFIER),
    }


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


def file_name(position: int, slug: str) -> str:
    """`certificates/01-partner-a.pfx`. The position keeps it unique, so a strange slug may lose its strange letters.

    Commas end a path in the runtime's lists, separators leave the folder, and a JVM in the C locale opens no other
    name than ASCII.
    """
    return f"certificates/{position:02d}-{re.sub(r'[^A-Za-z0-9._-]', '_', slug)[:100]}.pfx"


def as_json(values: Mapping[str, str]) -> str:
    """For programs: an object of strings."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def as_text(values: Mapping[str, str]) -> str:
    """For people: a block for each setting, its name and below it the value to paste."""
    return "\n".join(f"{name}\n{value or '(leave empty)'}\n" for name, value in values.items())
