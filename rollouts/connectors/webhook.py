"""An app behind a receiver of its own: orders go there as signed requests, and it fetches each export itself.

Follows Standard Webhooks (standard-webhooks/standard-webhooks, spec/standard-webhooks.md): the headers webhook-id,
webhook-timestamp and webhook-signature ("v1," and base64 of HMAC-SHA256 over id.timestamp.body). The order is
{"type", "timestamp", "data"}; the types are countersign.apply, .restart, .stop, .start and .status. What the receiver
answers to .status, or reports by itself (rollouts/views/hooks.py), says what runs:

    {"status": "running", "incarnation": "…", "digest": "…", "delivered": "…", "note": "…"}

No Django here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

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

ASK_LIMIT = 6.0
# Seconds after which an order that was not carried out is given again, and for which one call waits for it.
AGAIN = 60
WAITS = 2.0
# Seconds by which a receiver's clock may differ (Standard Webhooks, “timestamp”).
TOLERANCE = 5 * 60
STATUSES = ("running", "starting", "stopped")


class Webhook:
    """Settings: `url`, `key` (secret), `authorities`; `hand_out` makes the address from which a bundle is fetched."""

    title = gettext_noop("Webhook to a receiver of your own")
    asks = (
        Setting("url", gettext_noop("Address of the receiver"), "address", help=gettext_noop("https://host/path")),
        Setting(
            "key",
            gettext_noop("Signing key"),
            "secret",
            help=gettext_noop("At least 24 characters that only the receiver knows, or whsec_ and base64."),
        ),
        Setting(
            "authorities", gettext_noop("Authorities of the receiver (PEM)"), "long", required=False,
            help=gettext_noop("Only where its certificate is not publicly trusted."),
        ),
    )  # fmt: skip
    exporters = ()

    def __init__(self, settings: Mapping[str, Any], order: int = 0) -> None:
        self.names(settings)
        self.key, self.order = signing_key(str(settings.get("key") or "")), order
        self.memory, self.hand_out = settings["memory"], settings.get("hand_out")
        self.peer = exchange.Peer(
            str(settings["url"]), settings.get("door", Door(())), str(settings.get("authorities") or ""), ASK_LIMIT
        )

    @staticmethod
    def able(settings: Mapping[str, Any]) -> Abilities:
        return Abilities(
            gettext_noop("What the receiver reports: that the app runs, and the digest of what it loaded."),
            restarts=True,
            delivery_restarts=True,
        )

    @staticmethod
    def names(settings: Mapping[str, Any]) -> tuple[str, str]:
        url = str(settings.get("url") or "")
        try:
            exchange.read_address(url)
        except ValueError as error:
            raise ConnectorError(str(error)) from None
        return url.lower(), f"Webhook, {urlsplit(url).netloc}"

    def check(self) -> str:
        return [tick.result for tick in all_right(self.ticks())][-1]

    def ticks(self) -> Iterator[Tick]:
        try:
            answer = self._post("status", {})
        except ConnectorError as error:
            yield Tick(gettext_noop("Reach the receiver"), "failed", str(error))
            return
        yield Tick(gettext_noop("Reach the receiver"), "ok", self.peer.name)
        if answer.status in (401, 403):
            yield Tick(gettext_noop("Sign in"), "failed", _sentence("status", answer))
            return
        if not answer.is_ok:
            yield Tick(gettext_noop("Read the status"), "failed", _sentence("status", answer))
            return
        yield Tick(gettext_noop("Sign in"), "ok", "The receiver takes our signature.")
        seen = self.observe()
        if seen.status == "unreachable":
            yield Tick(gettext_noop("Read the status"), "failed", seen.note)
            return
        yield Tick(gettext_noop("Read the status"), "ok", f"The receiver says that the app is {seen.status}.")
        yield Tick(gettext_noop("May restart"), "ok", "A receiver that takes our signature carries out our orders.")

    def deliver(self, bundle: Bundle) -> None:
        """Asks the receiver to fetch the bundle and to run the app with it; returns when it reports that it has."""
        folders.refuse_bad_paths(bundle)
        if self.delivered_digest() == bundle.digest:
            return
        if self._is_to_be_asked(f"apply {bundle.digest}"):
            if self.hand_out is None:
                raise ConnectorError("There is no address from which the receiver could fetch the export.")
            address = self.hand_out(bundle) if bundle.files else ""
            self._order("apply", {"digest": bundle.digest, "bundle": address})
        self._wait(lambda: self.delivered_digest() == bundle.digest, "The receiver has not reported the export yet.")

    def delivered_digest(self) -> str:
        delivered = self._report().get("delivered")
        return str(delivered) if _is_digest(delivered) else digest_of_files([])

    def start(self) -> None:
        if self.observe().status not in ("running", "starting"):
            self._order("start", {})

    def stop(self) -> None:
        if self.observe().status == "stopped":
            return
        if self._is_to_be_asked("stop"):
            self._order("stop", {})
        self._wait(lambda: self.observe().status == "stopped", "The receiver has not reported the stop yet.")
        known = kept(self.memory.recall())
        self.memory.keep(json.dumps({name: value for name, value in known.items() if name == "report"}))

    def restart(self) -> None:
        self._order("restart", {})

    reload = restart

    def observe(self) -> Observation:
        try:
            report = self._report()
        except ConnectorError as error:
            return Observation("unreachable", note=str(error))
        status = report.get("status")
        if status not in STATUSES:
            return Observation("unreachable", note="The receiver does not say whether the app runs; let it report.")
        note = "".join(c for c in str(report.get("note") or "") if c.isprintable())[:300]
        which = str(report.get("incarnation") or "")
        which = which if len(which) <= 64 else hashlib.sha256(which.encode()).hexdigest()
        if status == "stopped":
            return Observation("stopped", ended=which, note=note)
        if not which:
            return Observation("unreachable", note="The receiver does not say which start of the app this is.")
        digest = report.get("digest") if _is_digest(report.get("digest")) else None
        return Observation("running" if status == "running" else "starting", which, digest, note)

    # --- Its parts ---

    def _report(self) -> dict[str, Any]:
        """What the receiver answers, or, where it answers with nothing, what it reported last."""
        answer = self._post("status", {})
        if not answer.is_ok:
            raise ConnectorError(_sentence("status", answer))
        if not answer.body.strip():
            return kept(self.memory.recall()).get("report") or {}
        if answer.json() is None:
            raise ConnectorError(f"{self.peer.name} answers, but not with JSON.")
        return answer.object()

    def _is_to_be_asked(self, what: str) -> bool:
        """Whether this was not asked for within the last minute; remembers that it is now."""
        known = kept(self.memory.recall())
        if known.get("asked") == what and time.time() - float(known.get("at") or 0) < AGAIN:
            return False
        self.memory.keep(json.dumps({**known, "asked": what, "at": time.time()}))
        return True

    def _wait(self, done: Any, sentence: str) -> None:
        until = time.monotonic() + WAITS
        while not done():
            if time.monotonic() > until:
                raise NotYet(sentence)
            time.sleep(0.2)

    def _order(self, what: str, data: Mapping[str, Any]) -> None:
        answer = self._post(what, data)
        if not answer.is_ok:
            raise ConnectorError(_sentence(what, answer))
        if answer.body.strip() and answer.json() is None:
            raise ConnectorError(f"{self.peer.name} answers, but not with JSON.")

    def _post(self, what: str, data: Mapping[str, Any]) -> exchange.Answer:
        body = json.dumps(
            {
                "type": f"countersign.{what}",
                "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
                "data": {**data, "order": self.order},
            }
        ).encode()
        headers = {"Content-Type": "application/json", **signed(self.key, body)}
        try:
            return self.peer.ask("POST", "", headers=headers, body=body)
        except exchange.Failed as error:
            raise ConnectorError(str(error)) from None


def signing_key(text: str) -> bytes:
    """The bytes of a signing key. Raises ConnectorError for one that is too short to be one."""
    if text.startswith("whsec_"):
        try:
            found = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            raise ConnectorError("The signing key begins with whsec_, and what follows is not base64.") from None
    else:
        found = text.encode()
    if len(found) < 24:
        raise ConnectorError("The signing key has fewer than 24 bytes; enter a longer one under Settings.")
    return found


def signed(key: bytes, body: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks."""
    number, now = f"msg_{secrets.token_hex(12)}", str(int(time.time()))
    mark = hmac.new(key, f"{number}.{now}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": number,
        "webhook-timestamp": now,
        "webhook-signature": "v1," + base64.b64encode(mark).decode("ascii"),
    }


def is_signed(key: bytes, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether whoever sent this knows the key, and sent it within the last minutes. Header names in small letters."""
    number, when = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not re.fullmatch(r"[!-~]{1,200}", number) or not re.fullmatch(r"[0-9]{1,12}", when):
        return False
    if abs(time.time() - int(when)) > TOLERANCE:
        return False
    mark = base64.b64encode(hmac.new(key, f"{number}.{when}.".encode() + body, hashlib.sha256).digest())
    given = [one.partition(",") for one in headers.get("webhook-signature", "").split(" ")]
    return any(kind == "v1" and hmac.compare_digest(mark, one.encode()) for kind, _comma, one in given)


def kept(words: str) -> dict[str, Any]:
    """What this connector keeps: what was asked for last and when, and the receiver's last report."""
    try:
        found = json.loads(words)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_digest(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _sentence(what: str, answer: exchange.Answer) -> str:
    if answer.status in (401, 403):
        return "The receiver does not take our signature; enter the key that it knows under Settings."
    words = exchange.said(answer)
    return f"The receiver refused “{what}” ({answer.status})" + (f": {words}." if words else ".")
