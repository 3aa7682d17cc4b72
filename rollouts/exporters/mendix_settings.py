"""`mendix-settings`: PFX files and the runtime settings, as one pastes them in Studio Pro's Custom tab.

Follows mendix/docs, refguide/runtime/custom-settings/_index.md and
deployment/mendix-cloud-deploy/certificates/use-a-client-certificate.md; parsed by the sandbox's app, not yet run
against a Mendix runtime. The files themselves are opened in OpenJDK.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from certificates.content import Bundle, Content, PinnedTarget, WrittenPfx
from rollouts.exporters import MASKED_PASSWORD
from rollouts.exporters.folders import Folder, base_folder, shown_path
from rollouts.exporters.mendix import bundle
from rollouts.exporters.mendix import settings as mendix_settings

README = """\
Client certificates for a Mendix app

1. Put this folder's contents in {folder} on the machine that runs the app,
   readable by the app's account only: the files hold private keys and their passwords.
2. In Studio Pro open App > Settings > Configurations, edit the configuration, and choose the tab Custom.
3. Choose New for each name in custom-settings.txt and paste its value.

Then stop the app and start it; the settings are read at its start.
custom-settings.json holds the same values for programs.

“Never send a certificate” is said twice: by an empty path in ClientCertificateUsages, and, for hosts and
services, in NoClientCertificateUsages, which the documents of Mendix 9 and newer name.
"""


class MendixSettings:
    """PFX files and the values of the Custom tab."""

    kind = "mendix-settings"
    title = "Mendix settings and files"
    description = "PFX files and the custom settings, for Studio Pro or a server that you run yourself."
    dialect = "mendix"
    needs_folder = True
    one_password = False

    def spelled(self, pin: PinnedTarget, folder: str) -> str:
        return json.dumps({pin.key: shown_path(pin.slug, folder)}, ensure_ascii=False)

    def export(self, content: Content, pfx: Mapping[str, WrittenPfx], authorities: Mapping[str, bytes]) -> Bundle:
        """Writes `certificates/<slug>.pfx`, `authorities/ca-<fingerprint>.pem`, `custom-settings.json`,
        `custom-settings.txt` and `README.txt`.

        Raises ExportError for a base folder that the settings cannot carry.
        """
        folder = base_folder(content.base_folder)
        passwords = [pfx[slot.slug].password for slot in content.slots]
        values = settings(content, folder, passwords)
        masked = settings(content, folder, [MASKED_PASSWORD for _ in passwords])
        return bundle(
            content,
            pfx,
            authorities,
            written={"custom-settings.json": as_json(values), "custom-settings.txt": as_text(values)},
            shown={"custom-settings.json": as_json(masked), "custom-settings.txt": as_text(masked)},
            readme=README.format(folder=folder.path),
        )


def settings(content: Content, folder: Folder, passwords: Sequence[str]) -> dict[str, str]:
    """The settings by name, each as the text of the Custom tab.

    The lists are joined by "," alone, since it is not documented that blanks are trimmed.
    """
    found = {}
    for name, value in mendix_settings(content, folder).named(list(passwords)).items():
        if isinstance(value, dict):
            # Backslashes single above and doubled here: that is what JSON does to them.
            found[name] = json.dumps(value, ensure_ascii=False)
        else:
            found[name] = ",".join(value) if isinstance(value, list) else str(value)
    return found


def as_json(values: Mapping[str, str]) -> str:
    """For programs: an object of strings."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def as_text(values: Mapping[str, str]) -> str:
    """For people: a block for each setting, its name and below it the value to paste."""
    return "\n".join(f"{name}\n{value or '(leave empty)'}\n" for name, value in values.items())
