"""`m2ee-yaml`: PFX files and a fragment for m2ee-tools, which merges several files of settings.

Follows mendix/m2ee-tools, examples/full-documented-m2ee.yaml and src/m2ee/core.py: it joins the three lists by commas
and passes everything else on, so NoClientCertificateUsages is one text. Parsed by PyYAML, which m2ee-tools uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from certificates.content import Bundle, Content, PinnedTarget, WrittenPfx
from rollouts.exporters import MASKED_PASSWORD
from rollouts.exporters.folders import Folder, base_folder, shown_path
from rollouts.exporters.mendix import bundle, settings
from rollouts.exporters.quoted_yaml import dump

NAME = "client-certificates.yaml"
README = f"""\
Client certificates for an app that m2ee-tools runs

1. Put certificates/ and authorities/ in {{folder}},
   readable by the app's account only: the files hold private keys, and {NAME} their passwords.
2. Put {NAME} beside the app's m2ee.yaml and name both:
   m2ee -c m2ee.yaml -c {NAME}
   It is merged over the first: take these settings out of m2ee.yaml, or pins that you removed stay.
3. m2ee stop, then m2ee start; the settings are read at the app's start.
"""


class M2eeYaml:
    """PFX files and a fragment of m2ee.yaml."""

    kind = "m2ee-yaml"
    title = "m2ee-tools (YAML)"
    description = "PFX files and a fragment of m2ee.yaml, for a server that m2ee-tools runs."
    dialect = "mendix"
    needs_folder = True
    one_password = False

    def spelled(self, pin: PinnedTarget, folder: str) -> str:
        return dump({pin.key: shown_path(pin.slug, folder)}).strip()

    def export(self, content: Content, pfx: Mapping[str, WrittenPfx], authorities: Mapping[str, bytes]) -> Bundle:
        """Writes `certificates/<slug>.pfx`, `authorities/ca-<fingerprint>.pem`, `client-certificates.yaml` and
        `README.txt`. Raises ExportError for a base folder that the settings cannot carry."""
        folder = base_folder(content.base_folder)
        passwords = [pfx[slot.slug].password for slot in content.slots]
        return bundle(
            content,
            pfx,
            authorities,
            written={NAME: as_yaml(content, folder, passwords)},
            shown={NAME: as_yaml(content, folder, [MASKED_PASSWORD for _ in passwords])},
            readme=README.format(folder=folder.path),
        )


def as_yaml(content: Content, folder: Folder, passwords: Sequence[str]) -> str:
    """The settings under `mxruntime`."""
    return dump({"mxruntime": settings(content, folder).named(list(passwords))})
