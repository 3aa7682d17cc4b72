"""The alerts of TLS (RFC 8446 §6.2, RFC 5246 §7.2.2) in words."""

from __future__ import annotations

from typing import Final

NAMES: Final = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}

# Each completes “The server refused the certificate: …”.
OF_THE_CERTIFICATE: Final = {
    "bad_certificate": "it is damaged or does not pass the server's checks",
    "unsupported_certificate": "certificates of this kind are not supported there",
    "certificate_revoked": "it was revoked",
    "certificate_expired": "it has expired, or is not valid yet",
    "certificate_unknown": "the server did not say more; often it is not registered there",
    "unknown_ca": "the server does not know the authority that issued it, or an intermediate certificate is missing",
    "access_denied": "it is valid, and whoever bears it may not connect",
    "decrypt_error": "the signature made with its key does not verify there",
    "certificate_required": "the server demands one, and took what was sent for none",
    "handshake_failure": "the server did not say why; often it is of another authority, or was not wanted at all",
    "no_certificate": "none came where one is demanded",
    "illegal_parameter": "the server did not accept a value in it",
    "decode_error": "the server could not read it",
    "insufficient_security": "its key or signature is too weak for the server",
}

# Each completes “No TLS connection came about: …”.
WORDS: Final = {
    "handshake_failure": "server and runtime have no way of encryption in common",
    "protocol_version": "the server speaks no version of TLS that today's runtimes speak",
    "insufficient_security": "the server demands stronger encryption than is offered",
    "unrecognized_name": "the server does not know this name",
    "internal_error": "the server met an error of its own",
    "access_denied": "the server turned the caller away",
    "no_application_protocol": "the server speaks another protocol here",
    "close_notify": "the server closed the connection",
}


def name(number: int) -> str:
    return NAMES.get(number, f"alert {number}")
