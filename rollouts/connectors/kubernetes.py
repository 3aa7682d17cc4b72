"""An app that a Deployment runs on Kubernetes: its files in one Secret, a restart as `kubectl rollout restart` does it.

Follows kubernetes.io/docs/reference/kubernetes-api: Secret v1, Pod v1, Deployment apps/v1, SelfSubjectAccessReview
authorization.k8s.io/v1, Status meta/v1; JSON Merge Patch (RFC 7386).

Each restart puts its time into the Pods' template, and so into each Pod that it makes: that tells one start from
another, also where somebody else restarts with kubectl. No Django here.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from certificates.content import Bundle, digest_of_files
from rollouts import exchange
from rollouts.connectors import (
    Abilities,
    ConnectorError,
    NotYet,
    Observation,
    Setting,
    Tick,
    all_right,
    folders,
    gettext_noop,
    stepwise,
)
from rollouts.outbound import Door

ASK_LIMIT = 4.0
# concepts/configuration/secret.md: the size of one Secret, in bytes
LARGEST = 1024 * 1024
# What kubectl writes into the template of Pods, and what we write beside it.
RESTARTED = "kubectl.kubernetes.io/restartedAt"
REPLICAS = "countersign.io/replicas"
OURS = {"app.kubernetes.io/managed-by": "countersign"}
# Keys of a Secret are made of letters, digits, "-", "_" and "."; this stands for "/".
SLASH = "__"
MERGE = "application/merge-patch+json"
# RFC 1123, as names of objects are.
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
# More Pods than this are not one app.
PODS = 500


class Refused(ConnectorError):
    """The cluster said no, with this status."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Kubernetes:
    """Settings: what it `asks` for."""

    title = gettext_noop("Kubernetes Deployment")
    asks = (
        Setting("api", gettext_noop("Address of the cluster"), "address", help=gettext_noop("https://host:6443")),
        Setting(
            "authorities", gettext_noop("Authority of the cluster (PEM)"), "long", required=False,
            help=gettext_noop("certificate-authority-data of a kubeconfig, decoded."),
        ),
        Setting("token", gettext_noop("Token of a service account"), "secret"),
        Setting("namespace", gettext_noop("Namespace")),
        Setting("name", gettext_noop("Deployment")),
        Setting(
            "secret_name", gettext_noop("Secret"),
            help=gettext_noop("Written by Countersign alone; the Deployment mounts it."),
        ),
    )  # fmt: skip
    exporters = ("pem-bundle", "mendix-settings", "m2ee-yaml", "pad-hocon", "java-keystore")

    def __init__(self, settings: Mapping[str, Any], order: int = 0) -> None:
        self.names(settings)
        self.token = str(settings.get("token") or "").strip()
        if not re.fullmatch(r"[!-~]*", self.token):
            raise ConnectorError("The token has characters that no token has; enter it again.")
        self.name, self.secret, self.space = (str(settings[n]) for n in ("name", "secret_name", "namespace"))
        self.peer = exchange.Peer(
            str(settings["api"]), settings.get("door", Door(())), str(settings.get("authorities") or ""), ASK_LIMIT
        )
        self.secrets = f"/api/v1/namespaces/{self.space}/secrets"
        self.deployment = f"/apis/apps/v1/namespaces/{self.space}/deployments/{self.name}"

    @staticmethod
    def able(settings: Mapping[str, Any]) -> Abilities:
        return Abilities(
            gettext_noop("The Secret is read back, and every Pod was made after the delivery; Pods report no digest."),
            restarts=True,
        )

    @staticmethod
    def names(settings: Mapping[str, Any]) -> tuple[str, str]:
        api = str(settings.get("api") or "")
        try:
            exchange.read_address(api)
        except ValueError as error:
            raise ConnectorError(str(error)) from None
        for name in ("namespace", "name", "secret_name"):
            if not NAME.fullmatch(str(settings.get(name) or "")):
                given = str(settings.get(name) or "")[:60]
                raise ConnectorError(f"“{given}” is no name on Kubernetes; use small letters, digits and hyphens.")
        host, space, name = urlsplit(api).netloc.lower(), settings["namespace"], settings["name"]
        return f"{host}/{space}/{name}", f"Deployment {name} in {space} on {host}"

    def check(self) -> str:
        return [tick.result for tick in all_right(self.ticks())][-1]

    def ticks(self) -> Iterator[Tick]:
        return stepwise(
            (gettext_noop("Reach the cluster"), self._reach),
            (gettext_noop("Sign in"), self._sign_in),
            (gettext_noop("Read the status"), self._status_in_words),
            (gettext_noop("May deliver and restart"), self._may),
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

    def start(self) -> None:
        found = self._found()
        if _replicas(found):
            return
        kept = str((found["metadata"].get("annotations") or {}).get(REPLICAS) or "")
        # As it was when it was read: of several that start it at once, one does.
        as_read = {"resourceVersion": found["metadata"].get("resourceVersion")}
        try:
            self._patch({"replicas": int(kept) if re.fullmatch(r"[1-9][0-9]{0,3}", kept) else 1, **_anew()}, as_read)
        except Refused as error:
            if error.status != 409 or not _replicas(self._found()):
                raise

    def stop(self) -> None:
        found = self._found()
        if wanted := _replicas(found):
            self._patch({"replicas": 0}, {"annotations": {REPLICAS: str(wanted)}})
        if self._pods(found):
            raise NotYet("Kubernetes is still ending the Pods.")

    def restart(self) -> None:
        if _replicas(self._found()):
            self._patch(_anew())
        else:
            self.start()

    reload = restart

    def observe(self) -> Observation:
        try:
            found = self._found()
            return self._seen(found, self._pods(found))
        except ConnectorError as error:
            return Observation("unreachable", note=str(error))

    # --- Its parts ---

    def _seen(self, found: Mapping[str, Any], pods: list[dict[str, Any]]) -> Observation:
        wanted, newest = _replicas(found), _restarted(found["spec"].get("template") or {})
        if not wanted:
            ending = f"{len(pods)} Pods are still ending." if pods else ""
            return Observation("starting", _restarted(pods[0]), note=ending) if pods else Observation("stopped")
        alive = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        old = [pod for pod in alive if _restarted(pod) != newest]
        ready = [pod for pod in alive if _restarted(pod) == newest and _is_ready(pod)]
        status = found.get("status") or {}
        noticed = int(status.get("observedGeneration") or 0) >= int(found["metadata"].get("generation") or 0)
        if noticed and not old and len(ready) == len(alive) >= wanted:
            return Observation("running", newest)
        why = next((reason for pod in alive if (reason := _why_not(pod))), "")
        note = f"{len(ready)} of {wanted} Pods run as they should. {why}".strip()
        return Observation("starting", _restarted(old[0]) if old else newest, note=note[:300])

    def _found(self) -> dict[str, Any]:
        found = self._asked("GET", self.deployment)
        if not isinstance(found.get("spec"), dict) or not isinstance(found.get("metadata"), dict):
            raise ConnectorError(f"{self.peer.name} answers, but not as the API of Kubernetes does.")
        return found

    def _pods(self, found: Mapping[str, Any]) -> list[dict[str, Any]]:
        labels = (found["spec"].get("selector") or {}).get("matchLabels") or {}
        selector = quote(",".join(f"{name}={value}" for name, value in sorted(labels.items())), safe="")
        listed = self._asked("GET", f"/api/v1/namespaces/{self.space}/pods?labelSelector={selector}&limit={PODS}")
        items = listed.get("items")
        return [pod for pod in items if isinstance(pod, dict)] if isinstance(items, list) and labels else []

    def _patch(self, spec: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
        self._asked("PATCH", self.deployment, {"spec": dict(spec), "metadata": dict(metadata or {})}, MERGE)

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

    def _reach(self) -> str:
        try:
            answer = self.peer.ask("GET", "/version", headers=self._headers())
        except exchange.Failed as error:
            raise ConnectorError(str(error)) from None
        version = answer.object().get("gitVersion")
        # A cluster may keep its version from strangers; that it answers is what counts here.
        return f"{self.peer.name}" + (f", Kubernetes {str(version)[:40]}" if version else "")

    def _sign_in(self) -> str:
        self._review("get", "apps", "deployments", self.name)
        return "The token is known."

    def _status_in_words(self) -> str:
        seen = self.observe()
        if seen.status == "unreachable":
            raise ConnectorError(seen.note)
        return f"The Deployment {self.name} is {seen.status}."

    def _may(self) -> str:
        needed = (
            ("get", "", "secrets", self.secret),
            ("update", "", "secrets", self.secret),
            ("create", "", "secrets", ""),
            ("patch", "apps", "deployments", self.name),
            ("list", "", "pods", ""),
        )
        missing = [f"{verb} {kind}" for verb, group, kind, name in needed if not self._review(verb, group, kind, name)]
        if missing:
            raise ConnectorError(f"This token may not {', '.join(missing)} in {self.space}; grant it in a Role.")
        return "It may write the Secret and restart the Deployment."

    def _review(self, verb: str, group: str, kind: str, name: str) -> bool:
        """Whether the token may do that, without doing it."""
        what = {"namespace": self.space, "verb": verb, "group": group, "resource": kind, "name": name}
        answered = self._asked(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": what},
            },
        )
        return (answered.get("status") or {}).get("allowed") is True

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _asked(
        self, method: str, path: str, given: Mapping[str, Any] | None = None, kind: str = "application/json"
    ) -> dict[str, Any]:
        body = json.dumps(given).encode() if given is not None else None
        try:
            answer = self.peer.ask(method, path, headers={**self._headers(), "Content-Type": kind}, body=body)
        except exchange.Failed as error:
            raise ConnectorError(str(error)) from None
        if not answer.is_ok:
            raise Refused(answer.status, _sentence(answer, self.space))
        if not (found := answer.object()):
            raise ConnectorError(f"{self.peer.name} answers, but not as the API of Kubernetes does.")
        return found


def _key(path: str) -> str:
    """A file's path as a key of a Secret, and back by replacing SLASH."""
    key = path.replace("/", SLASH)
    if SLASH in path or not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key):
        raise ConnectorError(f"The file {path[:80]!r} cannot be named in a Secret; rename its certificate.")
    return key


