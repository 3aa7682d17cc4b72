"""Does a password fit the integrity check of a PKCS #12 file? RFC 7292 §5.1 and appendix B.

No Django here. The library says the same for a wrong password and for a right one with unreadable contents; this
tells them apart after it has failed.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from certificates.outline import Mac

_DIGESTS: Final[dict[str, str]] = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
# The purpose "key for a MAC" of RFC 7292 §B.3.
_MAC_KEY: Final = b"\x03"


def verifies(mac: Mac, password: str) -> bool:
    """Whether `mac` is the one that `password` gives. False also for kinds that are not computed here (PBMAC1)."""
    name = _DIGESTS.get(mac.algorithm or "")
    if name is None:
        return False
    # An empty password is written as nothing by some and as a lone terminator by others (RFC 7292 §B.1).
    forms = [password.encode("utf-16-be") + b"\0\0"] + ([b""] if not password else [])
    return any(
        hmac.compare_digest(
            hmac.digest(_key(name, form, mac.salt, mac.iterations), mac.authenticated, name), mac.digest
        )
        for form in forms
    )


def _key(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
    """The MAC key, RFC 7292 §B.2. It is as long as the digest, so that algorithm's outer loop runs once."""
    digest = getattr(hashlib, name)
    block: int = digest().block_size
    key: bytes = digest(_MAC_KEY * block + _filled(salt, block) + _filled(password, block)).digest()
    for _ in range(iterations - 1):
        key = digest(key).digest()
    return key


def _filled(text: bytes, block: int) -> bytes:
    """Copies of `text` that fill a whole number of blocks; nothing for nothing."""
    length = block * -(-len(text) // block)
    return (text * (length // len(text) + 1))[:length] if text else b""
