"""`kubernetes-secret`: one Secret with every PFX, its password and the map of targets, and one TLS Secret each.

Follows kubernetes/website, concepts/configuration/secret.md (types Opaque and kubernetes.io/tls, the limit of 1 MiB)
and concepts/overview/working-with-objects/names.md (RFC 1123 subdomains); parsed by PyYAML, not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from certificates.content import Bundle, Content, File, PinnedTarget, WrittenPfx
from certificates.pem import armoured as pem
from rollouts.exporters import MASKED_PASSWORD, ExportError, count
from rollouts.exporters.folders import safe_name
from rollouts.exporters.quoted_yaml import dump

ALL, EACH = "client-certificates.yaml", "client-certificates-tls.yaml"
LARGEST = 1024 * 1024
README = f"""\
Client certificates as Kubernetes Secrets

kubectl apply -n NAMESPACE -f {ALL}
kubectl apply -n NAMESPACE -f {EACH}

{ALL}: the Secret client-certificates. Mount it as a folder: <name>.pfx, <name>.password, and targets.json,
which maps each service, host or identifier to a name, or to null for “never send a certificate”.{{authorities}}
{EACH}: one Secret of the type kubernetes.io/tls for each certificate (tls.crt, tls.key).

A program reads them when it starts: restart its Pods. Delete these files afterwards; they hold private keys.
"""
AUTHORITIES = "\nca.crt holds the authorities to trust beside the usual ones."


class KubernetesSecret:
    """Secrets for `kubectl apply`."""

    kind = "kubernetes-secret"
    title = "Kubernetes Secrets"
    description = "One Secret with all PFX files and the map of targets, and one TLS Secret for each certificate."
    dialect = "kubernetes"
    needs_folder = False
    one_password = False

    def spelled(self, pin: PinnedTarget, folder: str) -> str:
        value = {"kind": pin.kind, "certificate": None if pin.slug is None else safe_name(pin.slug)}
        return json.dumps({pin.key: value}, ensure_ascii=False)

    def export(self, content: Content, pfx: Mapping[str, WrittenPfx], authorities: Mapping[str, bytes]) -> Bundle:
        """Writes `client-certificates.yaml`, `client-certificates-tls.yaml` and `README.txt`. Raises ExportError for
        more than a Secret holds."""
        public = {"targets.json": targets(content)}
        if content.authorities:
            public["ca.crt"] = "".join(pem(authorities[one]) for one in content.authorities).encode()
        data = dict(public)
        for slot in content.slots:
            name = safe_name(slot.slug)
            data |= {f"{name}.pfx": pfx[slot.slug].pfx, f"{name}.password": pfx[slot.slug].password.encode()}
        if (size := sum(map(len, data.values()))) > LARGEST:
            raise ExportError(
                f"The Secret would hold {count(size, 'byte')}, and Kubernetes keeps at most {LARGEST:,} in one; "
                "disable certificates, or spread them over several environments."
            )
        whole = secret("client-certificates", "Opaque", {key: b64(value) for key, value in data.items()})
        shown = {key: b64(value) for key, value in public.items()}
        for slot in content.slots:
            name = safe_name(slot.slug)
            size_of_one = count(len(pfx[slot.slug].pfx), "byte")
            shown |= {f"{name}.pfx": f"MII… ({size_of_one})", f"{name}.password": MASKED_PASSWORD}
        each, each_shown = [], []
        for slot in content.slots:
            name, identity = secret_name(slot.slug), pfx[slot.slug].identity
            if identity is not None:
                chain = "".join(map(pem, (identity.certificate, *identity.chain)))
                key = pem(identity.key, "PRIVATE KEY")
                each.append(secret(name, "kubernetes.io/tls", {"tls.crt": b64(chain), "tls.key": b64(key)}))
            parts = count(1 + len(slot.chain), "certificate")
            each_shown.append(secret(name, "kubernetes.io/tls", {"tls.crt": f"({parts})", "tls.key": MASKED_PASSWORD}))
        readme = README.format(authorities=AUTHORITIES if content.authorities else "")
        files = [File(ALL, as_yaml([whole]).encode()), File("README.txt", readme.encode(), secret=False)]
        preview = {ALL: as_yaml([secret("client-certificates", "Opaque", shown)]), "README.txt": readme}
        if content.slots:  # kubectl refuses a file with nothing in it
            files.append(File(EACH, as_yaml(each).encode()))
            preview[EACH] = as_yaml(each_shown)
        return Bundle(tuple(files), preview)


def targets(content: Content) -> bytes:
    """JSON: each key with its kind and the name of a certificate, or null for *never*."""
    pins = sorted(content.pins, key=lambda pin: pin.key)
    found = {
        pin.key: {"kind": pin.kind, "certificate": None if pin.slug is None else safe_name(pin.slug)} for pin in pins
    }
    return (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode()


def secret(name: str, kind: str, data: Mapping[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": dict(data)}


def secret_name(slug: str) -> str:
    """`client-certificate-partner-a`: a subdomain of RFC 1123. A strange slug is kept apart by a mark."""
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?", slug):
        return f"client-certificate-{slug}"
    mark = hashlib.sha256(slug.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"client-certificate-{re.sub(r'[^a-z0-9]+', '-', slug.lower())[:80].strip('-')}-{mark}".replace("--", "-")


def b64(value: bytes | str) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode("ascii")


def as_yaml(documents: list[dict[str, Any]]) -> str:
    """The resources, one document each; every text quoted."""
    return dump(*documents, start=True)
