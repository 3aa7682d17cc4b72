"""A Mendix runtime on this server: its files in a folder, and the M2EE admin API to end it; a supervisor (systemd with
Restart=always, a container's restart policy, PAD's bin/start in a loop) brings it back with what is there then.

Follows mendix/m2ee-tools src/m2ee/client.py and client_errno.py, and mendix/docs refguide/runtime/
monitoring-mendix-runtime.md: POST / with {"action", "params"}, the password in base64 in X-M2EE-Authentication,
answered by {"result", "feedback"} or {"result", "message", "cause"}.

The API can end the runtime and cannot start it, and says nothing that tells one start from another. So a restart is
seen as it happens: the shutdown that we asked for cuts the connection, and that is counted in the app's folder.

restarts               a link to nowhere whose target is the number of shutdowns that we have seen

No Django here.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rollouts import exchange
from rollouts.connectors import (
    Abilities,
    ConnectorError,
    Observation,
    Setting,
    Tick,
    all_right,
    folders,
    gettext_noop,
    orders,
    sessions,
)
from rollouts.connectors.folders import spoken
from rollouts.connectors.placed import Placed
from rollouts.outbound import Door

# Seconds for one request, and for the runtime to be gone after its shutdown; together below CALL_LIMIT.
ASK_LIMIT = 4.0
GONE_LIMIT = 12.0

# client_errno.py of m2ee-tools, and the result codes of the documents above.
RESULTS = {
    -1: "the request was empty",
    -2: "the request was not JSON",
    -3: "the request was no POST",
    -4: "the admin password is wrong; set the one of M2EE_ADMIN_PASS under Settings",
    -5: "the runtime does not know this action, or is not up yet",
    -6: "the request could not be read",
    -7: "the answer could not be written",
}
START_RESULTS = {
    2: "there is no database",
    3: "the database is not of the app's version; let the supervisor's command migrate it",
    4: "a constant has no value",
    5: "the administrator's password is 1; change it",
    6: "the runtime is in another state",
    7: "the mode (D, T, A or P) is not set",
    8: "the base path is not set",
    9: "the path of the runtime is not set",
    10: "the license is not valid",
    11: "security is off, which this mode does not allow",
    12: "the app's own startup action failed",
    13: "the license does not allow mobile use",
}
# runtime_status -> what it is here
STATUSES: Mapping[str, str] = {"running": "running", "created": "starting", "starting": "starting", "feut": "starting"}


class M2ee(Placed):
    """Settings: those of Placed; `admin` (http://host:port/), and `password`, which is kept sealed."""

    title = gettext_noop("Mendix runtime on this server (M2EE)")
    asks = (Setting("password", gettext_noop("Admin password (M2EE_ADMIN_PASS)"), "secret"),)
    exporters = ("mendix-settings", "m2ee-yaml", "pad-hocon")

    def __init__(self, settings: Mapping[str, Any], order: int = 0) -> None:
        super().__init__(settings, order)
        self.password = str(settings.get("password") or "")
        try:
            exchange.read_address(str(settings.get("admin")))
        except ValueError as error:
            raise ConnectorError(str(error)) from None
        self.peer = exchange.Peer(str(settings["admin"]), settings.get("door", Door(())), seconds=ASK_LIMIT)

    @staticmethod
    def able(settings: Mapping[str, Any]) -> Abilities:
        return Abilities(
            gettext_noop(
                "The files are read back and the runtime's end is seen; it cannot report which configuration it loaded."
            ),
            stops=False,
            restarts=True,
        )

    def check(self) -> str:
        return [tick.result for tick in all_right(self.ticks())][-1]

    def ticks(self) -> Iterator[Tick]:
        self.check_folder()
        yield Tick(gettext_noop("Write to the app's folder"), "ok", str(self.folder))
        try:
            answer = self._post("echo", {"echo": "ping"})
        except exchange.Failed as error:
            yield Tick(gettext_noop("Reach the admin port"), "failed", str(error))
            return
        yield Tick(gettext_noop("Reach the admin port"), "ok", self.peer.name)
        if answer.get("result") == -4:
            yield Tick(gettext_noop("Sign in"), "failed", _sentence("echo", answer))
            return
        yield Tick(gettext_noop("Sign in"), "ok")
        status = self._status()
        yield Tick(gettext_noop("Read the status"), "ok", f"The runtime is {status}.")
        yield Tick(
            gettext_noop("May restart"),
            "ok",
            f"Whoever has the admin password may end the runtime, which is {status}; its supervisor brings it back.",
        )

    def start(self) -> None:
        """Nothing to do: the supervisor starts it."""

    def stop(self) -> None:
        raise ConnectorError(
            "A supervisor brings this runtime back whenever it ends, so it cannot be stopped from here."
        )

    def reload(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Ends the runtime, and returns when it was seen to be gone. One that is gone is left to its supervisor."""
        with spoken(f"The app of {self.folder} could not be restarted"), sessions.locked(self.folder):
            orders.refuse_late(self.folder, self.order)
            try:
                answer = self._post("shutdown", {})
            except exchange.Failed as error:
                if error.nobody:  # it is gone, and its supervisor starts it with what is there
                    self._count()
                    return
                if not error.sent:
                    raise ConnectorError(str(error)) from None
                # “an unforgiving System.exit(0) in the finally clause”: the connection is cut, there is no answer.
            else:
                if answer.get("result") not in (0, None):
                    raise ConnectorError(_sentence("shutdown", answer))
            if not self._is_gone_within(GONE_LIMIT):
                raise ConnectorError("The runtime was asked to shut down and is still there; look at its log.")
            self._count()

    def observe(self) -> Observation:
        try:
            answer = self._post("runtime_status", {})
        except exchange.Failed as error:
            return Observation("unreachable", note=str(error))
        if answer.get("result") not in (0, None):
            if answer.get("result") == -5:  # the runtime is not up yet
                return Observation("starting", self._incarnation)
            return Observation("unreachable", note=_sentence("runtime_status", answer))
        status = _feedback(answer).get("status")
        if status not in STATUSES:
            return Observation(
                "unreachable", self._incarnation, note=f"The runtime says that it is {str(status)[:40]!r}."
            )
        if status != "running":
            return Observation("starting", self._incarnation, note=f"The runtime is {status}.")
        return Observation("running", self._incarnation, note=self._health())

    # --- Its parts ---

    @property
    def _incarnation(self) -> str:
        return f"m2ee-{self._counted()}"

    def _counted(self) -> int:
        try:
            return int((self.folder / "restarts").readlink().name)
        except (OSError, ValueError):
            return 0

    def _count(self) -> None:
        folders.link_to(self.folder / "restarts", Path(str(self._counted() + 1)))

    def _is_gone_within(self, seconds: float) -> bool:
        """Another start may be quicker than our looks: a runtime that is not `running` any more is another one."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                answer = self._post("runtime_status", {})
            except exchange.Failed as error:
                if error.nobody:
                    return True
            else:
                if answer.get("result") == -5 or _feedback(answer).get("status") in ("created", "starting"):
                    return True
            time.sleep(0.1)
        return False

    def _health(self) -> str:
        """What the app's own health check says, where it is not “healthy”: a note, and no verdict."""
        with contextlib.suppress(exchange.Failed):
            found = _feedback(self._post("check_health", {}))
            if found.get("health") == "sick":
                return f"The app's own health check says that it is sick: {str(found.get('diagnosis'))[:200]}"
        return ""

    def _status(self) -> str:
        answer = self._post("runtime_status", {})
        if answer.get("result") not in (0, None):
            raise ConnectorError(_sentence("runtime_status", answer))
        return str(_feedback(answer).get("status"))[:40]

    def _post(self, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.peer.ask(
            "POST",
            "/",
            headers={
                "Content-Type": "application/json",
                "X-M2EE-Authentication": base64.b64encode(self.password.encode()).decode("ascii"),
            },
            body=json.dumps({"action": action, "params": params}).encode(),
        )
        found = answer.object()
        if answer.status != 200 or not found:
            raise exchange.Failed(
                f"{self.peer.name} answers {answer.status}, and not as an M2EE admin port does.", sent=True
            )
        return found


def _feedback(answer: Mapping[str, Any]) -> dict[str, Any]:
    found = answer.get("feedback")
    return found if isinstance(found, dict) else {}


def _sentence(action: str, answer: Mapping[str, Any]) -> str:
    """The result code in words, with the cause that the runtime gives."""
    code = answer.get("result")
    known = {**RESULTS, **(START_RESULTS if action == "start" else {})}
    words = known.get(code, "it failed") if isinstance(code, int) else "it failed"
    cause = " ".join(str(answer.get("cause") or answer.get("message") or "").split())[:200]
    return f"The runtime refused “{action}” ({code}): {words}." + (f" It says: {cause}" if cause and code != -4 else "")
