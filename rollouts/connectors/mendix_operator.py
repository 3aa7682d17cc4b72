"""An app that the Mendix operator runs on Kubernetes: the certificates stand in its MendixApp, and the operator
restarts the app when they change.

Follows mendix/docs deployment/private-cloud: private-cloud-operator.md (spec.replicas, spec.runtime.clientCertificates
and customConfiguration, a JSON object in a text; 0 replicas stop the app), private-cloud-technical-appendix-01.md (only
the MendixApp may be changed) and reduced-downtime-deployment.md (labels of the Pods; one by one or all at once); and
what rollouts/connectors/cluster.py follows.

The list of certificates is ours; of customConfiguration only NoClientCertificateUsages is, and the rest stays as it is.
No Django here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from certificates.content import Bundle, digest_of_files
from rollouts.connectors import Abilities, ConnectorError, Observation, Setting, folders, gettext_noop
from rollouts.connectors.cluster import MERGE, REACHED_BY, Cluster, Refused, alive, how_many, is_ready, replicas

FILE = "mendixapp-patch.yaml"
NEVER = "NoClientCertificateUsages"
# Beside the app: the digest of what was delivered with a mark of what it became, and what stood there before us.
DELIVERED, BEFORE = "countersign.io/delivered", "countersign.io/before"
# kubernetes.io/docs/concepts/overview/working-with-objects/annotations: 256 KiB for all of them; some are others'.
LARGEST = 200 * 1024
LABELS = {"privatecloud.mendix.com/component": "mendix-app"}
APP = "privatecloud.mendix.com/app"
# What a Deployment's controller writes on each Pod: which template it was made from.
TEMPLATE = "pod-template-hash"


class MendixOperator(Cluster):
    """Settings: what it `asks` for."""

    title = gettext_noop("Mendix on Kubernetes (MendixApp)")
    asks = (
        *REACHED_BY,
        Setting("name", "MendixApp", help=gettext_noop("kubectl get mendixapps -n NAMESPACE lists them.")),
    )
    exporters = ("mendix-operator",)
    what = "MendixApp"
    kind = ("privatecloud.mendix.com", "v1alpha1", "mendixapps")

    @staticmethod
    def able(settings: Mapping[str, Any]) -> Abilities:
        return Abilities(
            gettext_noop("The MendixApp is read back, and every Pod was made after it; Pods report no digest."),
            delivery_restarts=True,
            keeps_what_was=True,
        )

    def deliver(self, bundle: Bundle) -> None:
        """Changes the MendixApp as it was when it was read.

        What stood there before the first delivery is kept beside it, and comes back with an empty bundle: that is what
        a failed first apply goes back to. It goes with the second delivery.
        """
        folders.refuse_bad_paths(bundle)
        wanted = _wanted(bundle)
        for last in (False, True):
            found = self._found()
            patch = self._patch_for(found, bundle, wanted)
            if patch is None:
                return
            patch["metadata"]["resourceVersion"] = found["metadata"].get("resourceVersion")
            try:
                self._asked("PATCH", self.object, patch, MERGE)
                return
            except Refused as error:
                # Somebody else changed it meanwhile: it is read once more.
                if error.status != 409 or last:
                    raise

    def delivered_digest(self) -> str:
        found = self._found()
        kept = _annotations(found).get(DELIVERED)
        if kept is None:
            return digest_of_files([])  # what is there, if anything, was put there by others
        digest, _blank, mark = kept.partition(" ")
        there = _mark(_there(found))
        return digest if mark == there else hashlib.sha256(there.encode()).hexdigest()

    def reload(self) -> None:
        raise ConnectorError("The operator restarts the app by itself for what is delivered.")

    restart = reload

    # --- Its parts ---

    def _patch_for(
        self, found: Mapping[str, Any], bundle: Bundle, wanted: tuple[list[Any], str]
    ) -> dict[str, Any] | None:
        """What changes; None if nothing does."""
        annotations, there = _annotations(found), _there(found)
        is_first, is_empty = DELIVERED not in annotations, not bundle.files
        if is_first and is_empty:
            return None
        kept = annotations.get(BEFORE)
        if is_first:
            kept = json.dumps(there) if any(there) else None
            if kept and len(kept) > LARGEST:
                raise ConnectorError(
                    "What stands in the MendixApp is too much to be kept beside it; take out what is not used any more."
                )
        elif is_empty:
            wanted, kept = _originals(kept), None
        elif not annotations[DELIVERED].startswith(bundle.digest):
            kept = None
        delivered = None if is_empty else f"{bundle.digest} {_mark(wanted)}"
        if there == wanted and (annotations.get(DELIVERED), annotations.get(BEFORE)) == (delivered, kept):
            return None
        certificates, never = wanted
        runtime: dict[str, Any] = {"clientCertificates": certificates or None}
        if never != there[1]:
            runtime["customConfiguration"] = _with(_custom(found), never)
        return {"metadata": {"annotations": {DELIVERED: delivered, BEFORE: kept}}, "spec": {"runtime": runtime}}

    def _selector(self, found: Mapping[str, Any]) -> Mapping[str, str]:
        return {APP: self.name, **LABELS}

    def _seen(self, found: Mapping[str, Any], pods: list[dict[str, Any]]) -> Observation:
        """A start is told from another by the oldest of its Pods, and by the template of all of them."""
        wanted = replicas(found)
        if not wanted:
            ending = f"{len(pods)} Pods are still ending." if pods else ""
            return Observation("starting", _start_of(pods), note=ending) if pods else Observation("stopped")
        pods = alive(pods)
        ready = [pod for pod in pods if is_ready(pod)]
        if len({_template(pod) for pod in pods}) == 1 and len(ready) == len(pods) >= wanted:
            return Observation("running", _start_of(pods))
        return Observation("starting", _start_of(pods), note=how_many(len(ready), wanted, pods))

    def _needed(self) -> tuple[tuple[str, str, str, str], ...]:
        group, _version, plural = self.kind
        return (("get", group, plural, self.name), ("patch", group, plural, self.name), ("list", "", "pods", ""))


def _wanted(bundle: Bundle) -> tuple[list[Any], str]:
    """The certificates of the bundle, and the names that get none. Raises ConnectorError for one of another kind."""
    if not bundle.files:
        return [], ""
    content = next((file.content for file in bundle.files if file.path == FILE), b"")
    try:
        runtime = yaml.load(content, Loader=yaml.CSafeLoader)["spec"]["runtime"]
        certificates = runtime.get("clientCertificates") or []
        never = json.loads(runtime.get("customConfiguration") or "{}").get(NEVER, "")
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError):
        certificates, never = None, None
    if not isinstance(certificates, list) or not isinstance(never, str):
        raise ConnectorError("The operator takes the export “Mendix on Kubernetes”; choose it under Settings.")
    return certificates, never


def _there(found: Mapping[str, Any]) -> tuple[list[Any], str]:
    """What of ours stands in a MendixApp."""
    certificates = (found["spec"].get("runtime") or {}).get("clientCertificates") or []
    never = _custom(found).get(NEVER, "")
    return certificates if isinstance(certificates, list) else [certificates], str(never)


def _custom(found: Mapping[str, Any]) -> dict[str, Any]:
    text = (found["spec"].get("runtime") or {}).get("customConfiguration") or "{}"
    try:
        custom = json.loads(text)
    except (ValueError, TypeError):
        custom = None
    if not isinstance(custom, dict):
        raise ConnectorError("customConfiguration in the MendixApp is no JSON object; correct it there first.")
    return custom


def _with(custom: Mapping[str, Any], never: str) -> str | None:
    """customConfiguration with these names in it, or without; None where nothing is left."""
    others = {name: value for name, value in custom.items() if name != NEVER}
    all_of_it = {**others, NEVER: never} if never else others
    return json.dumps(all_of_it, ensure_ascii=False) if all_of_it else None


def _originals(kept: str | None) -> tuple[list[Any], str]:
    """What stood there before the first delivery."""
    try:
        certificates, never = json.loads(kept or '[[], ""]')
    except (ValueError, TypeError):
        return [], ""
    return (certificates, str(never)) if isinstance(certificates, list) else ([], "")


def _mark(there: tuple[list[Any], str]) -> str:
    return hashlib.sha256(json.dumps(there, sort_keys=True).encode()).hexdigest()


def _annotations(found: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in (found["metadata"].get("annotations") or {}).items()}


def _template(pod: Mapping[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get(TEMPLATE) or "")


def _start_of(pods: list[dict[str, Any]]) -> str:
    if not pods:
        return ""
    oldest = min(pods, key=lambda pod: (str(pod["metadata"].get("creationTimestamp")), str(pod["metadata"].get("uid"))))
    return f"{_template(oldest)} {oldest['metadata'].get('uid')}"[:64]
