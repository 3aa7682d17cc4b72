"""Stands in for the API of a cluster, with one Deployment of two Pods, or with a MendixApp and what its operator does.

    kubernetes_api.py STATE PORT [mendixapp]

Follows kubernetes.io/docs/reference/kubernetes-api: Secret v1 and Pod v1, Deployment apps/v1, SelfSubjectAccessReview
authorization.k8s.io/v1, Status meta/v1 (reasons and codes); JSON Merge Patch (RFC 7386); optimistic concurrency by
resourceVersion. The package `kubernetes` uses it too (tests/contracts/test_kubernetes.py). The MendixApp follows
mendix/docs private-cloud-operator.md and reduced-downtime-deployment.md: what changes in spec.runtime becomes another
template of a Deployment that the operator alone may change, and its replicas those of the MendixApp.

A changed template replaces one Pod after the other; replicas 0 ends them. STATE/behaviour: what goes wrong
(misbehaving.py). STATE/calls: start, stop, restart. STATE/forbidden: what the token may not, as “verb resource” lines.
STATE/crashes: containers of new Pods crash.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
import uuid
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from misbehaving import SECONDS, Handler

state, port = Path(sys.argv[1]), int(sys.argv[2])
TOKEN = "Token-of-the-account"
TAKES = 0.3
OPERATED = sys.argv[3:] == ["mendixapp"]
MENDIX_APP = "/apis/privatecloud.mendix.com/v1alpha1/namespaces/prod/mendixapps/billing"
LABELS = {"privatecloud.mendix.com/app": "billing", "privatecloud.mendix.com/component": "mendix-app"}
DEPLOYMENT, SECRETS = "/apis/apps/v1/namespaces/prod/deployments/billing", "/api/v1/namespaces/prod/secrets"
HASH = "pod-template-hash"
CONTAINER = {"name": "app", "image": "billing:1", "imageID": "sha256:0", "restartCount": 0, "started": True}
lock = threading.Lock()


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def note(call: str) -> None:
    with (state / "calls").open("a") as file:
        file.write(call + "\n")


def merge(there: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    found = dict(there) if isinstance(there, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merge(found.get(name), value)
    return found


def hash_of(template: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


class Cluster:
    def __init__(self) -> None:
        self.version = 100
        self.secrets: dict[str, dict[str, Any]] = {}
        self.pods: list[dict[str, Any]] = []
        self.stepped = time.monotonic()
        self.app: dict[str, Any] = {
            "apiVersion": "privatecloud.mendix.com/v1alpha1", "kind": "MendixApp",
            "metadata": {"name": "billing", "namespace": "prod", "generation": 1, "resourceVersion": "100"},
            "spec": {"replicas": 0, "runtime": {"logAutosubscribeLevel": "INFO"}}, "status": {},
        }  # fmt: skip
        labels = LABELS if OPERATED else {"app": "billing"}
        self.deployment: dict[str, Any] = {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "billing", "namespace": "prod", "generation": 1, "resourceVersion": "100"},
            "spec": {
                "replicas": 0, "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "app", "image": "billing:1"}]},
                },
            },
            "status": {"observedGeneration": 1},
        }  # fmt: skip

    def next_version(self) -> str:
        self.version += 1
        return str(self.version)

    def patch(self, patch: dict[str, Any]) -> None:
        before = self.deployment
        after = merge(before, patch)
        if after["spec"] != before["spec"]:
            after["metadata"]["generation"] += 1
            was, is_now = before["spec"]["replicas"], after["spec"]["replicas"]
            if bool(was) != bool(is_now):
                note("start" if is_now else "stop")
            elif after["spec"]["template"] != before["spec"]["template"] and is_now:
                note("restart")
        after["metadata"]["resourceVersion"] = self.next_version()
        self.deployment, self.stepped = after, time.monotonic()

    def patch_app(self, patch: dict[str, Any]) -> None:
        """The operator acts on it."""
        self.app = merge(self.app, patch)
        self.app["metadata"]["resourceVersion"] = self.next_version()
        spec = self.app["spec"]
        runtime = hashlib.sha256(json.dumps(spec["runtime"], sort_keys=True).encode()).hexdigest()
        template = {"metadata": {"annotations": {"configuration": runtime}}}
        self.patch({"spec": {"replicas": spec["replicas"], "template": template}})

    def look(self) -> None:
        """The controller: after each moment one Pod more is as the template says."""
        for pod in self.pods:
            if time.monotonic() - pod["_born"] > TAKES / 2:
                pod["status"] = self._status()
        while time.monotonic() - self.stepped > TAKES:
            self.stepped += TAKES
            self._step()

    def _status(self) -> dict[str, Any]:
        if (state / "crashes").exists():
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}
            ended = {"exitCode": 1, "reason": "Error", "message": "the password of one.pfx is wrong"}
            reasons = {"state": {"waiting": waiting}, "lastState": {"terminated": ended}}
            not_ready = [{"type": "Ready", "status": "False"}]
            containers = [{**CONTAINER, "ready": False, "restartCount": 3, **reasons}]
            return {"phase": "Running", "conditions": not_ready, "containerStatuses": containers}
        return {
            "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{**CONTAINER, "ready": True, "state": {"running": {"startedAt": now()}}}],
        }  # fmt: skip

    def _step(self) -> None:
        spec, meta = self.deployment["spec"], self.deployment["metadata"]
        self.deployment["status"] = {"observedGeneration": meta["generation"], "replicas": len(self.pods)}
        wanted, template = spec["replicas"], spec["template"]
        old = [pod for pod in self.pods if pod["metadata"]["labels"][HASH] != hash_of(template)]
        new = [pod for pod in self.pods if pod not in old]
        if len(self.pods) > wanted:
            self.pods.remove((old or new)[0])
        elif len(new) < wanted:
            self.pods.append(self._pod(template))
            if old:
                self.pods.remove(old[0])

    def _pod(self, template: dict[str, Any]) -> dict[str, Any]:
        name = f"billing-{uuid.uuid4().hex[:8]}"
        return {
            "apiVersion": "v1", "kind": "Pod", "_born": time.monotonic(), "spec": template["spec"],
            "metadata": {
                "name": name, "namespace": "prod", "uid": str(uuid.uuid4()), "creationTimestamp": now(),
                "labels": {**template["metadata"]["labels"], HASH: hash_of(template)},
                "annotations": dict(template["metadata"].get("annotations") or {}),
            },
            "status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]},
        }  # fmt: skip


cluster = Cluster()


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "message": message,
        "code": code,
    }  # fmt: skip


class Api(Handler):
    behaviour = state / "behaviour"

    def do_GET(self) -> None:
        if self.path == "/up":
            self.answer(200, {})
        elif self.path == "/instances":
            with lock:
                cluster.look()
                self.answer(200, ["billing"] if cluster.pods else [])
        else:
            self._asked("GET")

    def do_POST(self) -> None:
        self._asked("POST")

    def do_PUT(self) -> None:
        self._asked("PUT")

    def do_PATCH(self) -> None:
        self._asked("PATCH")

    def _asked(self, method: str) -> None:
        body = self.body()
        if self.misbehaves():
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(401, status(401, "Unauthorized", "Unauthorized"))
            return
        url = urlsplit(self.path)
        with lock:
            cluster.look()
            self.answer(*self._act(method, url.path, parse_qs(url.query), json.loads(body) if body else None))

    def _act(self, method: str, path: str, query: dict[str, list[str]], given: Any) -> tuple[int, Any]:
        parts = path.split("/")
        resource = parts[-2] if path in (DEPLOYMENT, MENDIX_APP) else parts[5] if len(parts) > 5 else ""
        verb = {"GET": "list" if resource == "pods" else "get", "POST": "create", "PUT": "update", "PATCH": "patch"}[
            method
        ]
        if self._forbidden(verb, resource):
            text = f'{resource} is forbidden: User "system:serviceaccount:prod:countersign" cannot {verb} {resource}'
            return 403, status(403, "Forbidden", text)
        match method, path:
            case "GET", "/version":
                return 200, {"major": "1", "minor": "31", "gitVersion": "v1.31.2"}
            case "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
                what = given["spec"]["resourceAttributes"]
                allowed = what["namespace"] == "prod" and not self._forbidden(what["verb"], what["resource"])
                return 201, {**given, "metadata": {}, "status": {"allowed": allowed}}
            case "GET", p if p == DEPLOYMENT:
                return 200, cluster.deployment
            case "GET", p if p == MENDIX_APP and OPERATED:
                return 200, cluster.app
            case "PATCH", p if p == MENDIX_APP and OPERATED:
                # A custom resource knows no strategic merge.
                if self.headers.get("Content-Type") != "application/merge-patch+json":
                    return 415, status(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
                known = cluster.app["metadata"]["resourceVersion"]
                if (given.get("metadata") or {}).get("resourceVersion", known) != known:
                    return 409, status(409, "Conflict", "the object has been modified")
                cluster.patch_app(given)
                return 200, cluster.app
            case "PATCH", p if p == DEPLOYMENT:
                kinds = ("application/merge-patch+json", "application/strategic-merge-patch+json")
                if self.headers.get("Content-Type") not in kinds:
                    return 415, status(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
                known = cluster.deployment["metadata"]["resourceVersion"]
                if (given.get("metadata") or {}).get("resourceVersion", known) != known:
                    return 409, status(409, "Conflict", "the object has been modified")
                cluster.patch(given)
                return 200, cluster.deployment
            case "GET", "/api/v1/namespaces/prod/pods":
                labels = cluster.deployment["spec"]["selector"]["matchLabels"]
                hit = query.get("labelSelector") == [",".join(f"{k}={v}" for k, v in sorted(labels.items()))]
                pods = [{k: v for k, v in pod.items() if k != "_born"} for pod in cluster.pods] if hit else []
                return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}
        if path.startswith(SECRETS):
            return self._secret(method, path.removeprefix(SECRETS).strip("/"), given)
        return 404, status(404, "NotFound", f'"{path}" not found')

    def _secret(self, method: str, name: str, given: Any) -> tuple[int, Any]:
        name = name or given["metadata"]["name"]
        there = cluster.secrets.get(name)
        if method == "POST" and there:
            return 409, status(409, "AlreadyExists", f'secrets "{name}" already exists')
        if method != "POST" and there is None:
            return 404, status(404, "NotFound", f'secrets "{name}" not found')
        if method == "GET":
            return 200, there
        version = given["metadata"].get("resourceVersion")
        if there and method == "PUT" and version not in (None, there["metadata"]["resourceVersion"]):
            return 409, status(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        found = merge(there, given) if method == "PATCH" else given
        found["metadata"]["resourceVersion"] = cluster.next_version()
        cluster.secrets[name] = found
        return 201 if method == "POST" else 200, found

    def _forbidden(self, verb: str, resource: str) -> bool:
        listed = state / "forbidden"
        return listed.exists() and f"{verb} {resource}" in listed.read_text().splitlines()


server = ThreadingHTTPServer(("127.0.0.1", port), Api)
server.daemon_threads = True
threading.Timer(SECONDS, server.shutdown).start()
server.serve_forever()
