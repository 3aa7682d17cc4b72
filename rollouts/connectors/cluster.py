"""What the connectors to Kubernetes have in common: an object that has replicas, its Pods, and what a token may do.

Follows kubernetes.io/docs/reference/kubernetes-api: Pod v1, SelfSubjectAccessReview authorization.k8s.io/v1, Status
meta/v1; JSON Merge Patch (RFC 7386). No Django here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from rollouts import exchange
from rollouts.connectors import ConnectorError, NotYet, Observation, Setting, Tick, all_right, gettext_noop, stepwise
from rollouts.outbound import Door

ASK_LIMIT = 4.0
# How many replicas an app had that we stopped, kept beside it.
REPLICAS = "countersign.io/replicas"
MERGE = "application/merge-patch+json"
# RFC 1123, as names of objects are.
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
# More Pods than this are not one app.
PODS = 500

# What each of them asks for: where the cluster is, and who asks.
REACHED_BY = (
    Setting("api", gettext_noop("Address of the cluster"), "address", help=gettext_noop("https://host:6443")),
    Setting(
        "authorities", gettext_noop("Authority of the cluster (PEM)"), "long", required=False,
        help=gettext_noop("certificate-authority-data of a kubeconfig, decoded."),
    ),
    Setting("token", gettext_noop("Token of a service account"), "secret"),
    Setting("namespace", gettext_noop("Namespace")),
)  # fmt: skip


class Refused(ConnectorError):
    """The cluster said no, with this status."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Cluster:
    """An object `name` in `namespace` whose spec has replicas."""

    # What it is, for people, and where it is: API group, version, plural.
    what = ""
    kind = ("", "", "")
    # The settings that are names of objects.
    named: tuple[str, ...] = ("namespace", "name")

    def __init__(self, settings: Mapping[str, Any], order: int = 0) -> None:
        self.names(settings)
        self.token = str(settings.get("token") or "").strip()
        if not re.fullmatch(r"[!-~]*", self.token):
            raise ConnectorError("The token has characters that no token has; enter it again.")
        self.name, self.space = str(settings["name"]), str(settings["namespace"])
        self.peer = exchange.Peer(
            str(settings["api"]), settings.get("door", Door(())), str(settings.get("authorities") or ""), ASK_LIMIT
        )
        group, version, plural = self.kind
        self.object = f"/apis/{group}/{version}/namespaces/{self.space}/{plural}/{self.name}"

    @classmethod
    def names(cls, settings: Mapping[str, Any]) -> tuple[str, str]:
        api = str(settings.get("api") or "")
        try:
            exchange.read_address(api)
        except ValueError as error:
            raise ConnectorError(str(error)) from None
        for name in cls.named:
            if not NAME.fullmatch(str(settings.get(name) or "")):
                given = str(settings.get(name) or "")[:60]
                raise ConnectorError(f"“{given}” is no name on Kubernetes; use small letters, digits and hyphens.")
        host, space, name = urlsplit(api).netloc.lower(), settings["namespace"], settings["name"]
        return f"{host}/{space}/{name}", f"{cls.what} {name} in {space} on {host}"

    def check(self) -> str:
        return [tick.result for tick in all_right(self.ticks())][-1]

    def ticks(self) -> Iterator[Tick]:
        return stepwise(
            (gettext_noop("Reach the cluster"), self._reach),
            (gettext_noop("Sign in"), self._sign_in),
            (gettext_noop("Read the status"), self._status_in_words),
            (gettext_noop("May deliver and restart"), self._may),
        )

    def start(self) -> None:
        found = self._found()
        if replicas(found):
            return
        kept = str((found["metadata"].get("annotations") or {}).get(REPLICAS) or "")
        # As it was when it was read: of several that start it at once, one does.
        as_read = {"resourceVersion": found["metadata"].get("resourceVersion")}
        wanted = int(kept) if re.fullmatch(r"[1-9][0-9]{0,3}", kept) else 1
        try:
            self._patch({"replicas": wanted, **self._anew()}, as_read)
        except Refused as error:
            if error.status != 409 or not replicas(self._found()):
                raise

    def stop(self) -> None:
        found = self._found()
        if wanted := replicas(found):
            self._patch({"replicas": 0}, {"annotations": {REPLICAS: str(wanted)}})
        if self._pods(found):
            raise NotYet("Kubernetes is still ending the Pods.")

    def observe(self) -> Observation:
        try:
            found = self._found()
            return self._seen(found, self._pods(found))
        except ConnectorError as error:
            return Observation("unreachable", note=str(error))

    # --- What differs ---

    def _anew(self) -> dict[str, Any]:
        """What of the spec makes new Pods, beside its replicas."""
        return {}

    def _selector(self, found: Mapping[str, Any]) -> Mapping[str, str]:
        """The labels of its Pods."""
        raise NotImplementedError

    def _seen(self, found: Mapping[str, Any], pods: list[dict[str, Any]]) -> Observation:
        raise NotImplementedError

    def _needed(self) -> tuple[tuple[str, str, str, str], ...]:
        """The rights that it takes: verb, group, resource, name."""
        raise NotImplementedError

    # --- Its parts ---

    def _found(self) -> dict[str, Any]:
        found = self._asked("GET", self.object)
        if not isinstance(found.get("spec"), dict) or not isinstance(found.get("metadata"), dict):
            raise ConnectorError(f"{self.peer.name} answers, but not as the API of Kubernetes does.")
        return found

    def _pods(self, found: Mapping[str, Any]) -> list[dict[str, Any]]:
        labels = self._selector(found)
        selector = quote(",".join(f"{name}={value}" for name, value in sorted(labels.items())), safe="")
        listed = self._asked("GET", f"/api/v1/namespaces/{self.space}/pods?labelSelector={selector}&limit={PODS}")
        items = listed.get("items")
        return [pod for pod in items if isinstance(pod, dict)] if isinstance(items, list) and labels else []

    def _patch(self, spec: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
        self._asked("PATCH", self.object, {"spec": dict(spec), "metadata": dict(metadata or {})}, MERGE)

    def _reach(self) -> str:
        try:
            answer = self.peer.ask("GET", "/version", headers=self._headers())
        except exchange.Failed as error:
            raise ConnectorError(str(error)) from None
        version = answer.object().get("gitVersion")
        # A cluster may keep its version from strangers; that it answers is what counts here.
        return f"{self.peer.name}" + (f", Kubernetes {str(version)[:40]}" if version else "")

    def _sign_in(self) -> str:
        group, _version, plural = self.kind
        self._review("get", group, plural, self.name)
        return "The token is known."

    def _status_in_words(self) -> str:
        seen = self.observe()
        if seen.status == "unreachable":
            raise ConnectorError(seen.note)
        return f"The {self.what} {self.name} is {seen.status}."

    def _may(self) -> str:
        missing = [
            f"{verb} {kind}" for verb, group, kind, name in self._needed() if not self._review(verb, group, kind, name)
        ]
        if missing:
            raise ConnectorError(f"This token may not {', '.join(missing)} in {self.space}; grant it in a Role.")
        return f"It may deliver to the {self.what} and restart it."

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


def replicas(found: Mapping[str, Any]) -> int:
    wanted = found["spec"].get("replicas", 1)
    return wanted if isinstance(wanted, int) else 1


def alive(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without those that are ending."""
    return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def how_many(ready: int, wanted: int, pods: list[dict[str, Any]]) -> str:
    """How far it has come, with the reason of the first Pod that does not come up."""
    why = next((reason for pod in pods if (reason := _why_not(pod))), "")
    return f"{ready} of {wanted} Pods run as they should. {why}".strip()[:300]


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
