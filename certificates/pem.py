"""Text with keys and certificates: PEM (RFC 7468), with the encrypted keys of old OpenSSL (RFC 1421), or bare base64.

No Django here. One pass over the lines, whatever stands between them; nothing here grows faster than the text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import textwrap
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from certificates import old_ciphers
from certificates.diagnosis import Refusal

MAX_BLOCKS: Final = 200
# DEK-Info: cipher, bytes of key, bytes of block.
_CIPHERS: Final = {
    "AES-128-CBC": ("AES", 16, 16),
    "AES-192-CBC": ("AES", 24, 16),
    "AES-256-CBC": ("AES", 32, 16),
    "DES-EDE3-CBC": ("DES", 24, 8),
    "DES-CBC": ("DES", 8, 8),
    "RC2-CBC": ("RC2", 16, 8),
    "RC2-64-CBC": ("RC2", 8, 8),
    "RC2-40-CBC": ("RC2", 5, 8),
}
_BASE64: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_ \t\r\n")


@dataclass(frozen=True)
class Block:
    """One armoured part: its label, its bytes, and how those are encrypted (`DEK-Info`), "" where they are not."""

    label: str
    content: bytes = field(repr=False)
    encryption: str = ""


def armoured(der: bytes, label: str = "CERTIFICATE") -> str:
    """RFC 7468: base64 in lines of 64 characters between two lines that name what it is."""
    lines = textwrap.wrap(base64.b64encode(der).decode("ascii"), 64)
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""))


def text_of(file: bytes) -> str | None:
    """The file as text, as editors and mail programs write it (with a mark in front, or in UTF-16); None for others."""
    if file[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = file.decode("utf-16", "ignore")
    else:
        text = file.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    return text if "-----BEGIN " in text or is_base64(text.encode("latin-1", "ignore")) else None


def is_base64(text: bytes) -> bool:
    """Whether this could be DER in base64, without armour."""
    text = text.lstrip()
    return text[:2] in (b"MI", b"MH") and not set(text) - _BASE64


def blocks(text: str) -> list[Block]:
    """The armoured parts in their order, or the one that bare base64 is (with an empty label). Raises Refusal."""
    if "-----BEGIN " not in text:
        return [Block("", _decoded("".join(text.split())))]
    found: list[Block] = []
    label: str | None = None
    headers: dict[str, str] = {}
    lines: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("-----BEGIN ") and bare.endswith("-----"):
            label, headers, lines = bare[11:-5], {}, []
        elif label is not None and bare.startswith("-----END "):
            found.append(Block(label, _decoded("".join(lines)), headers.get("DEK-Info", "")))
            label = None
            if len(found) > MAX_BLOCKS:
                raise Refusal("limit_exceeded", what="the number of its parts", figure="more", limit=str(MAX_BLOCKS))
        elif label is not None and ":" in bare:
            name, _, value = bare.partition(":")
            headers[name.strip()] = value.strip()
        elif label is not None:
            lines.append("".join(bare.split()))
    if label is not None:
        raise Refusal("damaged", place=f"its part “{label[:40]}” has no end")
    return found


def decrypted(block: Block, password: str) -> bytes | None:
    """The key that OpenSSL's own way encrypted: key by MD5 of password and IV (EVP_BytesToKey, once). None: not with
    this password. Raises Refusal for a cipher that is not read here.
    """
    name, _, text = block.encryption.partition(",")
    if name not in _CIPHERS:
        raise Refusal("unsupported_algorithm", algorithm=name[:40] or "an encryption without a name")
    cipher, length, size = _CIPHERS[name]
    try:
        iv = bytes.fromhex(text.strip())
    except ValueError:
        iv = b""
    if len(iv) != size or not block.content or len(block.content) % size:
        raise Refusal("damaged", place="its private key has been cut")
    key, part = b"", b""
    while len(key) < length:
        part = hashlib.md5(part + password.encode() + iv[:8], usedforsecurity=False).digest()
        key += part
    key = key[:length]
    if cipher == "AES":
        decryptor = Cipher(AES(key), modes.CBC(iv)).decryptor()
        plain = decryptor.update(block.content) + decryptor.finalize()
    elif cipher == "DES":
        plain = old_ciphers.des_cbc(key, iv, block.content)
    else:
        plain = old_ciphers.rc2_cbc(key, 8 * length, iv, block.content)
    padding = plain[-1]
    whole = 1 <= padding <= size and plain.endswith(bytes([padding]) * padding)
    return plain[:-padding] if whole else None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal("damaged", place="its base64 has been changed or cut") from None
