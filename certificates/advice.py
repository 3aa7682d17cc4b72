"""What to write to whoever sent a file that is refused: a message that is ready to copy, with the command to run.

No Django here. Commands are for OpenSSL 1.1.1 and newer, or for keytool where Java wrote the file.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from certificates.diagnosis import Refusal

_ANEW: Final = (
    "openssl pkcs12 -export -in certificate-and-chain.pem -inkey private-key.pem -out {new} \\\n"
    "    -keypbe AES-256-CBC -certpbe AES-256-CBC -macalg sha256 -iter 10000"
)
_CONVERT: Final = (
    "openssl pkcs12 -legacy -in {file} -nodes -out everything.pem\n"
    "openssl pkcs12 -export -in everything.pem -out {new} \\\n"
    "    -keypbe AES-256-CBC -certpbe AES-256-CBC -macalg sha256 -iter 10000\n"
    "rm everything.pem"
)
_WINDOWS: Final = (
    "In Windows: certlm.msc, the certificate, All Tasks, Export…; choose “Yes, export the private key”, “Include all"
    " certificates in the certification path”, and AES256-SHA256."
)
_KEYTOOL: Final = "keytool -importkeystore -srckeystore {file} -destkeystore {new} -deststoretype PKCS12"
_CHECK: Final = "openssl pkcs12 -in {file} -noout -info"
_SAME_KEY: Final = (
    "openssl x509 -in certificate.pem -noout -pubkey | openssl sha256\n"
    "openssl pkey -in private-key.pem -pubout | openssl sha256\n"
)


@dataclass(frozen=True)
class Request:
    """What to ask for, the command to run, and whether the steps in Windows help too."""

    words: str
    command: str = ""
    windows: bool = False


# By code.
_REQUESTS: Final[dict[str, Request]] = {
    "wrong_password": Request(
        "The password that we have for it does not open it. Please check with this command that yours does, and send it"
        " to us again on another way than the file:",
        _CHECK,
    ),
    "wrong_password_or_damaged": Request(
        "The password that we have for it does not open it, or the file was damaged on its way. Please check with this"
        " command that it opens at your end, and send file and password again, on two ways:",
        _CHECK,
    ),
    "entry_password_differs": Request(
        "Its private key has a password of its own. Please send us that one too, or make it the same:",
        _KEYTOOL.replace(" -destkeystore", " -srcstoretype PKCS12 -destkeystore"),
    ),
    "damaged": Request("It was damaged: {reason}. Please export it again:", _ANEW, windows=True),
    "truncated": Request(
        "It arrived incomplete. Please send it again, inside a zip archive if by mail; or export it again:",
        _ANEW,
        windows=True,
    ),
    "unsupported_algorithm": Request(
        "It uses {algorithm}, which our software does not read. Please convert it:", _CONVERT, windows=True
    ),
    "limit_exceeded": Request(
        "It asks for more work than any ordinary file ({what}: {figure}). Please export it again:", _ANEW, windows=True
    ),
    "no_private_key": Request(
        "It holds certificates and no private key. Please export it with its private key:", _ANEW, windows=True
    ),
    "no_certificate": Request(
        "It holds a private key and no certificate. Please export both together:", _ANEW, windows=True
    ),
    "key_certificate_mismatch": Request(
        "Its private key belongs to none of its certificates: the first two commands must print the same. Please export"
        " the certificate with its own key:",
        _SAME_KEY + _ANEW,
        windows=True,
    ),
    "unreadable_certificate": Request(
        "A certificate in it breaks the format of X.509 ({place}), so that strict software refuses it. Please have it"
        " issued again."
    ),
}
# By what it looks like instead of PKCS #12.
_LOOKS: Final[dict[str, Request]] = {
    "jks": Request("It is a Java key store of the old kind. Please convert it to PKCS #12:", _KEYTOOL),
    "jceks": Request(
        "It is a Java key store of the kind JCEKS. Please convert it to PKCS #12:", _KEYTOOL + " -srcstoretype JCEKS"
    ),
    "request": Request(
        "It is a certificate request. Please export the certificate that was issued for it, with its key:",
        _ANEW,
        windows=True,
    ),
    "something-in-front": Request(
        "It was changed on its way, as in a transfer as text. Please send it in binary, or inside a zip archive."
    ),
    "text-mangled": Request("It was rewritten as text on its way. Please send it in binary, or inside a zip archive."),
    "html": Request("What arrived is a web page and not the file. Please send the file itself."),
    "empty": Request("It arrived empty. Please send it again."),
}
_OTHER: Final = Request(
    "It is not a PKCS #12 file (.pfx or .p12). Please export certificate and private key as one:", _ANEW, windows=True
)


def message(refusal: Refusal, file_name: str) -> str | None:
    """The message for the sender of this file, in plain text; None where it is not the sender's matter."""
    if refusal.code == "not_pkcs12":
        request = _LOOKS.get(refusal.looks_like or "", _OTHER)
    elif refusal.code in _REQUESTS:
        request = _REQUESTS[refusal.code]
    else:
        return None
    name = _plain(file_name) or "certificate.pfx"
    values = {
        "reason": refusal.details.get("place", ""),
        "file": shlex.quote(name),
        "new": shlex.quote(f"{PurePath(name).stem}-new.pfx"),
    }
    words = request.words.format(**refusal.details | values)
    parts = [f"Hello,\n\nwe cannot use the file {name} that you sent us. {words}"]
    if request.command:
        parts.append("    " + request.command.format(**values).replace("\n", "\n    "))
    if request.windows:
        parts.append(_WINDOWS)
    return "\n\n".join([*parts, "Thank you."])


def _plain(name: str) -> str:
    """A file's name without what could mislead in a message or a shell: one line, no folders, at most 100."""
    kept = "".join(letter for letter in PurePath(name.replace("\\", "/")).name if letter.isprintable())
    return kept.lstrip("-")[:100]
