"""An app on Mendix Cloud: the portal stops and starts it; people upload what was exported, since no API takes it.

Follows mendix/docs apidocs-mxsdk/apidocs/deployment/deploy-api-1.md: headers Mendix-Username and Mendix-ApiKey,
GET …/environments/<mode> (Status Empty, Stopped or Running), POST …/stop, POST …/start {"AutoSyncDb"} → {"JobId"},
GET …/start/<JobId> → {"Status"}; errors {"errorCode", "errorMessage"}.

Nothing there tells one start from another, so what tells them apart is kept here: the job of each start that we asked
for. A restart by others is not noticed. No Django here.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

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
)
from rollouts.outbound import Door

BASE = "https://deploy.mendix.com/api/1"
ASK_LIMIT = 6.0
# Seconds for which one call waits for a stop; then it is made again.
STOP_LIMIT = 12.0

# deploy-api-1.md, the error codes of each call, in words
ERRORS = {
    "INVALID_PARAMETERS": "the environment's name is not right",
    "INVALID_ENVIRONMENT": "there is no such environment, or it is a Free App",
    "ENVIRONMENT_NOT_FOUND": "there is no such environment",
    "INVALID_APPID": "there is no such app",
    "APP_NOT_FOUND": "there is no such app, or this user has no rights on it",
    "STOP_FAILED": "the app could not be stopped",
    "NO_MDA_HAS_BEEN_DEPLOYED": "nothing was ever deployed there",
    "APP_ALREADY_HAS_A_STARTING_JOB": "it is being started already",
    "NO_PACKAGE": "there is no deployment package",
    "ALREADY_LOCKED": "somebody else is changing it at the moment",
    "DB_SYNC_FAILED": "the database could not be brought to the app's version",
    "INVALID_DB_STRUCTURE": "the database is not of the app's version",
    "MISSING_CONSTANT": "a constant has no value",
    "INSECURE_ADMIN_PASSWORD": "the administrator's password is too simple",
    "STARTUP_ACTION_FAILED": "the app's own startup action failed",
    "START_FAILED": "the app could not be started",
    "NOT_ALLOWED": "this user lacks API Rights or Transport Rights on the environment",
}


class MendixCloud:
    """Settings: `app`, `mode`, `username`, `api_key` (secret)."""

    title = gettext_noop("Mendix Cloud")
    asks = (
        Setting("app", gettext_noop("App ID"), help=gettext_noop("The name before .mendixcloud.com, like billing.")),
        Setting("mode", gettext_noop("Environment there"), help=gettext_noop("Test, Acceptance or its name.")),
        Setting("username", gettext_noop("User"), help=gettext_noop("With API Rights and Transport Rights there.")),
        Setting("api_key", gettext_noop("API key"), "secret"),
    )
    exporters = ("buildpack-env",)

    def __init__(self, settings: Mapping[str, Any], order: int = 0) -> None:
        self.names(settings)
        self.app, self.mode = str(settings["app"]), str(settings["mode"])
        self.headers = {
            "Mendix-Username": str(settings.get("username") or ""),
            "Mendix-ApiKey": str(settings.get("api_key") or ""),
            "Content-Type": "application/json",
        }
        if any(not value.isprintable() or not value.isascii() for value in self.headers.values()):
            raise ConnectorError("The user or the API key has characters that no API key has; enter them again.")
        self.memory = settings["memory"]
        self.peer = exchange.Peer(str(settings.get("base") or BASE), settings.get("door", Door(())), seconds=ASK_LIMIT)
        self.path = f"/apps/{quote(self.app, safe='')}/environments/{quote(self.mode, safe='')}"

    @staticmethod
    def able(settings: Mapping[str, Any]) -> Abilities:
        return Abilities(
            gettext_noop(
                "That you confirmed the upload, and that the app was restarted after it; nobody can read it back."
            ),
            hands_over=True,
        )

    @staticmethod
    def names(settings: Mapping[str, Any]) -> tuple[str, str]:
        app, mode = str(settings.get("app") or ""), str(settings.get("mode") or "")
        known = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,79}", app), re.fullmatch(r"[A-Za-z0-9][\w -]{0,79}", mode)
        if not all(known):
            raise ConnectorError("Give the app's ID, like billing, and its environment's name, like Acceptance.")
        return f"{app}/{mode}".lower(), f"Mendix Cloud, {app} {mode}"

    def check(self) -> str:
        return [tick.result for tick in all_right(self.ticks())][-1]

    def ticks(self) -> Iterator[Tick]:
        try:
            answer = self._ask("GET", self.path)
        except exchange.Failed as error:
            yield Tick(gettext_noop("Reach the platform"), "failed", str(error))
            return
        yield Tick(gettext_noop("Reach the platform"), "ok", self.peer.name)
        if answer.status in (401, 403):
            yield Tick(gettext_noop("Sign in"), "failed", _sentence("read", answer))
            return
        yield Tick(gettext_noop("Sign in"), "ok", f"As {self.headers['Mendix-Username']}.")
        if not answer.is_ok:
            yield Tick(gettext_noop("Read the status"), "failed", _sentence("read", answer))
            return
        status = str(answer.object().get("Status"))[:40]
        yield Tick(gettext_noop("Read the status"), "ok", f"The environment says that it is {status.lower()}.")
        yield Tick(
            gettext_noop("May restart"),
            "warn",
            "Whether this user has Transport Rights is seen at the first stop; the API has no way to ask.",
        )

    def deliver(self, bundle: Bundle) -> None:
        """No API takes certificates of outgoing connections, so people do this (rollouts, state `handing_over`)."""
        folders.refuse_bad_paths(bundle)
        raise ConnectorError("Mendix Cloud takes no files from here; upload them by hand in its own pages.")

    def delivered_digest(self) -> str:
        return digest_of_files([])

    def stop(self) -> None:
        until = time.monotonic() + STOP_LIMIT
        if self._status() == "Running":
            answer = self._asked("POST", f"{self.path}/stop")
            if not answer.is_ok:
                raise ConnectorError(_sentence("stop", answer))
        while self._status() == "Running":
            if time.monotonic() > until:
                raise NotYet("Mendix Cloud is still stopping the app.")
            time.sleep(0.5)

    def start(self) -> None:
        answer = self._asked("POST", f"{self.path}/start", {"AutoSyncDb": True})
        found = answer.object()
        if answer.is_ok and isinstance(found.get("JobId"), str):
            self.memory.keep(f"job {found['JobId'][:60]}")
            return
        code = str(found.get("errorCode"))
        if code in ("ALREADY_STARTED", "APP_ALREADY_HAS_A_STARTING_JOB"):
            # Somebody else's start; another one than the last that we know of, where we have seen it stopped since.
            if self.memory.recall().startswith("stopped"):
                self.memory.keep(f"job others-{secrets.token_hex(8)}")
            return
        raise ConnectorError(_sentence("start", answer))

    def reload(self) -> None:
        raise ConnectorError("An app on Mendix Cloud is stopped and started; nothing there does both.")

    restart = reload

    def observe(self) -> Observation:
        try:
            status = self._status()
            kept = self.memory.recall()
            if status == "Stopped" or status == "Empty":
                return self._seen_stopped(kept)
            if status != "Running":
                return Observation("unreachable", note=f"Mendix Cloud says that the environment is {status[:40]!r}.")
        except ConnectorError as error:
            return Observation("unreachable", note=str(error))
        return Observation("running", kept.partition(" ")[2] or "before")

    def _seen_stopped(self, kept: str) -> Observation:
        """Stopped, unless the start that was asked for last is still under way or has failed."""
        if kept.startswith("job ") and not kept.startswith("job others-"):
            job = kept.removeprefix("job ")
            answer = self._asked("GET", f"{self.path}/start/{quote(job, safe='')}")
            if answer.is_ok and answer.object().get("Status") == "Starting":
                return Observation("starting", job)
            if self._status() == "Running":  # it came up between the two questions
                return Observation("running", job)
            if answer.object().get("errorCode") in ERRORS and answer.object().get("errorCode") != "ALREADY_LOCKED":
                return Observation("stopped", ended=job, note=_sentence("start", answer))
        # A start that was asked for meanwhile is not forgotten.
        if not kept.startswith("stopped") and self.memory.recall() == kept:
            self.memory.keep("stopped")
        return Observation("stopped")

    # --- Its parts ---

    def _status(self) -> str:
        answer = self._asked("GET", self.path)
        if not answer.is_ok:
            raise ConnectorError(_sentence("read", answer))
        return str(answer.object().get("Status"))

    def _asked(self, method: str, path: str, given: Mapping[str, Any] | None = None) -> exchange.Answer:
        try:
            return self._ask(method, path, given)
        except exchange.Failed as error:
            raise ConnectorError(str(error)) from None

    def _ask(self, method: str, path: str, given: Mapping[str, Any] | None = None) -> exchange.Answer:
        body = json.dumps(given).encode() if given is not None else b"" if method == "POST" else None
        answer = self.peer.ask(method, path, headers=self.headers, body=body)
        if answer.is_ok and answer.body and answer.json() is None:
            raise exchange.Failed(f"{self.peer.name} answers, but not as the Deploy API does.", sent=True)
        return answer


def _sentence(what: str, answer: exchange.Answer) -> str:
    code = str(answer.object().get("errorCode") or "")
    if answer.status == 401:
        return "Mendix Cloud does not know this user or API key; enter them again under Settings."
    if answer.status == 403:
        return f"Mendix Cloud refused to {what} it: {ERRORS['NOT_ALLOWED']}; grant them in its own pages."
    words = ERRORS.get(code) or exchange.said(answer) or f"it answered {answer.status}"
    return f"Mendix Cloud refused to {what} it: {words}."
