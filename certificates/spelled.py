"""Distinguished names as RFC 4514 writes them, and what else of a certificate people read. No Django."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any


def name_parts(name: str) -> list[str]:
    """The parts of an RFC 4514 name (“CN=Bank\\, Inc,O=Bank”) as people read them, without its escapes (§2.4)."""
    parts = re.findall(r"(?:\\.|[^,\\])+", name, re.S)
    return [re.sub(r"((?:\\[0-9A-Fa-f]{2})+)|\\(.)", _unescaped, part, flags=re.S).strip() for part in parts]


def _unescaped(found: re.Match[str]) -> str:
    pairs, character = found.groups()
    return bytes.fromhex(pairs.replace("\\", "")).decode(errors="replace") if pairs else character


@lru_cache(maxsize=1024)
def readable(name: str) -> str:
    """An RFC 4514 name in one line, for reading and never for comparing."""
    return ", ".join(name_parts(name))


def common_name(name: str) -> str:
    """The common name in an RFC 4514 name, or the whole name where there is none."""
    found = [part[3:] for part in name_parts(name) if part.startswith("CN=")]
    return found[0] if found and found[0] else readable(name)


def key_of(version: Any) -> str:
    """“RSA 2048”, “EC P-256”, “Ed25519”; of what has `key_kind` and `key_bits`."""
    return f"{version.key_kind} {version.key_bits}" if version.key_kind in ("RSA", "DSA") else str(version.key_kind)
