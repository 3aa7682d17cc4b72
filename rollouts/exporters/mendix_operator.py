"""`mendix-operator`: a patch of the MendixApp resource, which the Mendix operator on Kubernetes obeys.

Follows mendix/docs, deployment/private-cloud/private-cloud-operator.md (spec.runtime.clientCertificates,
customConfiguration); parsed by PyYAML, not run. The resource takes keys inline only: it has no reference to a Secret.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from certificates.content import Bundle, Content, File, PinnedTarget, WrittenPfx
from rollouts.exporters import MASKED_PASSWORD, count
from rollouts.exporters.mendix import never
from rollouts.exporters.quoted_yaml import dump

NAME = "mendixapp-patch.yaml"
README = f"""\
Client certificates for an app that the Mendix operator runs on Kubernetes

kubectl patch mendixapp NAME -n NAMESPACE --type merge --patch-file {NAME}

The list of certificates in the resource is replaced by this one, and the operator restarts the app.
{{never}}
The resource then holds private keys and their passwords in base64: let only those read it who may have them.
Delete {NAME} afterwards.
"""
WITH_NEVER = """\
customConfiguration is one text and is replaced as a whole: if the resource has one already, add
NoClientCertificateUsages to it instead."""
WITHOUT_NEVER = """\
If customConfiguration in the resource has NoClientCertificateUsages, take it out: nothing is pinned to “never” here."""


class MendixOperator:
    """A patch for `kubectl patch mendixapp`."""

    kind = "mendix-operator"
    title = "Mendix on Kubernetes (MendixApp)"
    description = "A patch of the MendixApp resource, with the certificates in it."
    dialect = "mendix-operator"
    needs_folder = False
    one_password = False

    def spelled(self, pin: PinnedTarget, folder: str) -> str:
        if pin.slug is None:
            return json.dumps({"NoClientCertificateUsages": pin.key}, ensure_ascii=False)
        return f"pinTo: {json.dumps([pin.key], ensure_ascii=False)}"

    def export(self, content: Content, pfx: Mapping[str, WrittenPfx], authorities: Mapping[str, bytes]) -> Bundle:
        """Writes `mendixapp-patch.yaml` and `README.txt`."""
        keys = {slug: base64.b64encode(one.pfx).decode("ascii") for slug, one in pfx.items()}
        passwords = {slug: base64.b64encode(one.password.encode()).decode("ascii") for slug, one in pfx.items()}
        shown = {slug: f"MII… ({count(len(one.pfx), 'byte')})" for slug, one in pfx.items()}
        value = as_yaml(content, keys, passwords)
        masked = as_yaml(content, shown, dict.fromkeys(pfx, MASKED_PASSWORD))
        readme = README.format(never=WITH_NEVER if never(content) else WITHOUT_NEVER)
        files = (File(NAME, value.encode()), File("README.txt", readme.encode(), secret=False))
        return Bundle(files, {NAME: masked, "README.txt": readme})


def as_yaml(content: Content, keys: Mapping[str, str], passwords: Mapping[str, str]) -> str:
    """The merge patch; texts are quoted, since YAML 1.1 takes many for something else."""
    runtime: dict[str, Any] = {
        "clientCertificates": [
            {
                "key": keys[slot.slug],
                "password": passwords[slot.slug],
                "pinTo": sorted(pin.key for pin in content.pins if pin.slug == slot.slug),
            }
            for slot in content.slots
        ]
    }
    if names := never(content):
        runtime["customConfiguration"] = json.dumps({"NoClientCertificateUsages": ",".join(names)})
    return dump({"spec": {"runtime": runtime}})
