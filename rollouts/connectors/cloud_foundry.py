"""An app on Cloud Foundry: its environment variables, and a restart or a rolling deployment.

Follows cloudfoundry/cloud_controller_ng docs/v3 (apps, environment variables, actions/restart|start|stop, deployments,
processes and their stats, errors) and cloudfoundry/uaa docs (POST /oauth/token, password and client credentials).

Nothing there tells one start of all instances from another: what tells them apart is kept here, a mark for each restart
that we asked for, with its time. An app counts as restarted when every instance that is wanted runs and none has been
up since before that time. A restart by others is not noticed. No Django here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

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
# Ours, of the app's environment variables (rollouts.exporters.buildpack_env); no other one is touched.
VARIABLES = ("CLIENT_CERTIFICATES", "CERTIFICATE_AUTHORITIES", "MXRUNTIME_NoClientCertificateUsages")
DELIVERED = "COUNTERSIGN_DELIVERED"
BEFORE = "COUNTERSIGN_BEFORE"
FILE = "variables.json"
# Seconds by which an uptime in whole seconds may be off.
ROUNDED = 1.0
# Seconds after which a restart that nothing is seen of was none.
GIVEN_UP = 5 * 60


class CloudFoundry:
    """Settings: what it `asks` for; `app` is a GUID."""

    title = gettext_noop("Cloud Foundry")
    asks = (
        Setting("api", gettext_noop("API address"), "address", help=gettext_noop("Like https://api.cf.example.com.")),
        Setting("app", gettext_noop("App GUID"), help=gettext_noop("cf app NAME --guid prints it.")),
        Setting(
            "username", gettext_noop("User"), required=False,
            help=gettext_noop("A space developer. Left empty, the client signs in by itself."),
        ),
        Setting("password", gettext_noop("Password"), "secret", required=False),
        Setting("client_id", gettext_noop("Client"), required=False, help=gettext_noop("cf, unless told otherwise.")),
        Setting("client_secret", gettext_noop("Client secret"), "secret", required=False),
        Setting(
            "strategy", gettext_noop("After a delivery"), "choice",
            choices=(
                ("restart", gettext_noop("Restart: all instances at once, down for a moment.")),
                ("rolling", gettext_noop("Rolling deployment: one instance after the other.")),
            ),
        ),
        Setting("authorities", gettext_noop("Authorities of the platform (PEM)"), "long", required=False),
    )  # fmt: skip
    exporters = ("buildpack-env",)

    def __init__(self, settings: Mapping[str, Any], order: int = 0) -> None:
        self.names(settings)
        given = {setting.name: str(settings.get(setting.name) or "") for setting in self.asks}
        self.app, self.rolling = given["app"].lower(), given["strategy"] == "rolling"
        self.user, self.password = given["username"], given["password"]
        self.client = (given["client_id"] or "cf", given["client_secret"])
        self.memory = settings["memory"]
        self.peer = exchange.Peer(given["api"], settings.get("door", Door(())), given["authorities"], ASK_LIMIT)
        self.token = ""

    @staticmethod
    def able(settings: Mapping[str, Any]) -> Abilities:
        rolling = settings.get("strategy") == "rolling"
        return Abilities(
            gettext_noop("The variables are read back, and every instance was started after the delivery."),
            restarts=True,
            reloads=rolling,
            keeps_what_was=True,
        )

    @staticmethod
    def names(settings: Mapping[str, Any]) -> tuple[str, str]:
        api, app = str(settings.get("api") or ""), str(settings.get("app") or "").lower()
        try:
            exchange.read_address(api)
        except ValueError as error:
            raise ConnectorError(str(error)) from None
        if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", app):
            raise ConnectorError("This is not an app's GUID; cf app NAME --guid prints it.")
        host = urlsplit(api).netloc.lower()
        return f"{host}/{app}", f"Cloud Foundry, app {app[:8]} on {host}"

    def check(self) -> str:
        return [tick.result for tick in all_right(self.ticks())][-1]

    def ticks(self) -> Iterator[Tick]:
        return stepwise(
            (gettext_noop("Reach the platform"), self._reach),
            (gettext_noop("Sign in"), self._sign_in),
            (gettext_noop("Read the status"), self._status_in_words),
            (gettext_noop("May restart"), self._may),
        )

    def deliver(self, bundle: Bundle) -> None:
        """Sets our variables, and takes away those of ours that the bundle does not have: in one call.

        What stood there before the first delivery is kept beside it, and comes back with an empty bundle: that is what
        a failed first apply goes back to. It goes with the second delivery.
        """
        folders.refuse_bad_paths(bundle)
        wanted = _variables(bundle)
        there = self._variables_there()
        is_first = DELIVERED not in there
        if is_first and not bundle.files:
            return
        kept = there.get(BEFORE)
        if is_first:
            originals = {name: there[name] for name in VARIABLES if name in there}
            kept = json.dumps(originals) if originals else None
        elif not bundle.files:
            wanted, kept = _originals(kept), None
        elif not there[DELIVERED].startswith(bundle.digest):
            kept = None
        ours: dict[str, str | None] = {name: wanted.get(name) for name in VARIABLES} | {BEFORE: kept}
        ours[DELIVERED] = f"{bundle.digest} {_mark(wanted)}" if bundle.files else None
        if {name: there.get(name) for name in ours} != ours:
            self._asked("PATCH", f"/v3/apps/{self.app}/environment_variables", {"var": ours})

    def delivered_digest(self) -> str:
        there = self._variables_there()
        ours = {name: there[name] for name in VARIABLES if name in there}
        if DELIVERED not in there:
            return digest_of_files([])  # what is there, if anything, was put there by others
        digest, _blank, mark = there.get(DELIVERED, "").partition(" ")
        return digest if mark == _mark(ours) else hashlib.sha256(_mark(ours).encode()).hexdigest()

    def start(self) -> None:
        if self._app()["state"] != "STARTED":
            self._remember()
            self._asked("POST", f"/v3/apps/{self.app}/actions/start")

    def stop(self) -> None:
        if self._app()["state"] != "STOPPED":
            self._asked("POST", f"/v3/apps/{self.app}/actions/stop")
        if any(one.get("state") not in ("DOWN", "CRASHED") for one in self._instances()[0]):
            raise NotYet("Cloud Foundry is still stopping the instances.")

    def reload(self) -> None:
        """A rolling deployment, if the app runs."""
        if self._app()["state"] != "STARTED":
            self.start()
            return
        if self._deploys():
            raise NotYet("Another deployment of this app is under way on Cloud Foundry.")
        self._remember()
        here = {"app": {"data": {"guid": self.app}}}
        self._asked("POST", "/v3/deployments", {"strategy": "rolling", "relationships": here})

    def restart(self) -> None:
        if self.rolling:
            self.reload()
            return
        self._remember()
        self._asked("POST", f"/v3/apps/{self.app}/actions/restart")

    def observe(self) -> Observation:
        try:
            if self._app()["state"] != "STARTED":
                return Observation("stopped")
            return self._seen()
        except ConnectorError as error:
            return Observation("unreachable", note=str(error))

    # --- Its parts ---

    def _seen(self) -> Observation:
        kept = self._kept()
        before, after = str(kept.get("before") or "unknown"), str(kept.get("mark") or "unknown")
        deploys = self._deploys()
        found, wanted = self._instances()
        running = [one for one in found if one.get("state") == "RUNNING"]
        since = float(kept.get("at") or 0)
        anew = [one for one in running if time.time() - _seconds(one) >= since - ROUNDED]
        # An order whose answer never came may have been obeyed or not; after minutes it was not.
        forgotten = not deploys and not anew and len(running) >= wanted and time.time() - since > GIVEN_UP
        if forgotten:
            return Observation("running", before)
        if deploys or len(running) < wanted or len(anew) < len(running):
            crashed = sum(1 for one in found if one.get("state") == "CRASHED")
            note = f"{len(anew)} of {wanted} instances run" + (f", {crashed} crashed." if crashed else ".")
            why = next((str(one["details"]) for one in found if one.get("details")), "")
            return Observation("starting", before, note=f"{note} {why[:200]}".strip())
        return Observation("running", after)

    def _instances(self) -> tuple[list[dict[str, Any]], int]:
        """What is known of each instance, and how many are wanted."""
        process = self._asked("GET", f"/v3/apps/{self.app}/processes/web").object()
        stats = self._asked("GET", f"/v3/apps/{self.app}/processes/web/stats").object().get("resources")
        found = [one for one in stats if isinstance(one, dict)] if isinstance(stats, list) else []
        wanted = process.get("instances")
        return found, wanted if isinstance(wanted, int) else len(found)

    def _deploys(self) -> bool:
        found = self._asked("GET", f"/v3/deployments?app_guids={self.app}&status_values=ACTIVE").object()
        return bool(found.get("resources"))

    def _kept(self) -> dict[str, Any]:
        try:
            found = json.loads(self.memory.recall())
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _remember(self) -> None:
        """Before the order is given: until every instance is younger than this, the start before it counts."""
        before = self._kept().get("mark") or "unknown"
        self.memory.keep(json.dumps({"before": before, "mark": f"cf-{secrets.token_hex(8)}", "at": time.time()}))

    def _app(self) -> dict[str, Any]:
        found = self._asked("GET", f"/v3/apps/{self.app}").object()
        if found.get("state") not in ("STARTED", "STOPPED"):
            raise ConnectorError(f"{self.peer.name} answers, but not as the v3 API of Cloud Foundry does.")
        return found

    def _variables_there(self) -> dict[str, str]:
        found = self._asked("GET", f"/v3/apps/{self.app}/environment_variables").object().get("var")
        if not isinstance(found, dict):
            raise ConnectorError("Cloud Foundry does not show the app's variables; let this user be a space developer.")
        return {str(name): str(value) for name, value in found.items()}

    def _reach(self) -> str:
        self._root()
        return self.peer.name

    def _status_in_words(self) -> str:
        app = self._app()
        return f"The app {str(app.get('name'))[:100]} is {str(app['state']).lower()}."

    def _may(self) -> str:
        found = self._asked("GET", f"/v3/apps/{self.app}/permissions").object()
        if found.get("read_sensitive_data") is not True:
            raise ConnectorError("This user may see the app and not its variables; let it be a space developer.")
        self._variables_there()
        return "It may read the app's variables, as those may who restart it."

    def _root(self) -> dict[str, Any]:
        answer = self._raw(self.peer, "GET", "/")
        links = answer.object().get("links")
        if not answer.is_ok or not isinstance(links, dict):
            raise ConnectorError(f"{self.peer.name} answers, but not as the API of Cloud Foundry does.")
        return links

    def _sign_in(self) -> str:
        links = self._root()
        login = (links.get("login") or links.get("uaa") or {}).get("href")
        try:
            exchange.read_address(str(login))
        except ValueError:
            raise ConnectorError(f"{self.peer.name} does not say where to sign in.") from None
        peer = exchange.Peer(str(login), self.peer.door, self.peer.authorities, ASK_LIMIT)
        how = {"grant_type": "password", "username": self.user, "password": self.password}
        answer = self._raw(
            peer,
            "POST",
            "/oauth/token",
            headers={
                "Content-Type": "application/x-www-form-urlencoded",
                "Authorization": "Basic " + base64.b64encode(":".join(self.client).encode()).decode("ascii"),
            },
            body=urlencode(how if self.user else {"grant_type": "client_credentials"}).encode(),
        )
        token = answer.object().get("access_token")
        if not answer.is_ok or not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise ConnectorError(
                f"{peer.name} does not let us sign in ({answer.status}); enter user, password and client again."
            )
        self.token = token
        return f"As {self.user or self.client[0]}."

    def _asked(self, method: str, path: str, given: Mapping[str, Any] | None = None) -> exchange.Answer:
        """A token runs out after minutes: once more with a new one."""
        if not self.token:
            self._sign_in()
        answer = self._with_token(method, path, given)
        if answer.status == 401:
            self._sign_in()
            answer = self._with_token(method, path, given)
        if not answer.is_ok:
            raise ConnectorError(_sentence(answer))
        if answer.json() is None:
            raise ConnectorError(f"{self.peer.name} answers, but not with JSON.")
        return answer

    def _with_token(self, method: str, path: str, given: Mapping[str, Any] | None) -> exchange.Answer:
        body = json.dumps(given).encode() if given is not None else b"" if method == "POST" else None
        headers = {"Authorization": f"bearer {self.token}", "Content-Type": "application/json"}
        return self._raw(self.peer, method, path, headers=headers, body=body)

    def _raw(
        self, peer: exchange.Peer, method: str, path: str, *,
        headers: Mapping[str, str] | None = None, body: bytes | None = None,
    ) -> exchange.Answer:  # fmt: skip
        try:
            return peer.ask(method, path, headers=headers, body=body)
        except exchange.Failed as error:
            raise ConnectorError(str(error)) from None


def _variables(bundle: Bundle) -> dict[str, str]:
    """What the bundle sets. Raises ConnectorError for one that is not for the buildpack."""
    if not bundle.files:
        return {}
    content = next((file.content for file in bundle.files if file.path == FILE), None)
    try:
        found = json.loads(content or b"")
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(name in VARIABLES and isinstance(v, str) for name, v in found.items()):
        raise ConnectorError("Cloud Foundry takes the export “Mendix buildpack variables”; choose it under Settings.")
    return found


def _originals(kept: str | None) -> dict[str, str]:
    """What stood there before the first delivery."""
    try:
        found = json.loads(kept or "{}")
    except ValueError:
        return {}
    return {name: str(value) for name, value in found.items() if name in VARIABLES} if isinstance(found, dict) else {}


def _mark(variables: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(variables), sort_keys=True).encode()).hexdigest()


def _seconds(instance: Mapping[str, Any]) -> float:
    uptime = instance.get("uptime")
    return float(uptime) if isinstance(uptime, int | float) else 0.0


def _sentence(answer: exchange.Answer) -> str:
    if answer.status in (401, 403):
        return "Cloud Foundry does not allow this user to do that; let it be a space developer of the app's space."
    if answer.status == 404:
        return "Cloud Foundry knows no such app, or does not show it to this user; correct the GUID or the user."
    words = exchange.said(answer)
    return f"Cloud Foundry refused it ({answer.status})" + (f": {words}." if words else ".")
