"""`pad-hocon`: PFX files and `certs.conf` for Mendix's Portable App Distribution.

Follows mendix/docs, deployment/general/pad/pad-reference.md (names and types) and the specification of HOCON
(lightbend/config, HOCON.md: quoted strings are those of JSON; objects merge, unless null stands between them). Parsed
by that library's own reader; not run in a runtime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from certificates.content import Bundle, Content, PinnedTarget, WrittenPfx
from rollouts.exporters import MASKED_PASSWORD
from rollouts.exporters.folders import Folder, base_folder, shown_path
from rollouts.exporters.mendix import bundle, settings

NAME = "certs.conf"
README = f"""\
Client certificates for a Portable App Distribution

1. Put certificates/ and authorities/ in {{folder}},
   readable by the app's account only: the files hold private keys, and {NAME} their passwords.
2. Name {NAME} last when you start the app: bin/start etc/Default {NAME}
   The last file that names a setting counts.
3. Stop the app, or its container, and start it; the settings are read at its start.
"""


class PadHocon:
    """PFX files and a configuration in HOCON."""

    kind = "pad-hocon"
    title = "Portable App Distribution (HOCON)"
    description = "PFX files and certs.conf, for an app that is started by bin/start."
    dialect = "mendix"
    needs_folder = True
    one_password = False

    def spelled(self, pin: PinnedTarget, folder: str) -> str:
        return f"{quoted(pin.key)} : {quoted(shown_path(pin.slug, folder))}"

    def export(self, content: Content, pfx: Mapping[str, WrittenPfx], authorities: Mapping[str, bytes]) -> Bundle:
        """Writes `certificates/<slug>.pfx`, `authorities/ca-<fingerprint>.pem`, `certs.conf` and `README.txt`.
        Raises ExportError for a base folder that the settings cannot carry."""
        folder = base_folder(content.base_folder)
        passwords = [pfx[slot.slug].password for slot in content.slots]
        return bundle(
            content,
            pfx,
            authorities,
            written={NAME: as_hocon(content, folder, passwords)},
            shown={NAME: as_hocon(content, folder, [MASKED_PASSWORD for _ in passwords])},
            readme=README.format(folder=folder.path),
        )


def as_hocon(content: Content, folder: Folder, passwords: Sequence[str]) -> str:
    """`runtime.params { … }`: lists as one text with commas, usages as an object with quoted keys (a dot in a bare key
    would nest). The null before it keeps out what an earlier file says."""
    lines = ["runtime.params {"]
    for name, value in settings(content, folder).named(list(passwords)).items():
        if isinstance(value, dict):
            entries = [f"    {quoted(key)} : {quoted(path)}" for key, path in value.items()]
            lines.append(f"  {name} = null")
            lines.append("\n".join([f"  {name} = {{", *entries, "  }"]) if entries else f"  {name} = {{}}")
        else:
            lines.append(f"  {name} = {quoted(','.join(value) if isinstance(value, list) else str(value))}")
    return "\n".join([*lines, "}", ""])


def quoted(text: str) -> str:
    """A quoted string of HOCON, which is one of JSON: nothing is substituted in it."""
    return json.dumps(text, ensure_ascii=False)
