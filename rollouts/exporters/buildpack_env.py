"""`buildpack-env`: environment variables for the Mendix Cloud Foundry buildpack and the Docker images around it.

Follows mendix/cf-mendix-buildpack, README "Client Certificates" and buildpack/core/security.py (v5.0.31), not run.
The base folder is not used: the buildpack writes the PFX files itself.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping

from certificates.content import Bundle, Content, File, WrittenPfx
from certificates.targets import IDENTIFIER
from rollouts.exporters import MASKED_PASSWORD, ExportError, count

# execve(2): one string of the environment, with its name and the final NUL, has at most 32 pages of 4 KiB on Linux.
LONGEST_VARIABLE = 32 * 4096
CERTIFICATES = "CLIENT_CERTIFICATES"
NEVER = "MXRUNTIME_NoClientCertificateUsages"

README = f"""\
Client certificates for the Mendix buildpack

{CERTIFICATES}.json holds the value of {CERTIFICATES}; environment.env holds every variable.
Both hold private keys and their passwords: keep them from everybody but the app.

Cloud Foundry: cf set-env APP {CERTIFICATES} "$(cat {CERTIFICATES}.json)", then cf restart APP.
Docker Compose: name environment.env under env_file, then recreate the container.
A shell: set -a; . ./environment.env

{{never}}
The variables are read when the app starts.
"""


class BuildpackEnv:
    """Environment variables for the buildpack."""

    kind = "buildpack-env"
    title = "Mendix buildpack variables"
    description = "CLIENT_CERTIFICATES for Cloud Foundry and for Docker images built with the Mendix buildpack."

    def export(self, content: Content, pfx: Mapping[str, WrittenPfx]) -> Bundle:
        """Writes `CLIENT_CERTIFICATES.json`, `environment.env` and `README.txt`.

        *Never send* cannot be said in `pin_to`, so it goes to NoClientCertificateUsages, which is documented for hosts
        and services. Raises ExportError for an identifier that is never sent one, and for more than a variable holds.
        """
        never = sorted(pin.key for pin in content.pins if pin.slug is None)
        if identifiers := sorted(pin.key for pin in content.pins if pin.slug is None and pin.kind == IDENTIFIER):
            raise ExportError(
                f"The buildpack's variables can say never send for hosts and services only; "
                f"pin the host instead of the identifier {identifiers[0]}."
            )
        value = as_json(
            content,
            {slug: base64.b64encode(one.pfx).decode("ascii") for slug, one in pfx.items()},
            {slug: one.password for slug, one in pfx.items()},
        )
        masked = as_json(
            content,
            {slug: f"MII… ({count(len(one.pfx), 'byte')})" for slug, one in pfx.items()},
            dict.fromkeys(pfx, MASKED_PASSWORD),
            readable=True,
        )
        for name, text in ((CERTIFICATES, value), (NEVER, ",".join(never))):
            if (length := len(f"{name}={text}") + 1) > LONGEST_VARIABLE:
                raise ExportError(
                    f"{name} would have {count(length, 'byte')}, and Linux starts no app with a variable above "
                    f"{LONGEST_VARIABLE:,}; disable certificates or pins, or export settings and files."
                )
        readme = README.format(
            never=f"{NEVER} names what is never sent a certificate." if never else f"Unset {NEVER} if it is set."
        )
        files = (
            File(f"{CERTIFICATES}.json", f"{value}\n".encode()),
            File("environment.env", as_env(value, never).encode()),
            File("README.txt", readme.encode(), secret=False),
        )
        preview = {
            f"{CERTIFICATES}.json": f"{masked}\n",
            "environment.env": as_env(masked, never),
            "README.txt": readme,
        }
        return Bundle(files, preview)


def as_json(content: Content, pfx: Mapping[str, str], passwords: Mapping[str, str], *, readable: bool = False) -> str:
    """The array that the buildpack reads, in the order of the slots; `[]` for none, since "" stops its start.

    In ASCII with every special character as \\uXXXX, so that neither a shell, Compose nor a dotenv reader, each with
    its own idea of backslashes between single quotes, changes it. `readable` is for people only.
    """
    entries = [
        {
            "pfx": pfx[slot.slug],
            "password": passwords[slot.slug],
            "pin_to": sorted(pin.key for pin in content.pins if pin.slug == slot.slug),
        }
        for slot in content.slots
    ]
    text = json.dumps(entries, ensure_ascii=not readable, separators=(",", ":"))
    if readable:
        return text
    simple = {'\\"': "\\u0022", "\\\\": "\\u005c", "'": "\\u0027"}
    return re.sub(r"""\\["\\]|'""", lambda found: simple[found[0]], text)


def as_env(certificates: str, never: list[str]) -> str:
    """One `NAME='value'` a line."""
    lines = [f"{CERTIFICATES}='{certificates}'"]
    lines += [f"{NEVER}='{','.join(never)}'"] if never else []
    return "\n".join(lines) + "\n"
