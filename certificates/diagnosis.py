"""Why a file is refused: a closed set of codes, each with one sentence that says what is wrong and what to do.

No Django here. A sentence is a template that is filled with public details only: never a password, never key bytes.
The same details travel from the reading process back to the portal, which fills the same template.
"""

from __future__ import annotations

from typing import Final

Detail = str | int | list[dict[str, str]]

SENTENCES: Final[dict[str, str]] = {
    "password_not_expressible": "This cannot be the password of a .pfx, because {reason}; check what was pasted.",
    "not_pkcs12": "This is not a PKCS #12 file (.pfx or .p12): {looks}.",
    "truncated": (
        "This file stops too early: it announces {announced:,} bytes and has {size:,}, so the copy is incomplete; fetch"
        " or ask for it again."
    ),
    "wrong_password": (
        "The password does not open this file; check it (capitals, and spaces at its ends), then ask the partner to"
        " confirm it."
    ),
    "damaged": "This file is damaged ({place}); fetch it again or ask the partner to export it anew.",
    "wrong_password_or_damaged": (
        "The password does not open this file, or the file is damaged, and nothing in it tells which; check the"
        " password (capitals, and spaces at its ends), then ask the partner to confirm it or to export the file again."
    ),
    "entry_password_differs": (
        "The password is that of the file, but the private key inside has another one; ask the partner for the password"
        " of the key and type it as well."
    ),
    "limit_exceeded": ("This file asks for more than is allowed: {what} is {figure}, the limit is {limit}; {request}."),
    "unsupported_algorithm": "This file uses {algorithm}, which cannot be read here; {request}.",
    "no_private_key": (
        "This file holds no private key (certificates in it: {certificates}); ask the partner for the .pfx that was"
        " exported with its private key."
    ),
    "no_certificate": (
        "This file holds a private key but no certificate; ask the partner to export the certificate together with its"
        " key, or add the certificate to the upload."
    ),
    "key_certificate_mismatch": (
        "No certificate in this file belongs to its private key; ask the partner to export the certificate together"
        " with its own key."
    ),
    "several_keys": "This file holds {keys} private keys, each with its certificate ({names}); say which one you need.",
    "unreadable_certificate": (
        "A certificate in this file breaks the X.509 format ({place}); ask the partner to have it issued again."
    ),
    # Of the service, and not of the file.
    "too_slow": (
        "Reading this file took longer than {seconds} s and was stopped; ask the partner to export it with ordinary"
        " settings."
    ),
    "busy": "Other files are being read at this moment and nothing was changed; try again in a minute.",
    "reader_stopped": (
        "Reading this file failed unexpectedly and nothing was changed; ask the partner to export it again with AES-256"
        " and SHA-256."
    ),
}

_BESIDE_THE_PASSWORD: Final = frozenset(
    {"password_not_expressible", "wrong_password", "wrong_password_or_damaged", "entry_password_differs"}
)

# What to do: the end of the sentences `unsupported_algorithm` and `limit_exceeded`, by `kind` (the first is the usual).
_REQUESTS: Final = {
    "unsupported_algorithm": {
        "protection": "ask the partner to export it with AES-256 and SHA-256",
        "key": "ask the partner for a certificate with an RSA or an elliptic-curve (EC) key",
        "ssh": "ask the partner to convert the key with ssh-keygen -p -m PKCS8",
    },
    "limit_exceeded": {
        "work": "ask the partner to export it with ordinary settings",
        "size": "a .pfx has a few thousand bytes, so check that it is the right file",
        "files": "upload those of one certificate at a time",
    },
}

