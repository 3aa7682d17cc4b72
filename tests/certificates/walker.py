"""A second reader of the structure of PKCS #12, for the tests alone: it decides what can be known about a file, so that
the reader under test does not judge itself. It trusts its input, knows nothing of limits, and shares no code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ENCRYPTED_DATA = bytes.fromhex("2a864886f70d010706")
SHROUDED_KEY = bytes.fromhex("2a864886f70d010c0a0102")


@dataclass
class Shape:
    """What stands in a file without its password. `octets` is the content that a MAC covers."""

    has_mac: bool
    encrypted_parts: int
    octets: bytes

    @property
    def tells_a_wrong_password(self) -> bool:
        """A check fails and every part stays closed: that is a wrong password, whatever else it might be."""
        return self.has_mac and self.encrypted_parts > 0


def values(data: bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes, int]]:
    """Identifier, contents and end of each value from `at` on."""
    end = len(data) if end is None else end
    while at < end:
        tag, first, at = data[at], data[at + 1], at + 2
        if first == 0x80:
            start = at
            while data[at : at + 2] != b"\0\0":
                at = next(values(data, at))[2]
            yield tag, data[start:at], at + 2
            at += 2
            continue
        size = first
        if first > 0x80:
            size, at = int.from_bytes(data[at : at + (first & 0x7F)], "big"), at + (first & 0x7F)
        yield tag, data[at : at + size], at + size
        at += size


def inside(contents: bytes) -> list[tuple[int, bytes]]:
    return [(tag, part) for tag, part, _end in values(contents)]


def joined(tag: int, contents: bytes) -> bytes:
    return b"".join(joined(*part) for part in inside(contents)) if tag & 0x20 else contents


def shape(file: bytes) -> Shape:
    _tag, pfx, _end = next(values(file))
    _version, (_t, content), *mac = inside(pfx)
    octets = joined(*inside(inside(content)[1][1])[0])
    encrypted = 0
    for _tag, safe in inside(next(values(octets))[1]):
        (_t, kind), (_t2, value) = inside(safe)[:2]
        if kind == ENCRYPTED_DATA:
            encrypted += 1
        else:
            for _tag, bag in inside(next(values(joined(*inside(value)[0])))[1]):
                encrypted += inside(bag)[0][1] == SHROUDED_KEY
    return Shape(bool(mac), encrypted, octets)
