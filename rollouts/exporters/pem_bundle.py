"""`pem-bundle`: key, certificate and chain of each certificate as PEM, with what nginx, curl and programs need of them.

Follows nginx's ngx_http_proxy_module (proxy_ssl_certificate, which takes variables from 1.21.0 on, and sends nothing
where they are empty) and curl's manual (--cert, --key, --cacert). Run with Debian's nginx and curl.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping

from certificates.content import Bundle, Content, File, PinnedTarget, WrittenPfx
from certificates.pem import armoured as pem
from rollouts.exporters import MASKED_PASSWORD, ExportError, count
from rollouts.exporters.folders import Folder, base_folder, safe_name

README = """\
Client certificates as PEM files

Put this folder's contents in {folder}, readable only by the account that uses them:
key.pem holds a private key without a password.

<name>/key.pem           the private key (PKCS #8)
<name>/certificate.pem   its certificate
<name>/chain.pem         the certificates above it, from its issuer on
<name>/fullchain.pem     both, as most programs want them
targets.json             which host is sent which, with the paths; null for “never send a certificate”

nginx 1.21 or newer: include {nginx} inside http {{ }}, and in each location that
passes requests on:
    proxy_pass https://api.example.com;
    proxy_ssl_server_name on;
    proxy_ssl_certificate $client_certificate;
    proxy_ssl_certificate_key $client_certificate_key;{trust}
Then nginx -t, and reload it. A host that is not pinned is sent nothing.

curl: curl.txt has a line for each host.
"""
TRUST = """
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate {path};"""


class PemBundle:
    """PEM files with an nginx snippet, curl lines and a map for programs."""

    kind = "pem-bundle"
    title = "PEM files (nginx, curl, programs)"
    description = "Key, certificate and chain of each certificate, with a snippet for nginx and lines for curl."
    dialect = "nginx"
    needs_folder = True
    one_password = False

    def spelled(self, pin: PinnedTarget, folder: str) -> str:
        path = "" if pin.slug is None else f"{folder.rstrip('/')}/{safe_name(pin.slug)}/fullchain.pem"
        return f'{pattern(pin.key)} "{path}";'

    def export(self, content: Content, pfx: Mapping[str, WrittenPfx], authorities: Mapping[str, bytes]) -> Bundle:
        """Writes a folder for each certificate, `authorities.pem`, `nginx-client-certificates.conf`, `curl.txt`,
        `targets.json` and `README.txt`. Raises ExportError for a base folder that is none of a POSIX system."""
        folder = base_folder(content.base_folder)
        if folder.separator != "/" or re.search(r'["\\$]', folder.path):
            raise ExportError(
                'nginx and curl need a folder from the root and without " \\ $, like /etc/nginx/client-certificates; '
                "correct the base folder."
            )
        files, preview = [], {}
        for slot in content.slots:
            identity = pfx[slot.slug].identity
            parts = {"key": "", "certificate": "", "chain": "", "fullchain": ""}
            if identity is not None:
                chain = "".join(map(pem, identity.chain))
                leaf = pem(identity.certificate)
                parts = {
                    "key": pem(identity.key, "PRIVATE KEY"),
                    "certificate": leaf,
                    "chain": chain,
                    "fullchain": leaf + chain,
                }
            above = len(slot.chain)
            shown = {
                "key": f"-----BEGIN PRIVATE KEY-----\n{MASKED_PASSWORD}\n-----END PRIVATE KEY-----\n",
                "certificate": "(1 certificate)\n",
                "chain": f"({count(above, 'certificate')})\n",
                "fullchain": f"({count(1 + above, 'certificate')})\n",
            }
            for part, text in parts.items():
                path = f"{safe_name(slot.slug)}/{part}.pem"
                files.append(File(path, text.encode(), secret=part == "key"))
                preview[path] = shown[part]
        texts = {}
        if content.authorities:
            texts["authorities.pem"] = "".join(pem(authorities[one]) for one in content.authorities)
        texts |= {
            "nginx-client-certificates.conf": nginx(content, folder),
            "curl.txt": curl(content, folder),
            "targets.json": targets(content, folder),
            "README.txt": README.format(
                folder=folder.path,
                nginx=folder.join("nginx-client-certificates.conf"),
                trust=TRUST.format(path=folder.join("authorities.pem")) if content.authorities else "",
            ),
        }
        files += [File(path, text.encode(), secret=False) for path, text in texts.items()]
        return Bundle(tuple(files), preview | texts)


def nginx(content: Content, folder: Folder) -> str:
    """Two maps from the server that a request is passed on to, which nginx calls $proxy_host: the host, and its port
    where it is not the scheme's own."""
    lines = ["# Which client certificate is sent to which host. Include this inside http { }."]
    for variable, file in (("client_certificate", "fullchain.pem"), ("client_certificate_key", "key.pem")):
        lines.append(f"map $proxy_host ${variable} {{")
        lines.append('    default "";')
        for pin in sorted(content.pins, key=lambda pin: pin.key):
            path = "" if pin.slug is None else folder.join(f"{safe_name(pin.slug)}/{file}")
            lines.append(f'    {pattern(pin.key)} "{path}";')
        lines.append("}")
    return "\n".join([*lines, ""])


def pattern(host: str) -> str:
    """The host with any port, in nginx's notation of a regular expression; of what a host has, only dots mean more."""
    return f'"~^{host.replace(".", chr(92) + ".")}(:[0-9]+)?$"'


def curl(content: Content, folder: Folder) -> str:
    """A line for a shell for each pinned host."""
    trust = f" --cacert {shlex.quote(folder.join('authorities.pem'))}" if content.authorities else ""
    lines = []
    for pin in sorted(content.pins, key=lambda pin: pin.key):
        sent = ""
        if pin.slug is not None:
            paths = (folder.join(f"{safe_name(pin.slug)}/{part}.pem") for part in ("fullchain", "key"))
            sent = " --cert {} --key {}".format(*map(shlex.quote, paths))
        lines.append(f"curl{sent}{trust} https://{pin.key}/\n")
    return "".join(lines)


def targets(content: Content, folder: Folder) -> str:
    """JSON: each host with the paths of what it is sent, or null for *never*."""
    found = {
        pin.key: None
        if pin.slug is None
        else {
            "certificate": folder.join(f"{safe_name(pin.slug)}/fullchain.pem"),
            "key": folder.join(f"{safe_name(pin.slug)}/key.pem"),
        }
        for pin in sorted(content.pins, key=lambda pin: pin.key)
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"
