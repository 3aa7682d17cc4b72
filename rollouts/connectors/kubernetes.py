"""An app that a Deployment runs on Kubernetes: its files in one Secret, a restart as `kubectl rollout restart` does it.

Follows kubernetes.io/docs/reference/kubernetes-api: Secret v1, Deployment apps/v1; and what rollouts/connectors/
cluster.py follows.

Each restart puts its time into the Pods' template, and so into each Pod that it makes: that tells one start from
another, also where somebody else restarts with kubectl. No Django here.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from certificates.content import Bundle, digest_of_files
from rollouts.connectors import Abilities, ConnectorError, Observation, Setting, folders, gettext_noop
from rollouts.connectors.cluster import REACHED_BY, Cluster, Refused, alive, how_many, is_ready, replicas

# concepts/configuration/secret.md: the size of one Secret, in bytes
LARGEST = 1024 * 1024
# What kubectl writes into the template of Pods.
RESTARTED = "kubectl.kubernetes.io/restartedAt"
OURS = {"app.kubernetes.io/managed-by": "countersign"}
# Keys of a Secret are made of letters, digits, "-", "_" and "."; this stands for "/".
SLASH = "__"


class Kubernetes(Cluster):
    """Settings: what it `asks` for."""

    title = gettext_noop("Kubernetes Deployment")
    asks = (
        *REACHED_BY,
        Setting("name", gettext_noop("Deployment")),
        Setting(
            "secret_name", gettext_noop("Secret"),
            help=gettext_noop("Written by Countersign alone; the Deployment mounts it."),
        ),
    )  # fmt: skip
    exporters = ("pem-bundle", "mendix-settings", "m2ee-yaml", "pad-hocon", "java-keystore")
    what = "Deployment"
    kind = ("apps", "v1", "deployments")
    named = ("namespace", "name", "secret_name")

    def __init__(self, settings: Mapping[str, Any], order: int = 0) -> None:
        super().__init__(settings, order)
        self.secret = str(settings["secret_name"])
        self.secrets = f"/api/v1/namespaces/{self.space}/secrets"

    @staticmethod
    def able(settings: Mapping[str, Any]) -> Abilities:
        return Abilities(
            gettext_noop("The Secret is read back, and every Pod was made after the delivery; Pods report no digest."),
            restarts=True,
        )

    def deliver(self, bundle: Bundle) -> None:
        """Replaces the Secret as a whole, and only as it was when it was read."""
        folders.refuse_bad_paths(bundle)
        data = {_key(file.path): base64.b64encode(file.content).decode("ascii") for file in bundle.files}
        if sum(len(file.content) for file in bundle.files) > LARGEST:
            raise ConnectorError("The export has more than 1 MiB, which is the most that a Secret holds; disable some.")
        for last in (False, True):
            there = self._secret_there()
            if there is not None and dict(there.get("data") or {}) == data:
                return
            wanted = {
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
                "metadata": {"name": self.secret, "namespace": self.space, "labels": OURS},
            }  # fmt: skip
            try:
                if there is None:
                    self._asked("POST", self.secrets, wanted)
                else:
                    meta = there["metadata"]
                    kept = {**OURS, **(meta.get("labels") or {})}
                    wanted["metadata"] = {
                        "name": self.secret, "namespace": self.space, "labels": kept,
                        "annotations": meta.get("annotations") or {}, "resourceVersion": meta.get("resourceVersion"),
                    }  # fmt: skip
                    self._asked("PUT", f"{self.secrets}/{self.secret}", wanted)
                return
            except Refused as error:
                # Somebody else wrote it meanwhile: it is read once more.
                if error.status != 409 or last:
                    raise

    def delivered_digest(self) -> str:
        there = self._secret_there()
        data = dict(there.get("data") or {}) if there else {}
        try:
            return digest_of_files(
                (key.replace(SLASH, "/"), base64.b64decode(value, validate=True)) for key, value in data.items()
            )
        except (binascii.Error, ValueError, TypeError):
            raise ConnectorError(f"The Secret {self.secret} is not as the cluster writes them; look at it.") from None

    def restart(self) -> None:
        if replicas(self._found()):
            self._patch(self._anew())
        else:
            self.start()

    reload = restart

    # --- Its parts ---

    def _anew(self) -> dict[str, Any]:
        """What makes new Pods: another time in their template."""
        return {"template": {"metadata": {"annotations": {RESTARTED: datetime.now(UTC).isoformat()}}}}

    def _selector(self, found: Mapping[str, Any]) -> Mapping[str, str]:
        return (found["spec"].get("selector") or {}).get("matchLabels") or {}

    def _seen(self, found: Mapping[str, Any], pods: list[dict[str, Any]]) -> Observation:
        wanted, newest = replicas(found), _restarted(found["spec"].get("template") or {})
        if not wanted:
            ending = f"{len(pods)} Pods are still ending." if pods else ""
            return Observation("starting", _restarted(pods[0]), note=ending) if pods else Observation("stopped")
        pods = alive(pods)
        old = [pod for pod in pods if _restarted(pod) != newest]
        ready = [pod for pod in pods if _restarted(pod) == newest and is_ready(pod)]
        status = found.get("status") or {}
        noticed = int(status.get("observedGeneration") or 0) >= int(found["metadata"].get("generation") or 0)
        if noticed and not old and len(ready) == len(pods) >= wanted:
            return Observation("running", newest)
        return Observation("starting", _restarted(old[0]) if old else newest, note=how_many(len(ready), wanted, pods))

    def _needed(self) -> tuple[tuple[str, str, str, str], ...]:
        return (
            ("get", "", "secrets", self.secret),
            ("update", "", "secrets", self.secret),
            ("create", "", "secrets", ""),
            ("patch", "apps", "deployments", self.name),
            ("list", "", "pods", ""),
        )

    def _secret_there(self) -> dict[str, Any] | None:
        """None where there is none. Raises ConnectorError for one that somebody else has made."""
        try:
            there = self._asked("GET", f"{self.secrets}/{self.secret}")
        except Refused as error:
            if error.status == 404:
                return None
            raise
        labels = (there.get("metadata") or {}).get("labels") or {}
        if any(labels.get(name) != value for name, value in OURS.items()):
            raise ConnectorError(
                f"The Secret {self.secret} is not Countersign's; name another one, or give it the label "
                "app.kubernetes.io/managed-by=countersign."
            )
        return there


def _key(path: str) -> str:
    """A file's path as a key of a Secret, and back by replacing SLASH."""
    key = path.replace("/", SLASH)
    if SLASH in path or not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key):
        raise ConnectorError(f"The file {path[:80]!r} cannot be named in a Secret; rename its certificate.")
    return key


def _restarted(pod: Mapping[str, Any]) -> str:
    """When it was restarted last, of a Pod or its template."""
    return str(((pod.get("metadata") or {}).get("annotations") or {}).get(RESTARTED) or "before")[:64]