def _anew() -> dict[str, Any]:
    """What makes new Pods: another time in their template."""
    return {"template": {"metadata": {"annotations": {RESTARTED: datetime.now(UTC).isoformat()}}}}


def _replicas(found: Mapping[str, Any]) -> int:
    wanted = found["spec"].get("replicas", 1)
    return wanted if isinstance(wanted, int) else 1


def _restarted(pod: Mapping[str, Any]) -> str:
    """When it was restarted last, of a Pod or its template."""
    return str(((pod.get("metadata") or {}).get("annotations") or {}).get(RESTARTED) or "before")[:64]


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _why_not(pod: Mapping[str, Any]) -> str:
    """Why a container of the Pod does not come up, in the cluster's own words."""
    for one in (pod.get("status") or {}).get("containerStatuses") or []:
        waiting = (one.get("state") or {}).get("waiting") or {}
        ended = (one.get("lastState") or {}).get("terminated") or (one.get("state") or {}).get("terminated") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            words = [waiting.get("reason"), ended.get("message") or waiting.get("message")]
            return ": ".join("".join(c for c in str(word) if c.isprintable()) for word in words if word)[:200] + "."
    return ""


def _sentence(answer: exchange.Answer, space: str) -> str:
    if answer.status == 401:
        return "The cluster does not know this token; enter a new one under Settings."
    words = exchange.said(answer)
    if answer.status == 403:
        return f"The cluster does not allow that: {words}." if words else "The cluster does not allow that."
    if answer.status == 404:
        return f"The cluster has no such object in {space}: {words}."
    if answer.status == 409:
        return "Somebody else changes it at the same time; apply again."
    return f"The cluster refused it ({answer.status})" + (f": {words}." if words else ".")
