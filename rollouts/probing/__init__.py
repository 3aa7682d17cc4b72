"""One connection, tried the way the app will make it: what was reached, asked for and sent, and what came of it, in
words. No Django, and no key in any file.

What a test can say is less than what an app finds out: the portal stands elsewhere in the network, and a server may
refuse one call and accept the next. So a verdict is never better than what was seen, and a refusal is never green:

    accepted     the server asked for a certificate, ours was sent, and the server went on with the connection
    not-asked    the connection came about without any certificate of ours
    refused      the server ended the connection over the certificate, by an alert, a status or by hanging up
    untrusted    the server showed a certificate that the app would not believe, so the app would hang up
    unreachable  no TLS connection came about
    untestable   this server may not connect there, or nobody said where to
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from certificates.addresses import TestAddress
from certificates.identities import Identity
from rollouts import outbound
from rollouts.probing import alerts, greetings
from rollouts.probing.handshake import Ended, HungUp, Peer, Tls, Untrusted

Verdict = Literal["accepted", "not-asked", "refused", "untrusted", "unreachable", "untestable"]
VERDICTS: Final[tuple[Verdict, ...]] = ("accepted", "not-asked", "refused", "untrusted", "unreachable", "untestable")
# Seconds for one test, from the name to the answer.
LIMIT: Final = 10.0
# A server of TLS 1.3 judges the certificate after the handshake is over for us (RFC 8446 §4.4.2.4, §4.6.1), so a ticket
# or an alert is waited for: at most this long, and at least two of the times that the handshake took.
JUDGED: Final = 2.0


@dataclass(frozen=True)
class Finding:
    """What one test found. `caution` is a second sentence for what is odd although the verdict is good.

    `accepts` are the authorities that the server says it accepts (RFC 4514; at most ACCEPTS_SHOWN of `accepts_count`),
    and `among` whether one of ours is. Times are milliseconds.
    """

    verdict: Verdict
    sentence: str
    caution: str = ""
    address: str = ""
    found: tuple[str, ...] = ()
    tls: str = ""
    cipher: str = ""
    server: Peer | None = None
    asked: bool | None = None
    accepts: tuple[str, ...] = ()
    accepts_count: int = 0
    among: bool | None = None
    sent: str = ""
    alert: str = ""
    status: int | None = None
    connect_ms: int | None = None
    handshake_ms: int | None = None

    @property
    def stands_in_the_way(self) -> bool:
        """Whether an app with this configuration would be turned away."""
        return self.verdict in ("refused", "untrusted")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


ACCEPTS_SHOWN: Final = 20


@dataclass(frozen=True)
class Trial:
    """What is to be tried: where, with which identity (None: without any), and whom to believe (DER, beside the public
    authorities)."""

    address: TestAddress
    identity: Identity | None = field(repr=False)
    authorities: Sequence[bytes] = ()


def probe(trial: Trial, *, door: outbound.Door, seconds: float = LIMIT) -> Finding:
    """Tries it, for about so long. Never raises for what the other side does."""
    address, until = trial.address, time.monotonic() + seconds
    began = time.monotonic()
    try:
        reached = outbound.reach(address.host, address.port, door=door, until=until)
    except outbound.NotAllowed as refusal:
        return Finding("untestable", str(refusal))
    except outbound.Unreachable as failure:
        return Finding("unreachable", str(failure))
    known = Finding(
        "unreachable", "", address=reached.address, found=reached.found, connect_ms=_since(began)
    )  # fmt: skip
    with reached.connection as connection:
        try:
            if address.starts_in_the_clear:
                greetings.ask_for_tls(connection, address.scheme, until)
        except greetings.NoTls as failure:
            return replace(known, sentence=str(failure))
        return _shake(Tls(connection, trial, until), trial, known)


def _shake(tls: Tls, trial: Trial, known: Finding) -> Finding:
    began = time.monotonic()
    try:
        tls.shake_hands()
        known = replace(_with(known, tls), handshake_ms=_since(began))
        tls.wait_for_judgement(max(JUDGED / 4, min(JUDGED, 2 * (time.monotonic() - began))) if tls.is_13 else 0.0)
        if trial.address.scheme == "https":
            known = _asked_by_http(tls, trial, known)
            if known.verdict == "refused":
                return known
        else:
            # Something has to be said and answered before TLS 1.3 shows what became of the certificate.
            greetings.say_something(tls, trial.address.scheme)
            tls.wait_for_judgement(JUDGED)
            if tls.asked and not tls.is_judged:
                known = replace(known, caution="It has said nothing since, and may still refuse the certificate.")
    except Untrusted as failure:
        return replace(_with(known, tls), verdict="untrusted", sentence=str(failure), sent="")
    except Ended as failure:
        return _refused(replace(_with(known, tls), alert=failure.alert), failure.alert, tls)
    except HungUp as failure:
        return _hung_up(_with(known, tls), failure, tls)
    return _came_about(known, tls, trial)


def _with(known: Finding, tls: Tls) -> Finding:
    """What is known of the connection by now."""
    accepts = tls.accepts
    return replace(
        known,
        tls=tls.version,
        cipher=tls.cipher,
        server=tls.peer,
        asked=tls.asked if tls.is_over else (True if tls.asked else None),
        accepts=tuple(accepts[:ACCEPTS_SHOWN]),
        accepts_count=len(accepts),
        among=tls.is_ours_among,
        sent=tls.sent if tls.asked else "",
    )


def _refused(known: Finding, alert: str, tls: Tls) -> Finding:
    if not tls.asked:
        return replace(known, sentence=f"No TLS connection came about: {alerts.WORDS.get(alert, alert)} ({alert}).")
    words = alerts.OF_THE_CERTIFICATE.get(alert) or alerts.WORDS.get(alert, "it gave no reason that is known")
    what = "the certificate" if known.sent else "a connection without a certificate"
    return replace(known, verdict="refused", sentence=f"The server refused {what}: {words} ({alert}).")


def _hung_up(known: Finding, failure: HungUp, tls: Tls) -> Finding:
    if failure.in_time and tls.asked:
        sentence = "The server hung up after the certificate was sent, without a word; many do so when they refuse it."
        if not known.sent:
            sentence = "The server asked for a certificate and hung up when none came."
        return replace(known, verdict="refused", sentence=sentence)
    return replace(known, sentence=str(failure))


def _asked_by_http(tls: Tls, trial: Trial, known: Finding) -> Finding:
    """RFC 9110: one GET, of which only the status and the beginning of the answer are read."""
    status, beginning = greetings.get(tls, trial.address)
    if status is None:
        return replace(known, caution="What answered over this connection is not HTTP.")
    known = replace(known, status=status)
    said = beginning.lower()
    # nginx shakes hands with everybody, and says afterwards what it thought of the certificate.
    if status in (495, 496) or (status == 400 and b"ssl certificate" in said):
        none = b"no required" in said or status == 496
        words = "it demands a certificate and got none" if none else "it does not accept this one"
        return replace(known, verdict="refused", sentence=f"The server refused the certificate: {words} ({status}).")
    match status:
        case 401:
            caution = "It answered 401: it wants to know who calls, beside the certificate, or does not know this one."
        case 403:
            caution = "It answered 403: whoever bears this certificate may not read this path, or may not call at all."
        case _ if status >= 500:
            caution = f"It answered {status}: the server has trouble of its own."
        case 400:
            caution = "It answered 400: it did not understand the request, or wants another certificate."
        case _:
            caution = ""
    return replace(known, caution=caution)


def _came_about(known: Finding, tls: Tls, trial: Trial) -> Finding:
    answered = f" It answered {known.status}." if known.status and not known.caution else ""
    if not tls.asked:
        sentence = "The server did not ask for a certificate, so none was sent."
        return replace(known, verdict="not-asked", sentence=f"{sentence}{answered}")
    if trial.identity is None:
        return replace(known, verdict="accepted", sentence=f"The server goes on without a certificate.{answered}")
    if known.among is False and not known.caution:
        named = " and ".join(known.accepts[:2]) or "others"
        more = f" and {known.accepts_count - 2} more" if known.accepts_count > 2 else ""
        known = replace(
            known,
            caution=f"It asks for certificates of {named}{more}; ours is none, so an app in Java may send none.",
        )
    return replace(known, verdict="accepted", sentence=f"The server accepted {tls.sent}.{answered}")


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
