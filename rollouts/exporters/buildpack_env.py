"""`buildpack-env`: environment variables for the Mendix Cloud Foundry buildpack and the Docker images around it.

Follows mendix/cf-mendix-buildpack, README "Client Certificates" and buildpack/core/security.py (v5.0.31), not run.
The base folder is not used: the buildpack writes the PFX files itself.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence

from certificates.content import Bundle, Content, File, PinnedTarget, WrittenPfx
from certificates.pem import armoured as pem
from rollouts.exporters import MASKED_PASSWORD, ExportError, count
from rollouts.exporters.mendix import never

# execve(2): one string of the environment, with its name and the final NUL, has at most 32 pages of 4 KiB on Linux.
LONGEST_VARIABLE = 32 * 4096
CERTIFICATES = "CLIENT_CERTIFICATES"
NEVER = "MXRUNTIME_NoClientCertificateUsages"

AUTHORITIES = "CERTIFICATE_AUTHORITIES"

README = f"""\
Client certificates for the Mendix buildpack

{CERTIFICATES}.json holds the value of {CERTIFICATES}; environment.env, variables.json and cf-set-env.sh
hold every variable, each for another tool. They hold private keys and their passwords: keep them from everybody
but the app.

Cloud Foundry: APP=name sh cf-set-env.sh, then cf restart $APP.
Docker Compose: name environment.env under env_file, then recreate the container.
A shell: set -a; . ./environment.env

{{unset}}
The variables are read when the app starts.
"""


class BuildpackEnv:
    """Environment variables for the buildpack."""

    kind = "buildpack-env"
    title = "Mendix buildpack variables"
    description = "CLIENT_CERTIFICATES for Cloud Foundry and for Docker images built with the Mendix buildpack."
    dialect = "mendix-buildpack"
    needs_folder = False
    one_password = False

    def spelled(self, pin: PinnedTarget, folder: str) -> str:
        if pin.slug is None:
            return f"{NEVER}={pin.key}"
        return json.dumps({"pin_to": [pin.key]}, ensure_ascii=False)

    def export(self, content: Content, pfx: Mapping[str, WrittenPfx], authorities: Mapping[str, bytes]) -> Bundle:
        """Writes `CLIENT_CERTIFICATES.json`, `environment.env`, `variables.json`, `cf-set-env.sh` and `README.txt`.

        *Never send* cannot be said in `pin_to`, so it goes to NoClientCertificateUsages, which is documented for hosts
        and services. Authorities are base64 of PEM, as the buildpack's README allows: no line breaks. Raises
        ExportError for more than a variable holds.
        """
        others = {}
        if content.authorities:
            text = "".join(pem(authorities[one]) for one in content.authorities)
            others[AUTHORITIES] = base64.b64encode(text.encode()).decode("ascii")
        if names := never(content):
            others[NEVER] = ",".join(names)
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
        for name, text in ({CERTIFICATES: value} | others).items():
            if (length := len(f"{name}={text}") + 1) > LONGEST_VARIABLE:
                raise ExportError(
                    f"{name} would have {count(length, 'byte')}, and Linux starts no app with a variable above "
                    f"{LONGEST_VARIABLE:,}; disable certificates or pins, or export settings and files."
                )
        unset = [name for name in (AUTHORITIES, NEVER) if name not in others]
        readme = README.format(
            unset=f"Unset {' and '.join(unset)} if set: nothing stands for them here." if unset else ""
        )
        texts = as_texts(value, others, unset)
        shown = as_texts(masked, others, unset)
        files = [File(path, text.encode()) for path, text in texts.items()]
        files.append(File("README.txt", readme.encode(), secret=False))
        return Bundle(tuple(files), {**shown, "README.txt": readme})


def as_texts(certificates: str, others: Mapping[str, str], unset: Sequence[str]) -> dict[str, str]:
    """The same variables for a program, for Compose and shells, as a JSON object, and as commands of the cf CLI.

    No value has a quotation mark of its own (`as_json`), so each stands between single ones.
    """
    variables = {CERTIFICATES: certificates, **others}
    lines = [f"cf set-env \"$APP\" {name} '{value}'" for name, value in variables.items()]
    lines += [f'cf unset-env "$APP" {name}' for name in unset]
    return {
        f"{CERTIFICATES}.json": f"{certificates}\n",
        "environment.env": "".join(f"{name}='{value}'\n" for name, value in variables.items()),
        "variables.json": json.dumps(variables, indent=2, ensure_ascii=False) + "\n",
        "cf-set-env.sh": "\n".join(["set -eu", *lines, ""]),
    }


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