# What a file looks like that is not PKCS #12, and what to do about it. The end of the sentence `not_pkcs12`.
LOOKS: Final[dict[str, str]] = {
    "empty": "it is empty; ask the partner to send it again",
    "pem-pkcs12": "it is one written as PEM text; decode it to its binary form or ask the partner for the binary .pfx",
    "pem-certificate-and-key": "it is PEM text with a certificate and a key; ask the partner to export both as a .pfx",
    "pem-certificate": "it is PEM text with a certificate and no private key; ask the partner for the .pfx with it",
    "pem-key": "it is PEM text with a private key only; ask the partner for the .pfx with key and certificate",
    "pem": "it is PEM text; ask the partner for the binary .pfx",
    "base64": "it is base64 text; decode it to its binary form or ask the partner for the binary .pfx",
    "zip": "it is a zip archive; unpack it and upload the .pfx inside",
    "gzip": "it is compressed with gzip; unpack it and upload the .pfx inside",
    "7z": "it is a 7-Zip archive; unpack it and upload the .pfx inside",
    "jks": "it is a Java key store (JKS); ask the partner to convert it with keytool -importkeystore to PKCS12",
    "jceks": "it is a Java key store (JCEKS); ask the partner to convert it with keytool -importkeystore to PKCS12",
    "pkcs7": "it is PKCS #7 (.p7b), which carries certificates and never a private key; ask the partner for the .pfx",
    "certificate": "it is a certificate without its private key (.cer, .crt); ask the partner for the .pfx with it",
    "request": "it is a certificate request (.csr); ask the partner for the .pfx that was made after it was signed",
    "private-key": "it is a private key without a certificate; ask the partner for the .pfx with both",
    "html": "it is a web page, often a log-in or error page saved under the name of a .pfx; download the file again",
    "pdf": "it is a PDF document; ask the partner for the .pfx",
    "json": "it is JSON text; look inside it for the .pfx or ask the partner for it",
    "something-in-front": (
        "something stands in front of it, as after a transfer as text; send it again in binary or inside a zip"
    ),
    "text-mangled": "its bytes were rewritten as text on the way; send it again in binary or inside a zip",
    "text": "it is plain text; ask the partner for the binary .pfx",
    "other-der": "it is another kind of ASN.1 file; ask the partner for the .pfx with key and certificate",
    "unknown": "its first bytes belong to no format that is known here; ask the partner for the .pfx",
}


class Refusal(Exception):
    """A file that is not taken in. `str(refusal)` is the sentence for the operator; `code` is one of SENTENCES' keys.

    `field` says beside which field of a form the sentence belongs: "file" or "password". `details` are the template's
    public values, as JSON can carry them.
    """

    def __init__(self, code: str, /, **details: Detail) -> None:
        self.code = code
        self.details = details
        values: dict[str, Detail] = dict(details)
        if code == "not_pkcs12":
            values["looks"] = LOOKS[str(details["looks_like"])]
        if requests := _REQUESTS.get(code):
            values["request"] = requests[str(details.get("kind", next(iter(requests))))]
        super().__init__(SENTENCES[code].format(**values))

    @property
    def field(self) -> str:
        return "password" if self.code in _BESIDE_THE_PASSWORD else "file"

    @property
    def looks_like(self) -> str | None:
        """For `not_pkcs12`, a key of LOOKS; else None."""
        kind = self.details.get("looks_like")
        return None if kind is None else str(kind)

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (self.code, self.details)


def _again(code: str, details: dict[str, Detail]) -> Refusal:
    return Refusal(code, **details)


_SIGNATURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\xfe\xed\xfe\xed", "jks"),
    (b"\xce\xce\xce\xce", "jceks"),
    (b"%PDF", "pdf"),
)
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_REPLACEMENT_CHARACTER: Final = b"\xef\xbf\xbd"


def looks_like(file: bytes) -> str | None:
    """What the first bytes of `file` show: a key of LOOKS, or None where it may be DER and deserves a closer look."""
    if not file:
        return "empty"
    for signature, kind in _SIGNATURES:
        if file.startswith(signature):
            return kind
    if _REPLACEMENT_CHARACTER in file[:16]:
        return "text-mangled"
    if file[:1] == b"\x30" and not file[:64].isascii():
        return None
    text = file.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if b"-----BEGIN " in text[:65536]:
        return _pem(text)
    if text[:1] == b"<":
        return "html"
    if text[:1] in (b"{", b"["):
        return "json"
    if file[:1] == b"\x30":
        return None
    if text[:2] in (b"\x30\x80", b"\x30\x81", b"\x30\x82", b"\x30\x83"):
        return "something-in-front"
    if text[:2] == b"MI" and _is_base64(text[:4096]):
        return "base64"
    return "text" if text and _is_text(text[:512]) else "unknown"


def _pem(text: bytes) -> str:
    certificate = b"BEGIN CERTIFICATE-----" in text or b"BEGIN TRUSTED CERTIFICATE-----" in text
    key = b"PRIVATE KEY-----" in text
    if b"BEGIN PKCS12-----" in text:
        return "pem-pkcs12"
    if b"BEGIN PKCS7-----" in text:
        return "pkcs7"
    if b"CERTIFICATE REQUEST-----" in text and not certificate:
        return "request"
    if certificate:
        return "pem-certificate-and-key" if key else "pem-certificate"
    return "pem-key" if key else "pem"


def _is_base64(text: bytes) -> bool:
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_ \t\r\n"
    return not text.translate(None, alphabet)


def _is_text(text: bytes) -> bool:
    return all(byte >= 0x20 or byte in b"\t\r\n" for byte in text) and text.isascii()
