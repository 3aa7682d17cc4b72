"""One TLS connection as a client, over an open socket, with a key that stays in memory.

Bytes go through memory (pyOpenSSL's BIO pair), so that every wait has a limit and every record is seen.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_der_private_key
from OpenSSL import SSL, crypto

from rollouts.probing import alerts

if TYPE_CHECKING:
    from rollouts.probing import Trial

# openssl/ssl.h: SSL_CB_ALERT and SSL_CB_READ of an info callback; SSL_MODE_NO_AUTO_CHAIN, because a runtime sends the
# chain that its file has, and no certificate that happens to be trusted; SSL_OP_LEGACY_SERVER_CONNECT, as Java does.
_ALERT, _READ, _NO_AUTO_CHAIN, _LEGACY = 0x4000, 0x04, 0x8, 0x4
_REQUEST_SEEN: Final = b"read server certificate request"
_TICKET_SEEN: Final = b"read server session ticket"
# Of a server's alternative names, as many are told.
NAMES_SHOWN: Final = 10
# X509_verify_cert(3) → words that complete “The server's certificate …”
_WHY: Final = {
    9: "is not valid yet",
    10: "has expired",
    18: "is signed by itself and is not trusted here",
    23: "was revoked",
    26: "is not meant for servers",
}


@dataclass(frozen=True)
class Peer:
    """The certificate that the server showed. Names as RFC 4514 texts; `not_after` is ISO 8601."""

    subject: str
    issuer: str
    issuer_common_name: str
    not_after: str
    sha256: str
    names: tuple[str, ...]


class Untrusted(Exception):
    """One sentence: why the app would not believe this server."""


class Ended(Exception):
    """The server ended the connection with this alert."""

    def __init__(self, alert: str) -> None:
        super().__init__(alert)
        self.alert = alert


class HungUp(Exception):
    """The server closed the connection (`in_time`), or said nothing for too long; one sentence."""

    def __init__(self, sentence: str, *, in_time: bool) -> None:
        super().__init__(sentence)
        self.in_time = in_time


class Tls:
    """`shake_hands`, then `send` and `read`. Raises Untrusted, Ended and HungUp, from each of them."""

    def __init__(self, connection: socket.socket, trial: Trial, until: float) -> None:
        self._connection, self._until = connection, until
        self._host = trial.address.host
        self.asked = False
        self.is_over = False
        self.sent = ""
        self.peer: Peer | None = None
        self._judged = False
        self._alert = ""
        self._distrust = ""
        self._issuers: set[bytes] = set()
        context = self._context(trial)
        # A door to the network of its own: what is written comes out of it as records, and the other way round.
        self._tls = SSL.Connection(context, None)
        self._tls.set_connect_state()
        if not _is_address(self._host):
            self._tls.set_tlsext_host_name(self._host.encode("ascii"))

    def _context(self, trial: Trial) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        # Level 0: what the key is good for is the server's to judge here, and was said when it was uploaded.
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        context.set_options(_LEGACY)
        context.set_mode(_NO_AUTO_CHAIN)
        context.load_verify_locations(certifi.where())
        store = context.get_cert_store()
        assert store is not None
        # As a Java trust store: what is in it is believed, whether or not it is a root.
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        for authority in trial.authorities:
            store.add_cert(crypto.X509.from_cryptography(x509.load_der_x509_certificate(authority)))
        context.set_verify(SSL.VERIFY_PEER, self._believe)
        context.set_info_callback(self._note)
        if trial.identity is not None:
            certificate = x509.load_der_x509_certificate(trial.identity.certificate)
            chain = [x509.load_der_x509_certificate(link) for link in trial.identity.chain]
            context.use_certificate(certificate)
            key: Any = load_der_private_key(trial.identity.key, None)
            context.use_privatekey(key)
            for link in chain:
                context.add_extra_chain_cert(link)
            self.sent = certificate.subject.rfc4514_string() or "a certificate without a subject"
            self._issuers = {one.issuer.public_bytes() for one in (certificate, *chain)}
        return context

    # --- What is known of it ---

    @property
    def version(self) -> str:
        return self._tls.get_protocol_version_name().replace("TLSv", "TLS ") if self.peer else ""

    @property
    def is_13(self) -> bool:
        return self.version == "TLS 1.3"

    @property
    def is_judged(self) -> bool:
        """Whether the server has shown that it is done with the certificate: TLS 1.2 ends with that, and in TLS 1.3 it
        says something afterwards, a ticket at least."""
        return self._judged or not self.is_13

    @property
    def cipher(self) -> str:
        return self._tls.get_cipher_name() or ""

    @property
    def accepts(self) -> list[str]:
        """The authorities of which the server accepts certificates, as it says (RFC 8446 §4.2.4, RFC 5246 §7.4.4)."""
        return [_spelled(name) for name in self._tls.get_client_ca_list()] if self.asked else []

    @property
    def is_ours_among(self) -> bool | None:
        """None where the server names none, which means any, or where nothing is sent."""
        accepted = {name.der() for name in self._tls.get_client_ca_list()} if self.asked else set()
        return bool(accepted & self._issuers) if accepted and self._issuers else None

    # --- Going on ---

    def shake_hands(self) -> None:
        self._go_on(self._tls.do_handshake, self._until)
        self.is_over = True

    def wait_for_judgement(self, seconds: float) -> None:
        """Until the server has said something that it says only after it has judged the certificate, or the time is
        over. What it says is kept for `read`."""
        until = min(self._until - 0.001, time.monotonic() + seconds)
        if self._judged or self._tls.pending():
            return
        # Reading nothing would read no record either; a peek reads one and leaves its content.
        with suppress(TimeoutError):
            self._go_on(lambda: self._tls.recv(1, socket.MSG_PEEK), until, judged=True)
            self._judged = True

    def send(self, what: bytes) -> None:
        self._go_on(lambda: self._tls.sendall(what), self._until)

    def read(self, most: int) -> bytes:
        """As much as comes, at most so many bytes, until the server is done; once the fields of an answer are there,
        its content is waited for only a moment. Never nothing."""
        found, until = b"", self._until
        while len(found) < most:
            try:
                found += self._go_on(lambda: self._tls.recv(most), until)
            except (TimeoutError, HungUp):
                if found:
                    break
                raise
            if b"\r\n\r\n" in found:
                until = min(until, time.monotonic() + 0.5)
        return found

    def _go_on(self, step: Any, until: float, *, judged: bool = False) -> Any:
        """Makes a step, carrying records to and fro until it is made, or, with `judged`, until that is known."""
        while True:
            try:
                made = step()
            except SSL.WantReadError:
                self._carry_out(until)
                if judged and self._judged:
                    return None
                self._carry_in(until)
            except SSL.ZeroReturnError:
                raise HungUp("The server closed the connection without an answer.", in_time=True) from None
            except SSL.Error as error:
                self._carry_out(until, quietly=True)
                self._tell(error)
            else:
                self._carry_out(until)
                return made

    def _tell(self, error: SSL.Error) -> None:
        """As an exception of ours. Raises always."""
        if self._distrust:
            raise Untrusted(self._distrust) from None
        if self._alert:
            raise Ended(self._alert) from None
        reasons = [str(reason) for *_lib, reason in (error.args[0] if error.args else ()) if reason]
        if any("wrong version number" in reason or "packet length" in reason for reason in reasons):
            raise HungUp("What answered there does not speak TLS.", in_time=False) from None
        if any("unsupported protocol" in reason for reason in reasons):
            raise HungUp(
                "The server speaks no version of TLS that today's runtimes speak (1.2 or 1.3).", in_time=False
            ) from None
        raise HungUp(f"The TLS handshake failed ({'; '.join(reasons) or 'no reason given'}).", in_time=False) from None

    def _carry_out(self, until: float, *, quietly: bool = False) -> None:
        while True:
            try:
                records = self._tls.bio_read(65536)
            except SSL.WantReadError:
                return
            try:
                self._connection.settimeout(max(0.001, until - time.monotonic()))
                self._connection.sendall(records)
            except OSError as error:
                if quietly:
                    return
                # It may have said why before it hung up.
                self._drain()
                raise HungUp(
                    f"The connection broke off ({error.strerror or 'no reason given'}).", in_time=True
                ) from None

    def _carry_in(self, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0:
            raise self._silent(until)
        self._connection.settimeout(left)
        try:
            records = self._connection.recv(65536)
        except TimeoutError:
            raise self._silent(until) from None
        except OSError as error:
            raise HungUp(f"The connection broke off ({error.strerror or 'no reason given'}).", in_time=True) from None
        if not records:
            if self.is_over:
                raise HungUp("The server hung up.", in_time=True)
            raise HungUp("The server hung up in the middle of the handshake.", in_time=True)
        self._tls.bio_write(records)

    def _drain(self) -> None:
        """Reads what has arrived already, for the alert in it."""
        try:
            self._connection.settimeout(0.2)
            while records := self._connection.recv(65536):
                self._tls.bio_write(records)
        except OSError:
            pass
        try:
            self._tls.recv(1)
        except SSL.Error:
            if self._alert:
                raise Ended(self._alert) from None

    def _silent(self, until: float) -> Exception:
        if until < self._until:
            return TimeoutError()
        what = "answer" if self.is_over else "finish the handshake"
        return HungUp(f"The server did not {what} in time.", in_time=False)

    # --- What OpenSSL tells ---

    def _note(self, connection: SSL.Connection, where: int, value: int) -> None:
        if where & _ALERT:
            if where & _READ and value & 0xFF:
                self._alert = alerts.name(value & 0xFF)
            return
        state = connection.get_state_string()
        if _REQUEST_SEEN in state:
            self.asked = True
        elif _TICKET_SEEN in state and self.is_over:
            self._judged = True

    def _believe(self, _connection: SSL.Connection, shown: crypto.X509, problem: int, depth: int, fine: int) -> bool:
        certificate = shown.to_cryptography()
        if depth == 0:
            self.peer = _peer(certificate)
        if not fine:
            self._distrust = _distrust(certificate, problem, depth)
            return False
        if depth == 0 and not _names(certificate, self._host):
            known = ", ".join(self.peer.names if self.peer else ()) or "no names"
            self._distrust = f"The server's certificate is for {known}, and not for {self._host}."
            return False
        return True


def _distrust(certificate: x509.Certificate, problem: int, depth: int) -> str:
    which = "The server's certificate" if depth == 0 else f"A certificate above the server's ({_common(certificate)})"
    if problem in _WHY:
        until = f" on {certificate.not_valid_after_utc:%-d %b %Y}" if problem == 10 else ""
        return f"{which} {_WHY[problem]}{until}."
    if problem in (2, 19, 20, 21, 27):
        top = _common(certificate) if problem == 19 else _common(certificate, issuer=True)
        return f"The server's certificate is from “{top}”, which is not trusted here; add that authority."
    return f"{which} does not verify (OpenSSL's reason {problem})."


def _common(certificate: x509.Certificate, *, issuer: bool = False) -> str:
    name = certificate.issuer if issuer else certificate.subject
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string() or "nobody"


def _peer(certificate: x509.Certificate) -> Peer:
    names = _alternatives(certificate)
    return Peer(
        certificate.subject.rfc4514_string(),
        certificate.issuer.rfc4514_string(),
        _common(certificate, issuer=True),
        certificate.not_valid_after_utc.isoformat(),
        certificate.fingerprint(hashes.SHA256()).hex(),
        tuple(names[:NAMES_SHOWN]),
    )


def _alternatives(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]


def _names(certificate: x509.Certificate, host: str) -> bool:
    """RFC 9525 §6: an alternative name that is the host, or differs in its first label alone, which is `*`."""
    names = [name.lower() for name in _alternatives(certificate)]
    if _is_address(host):
        return str(ipaddress.ip_address(host)) in names
    first, _dot, rest = host.partition(".")
    return host in names or bool(first and rest and f"*.{rest}" in names)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _spelled(name: crypto.X509Name) -> str:
    parts = [(key.decode("ascii", "replace"), value.decode("utf-8", "replace")) for key, value in name.get_components()]
    return ",".join(f"{key}={value}" for key, value in reversed(parts))
