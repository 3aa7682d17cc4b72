"""Opening a PKCS #12 file with a password, and telling why it does not open.

No Django here. The integrity check and every encrypted part are tried on their own, because together they tell a wrong
password from a file whose bytes were changed: libraries report one and the same error for both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from certificates.derivation import Work
from certificates.diagnosis import Refusal
from certificates.outline import CertificateBag, KeyBag, Outline, Sealed
from certificates.protection import Scheme, Spelling, spellings

# Beginnings of object identifiers that stand in keys, certificates and bags. At 4 bytes or more, a wrong password hits
# one by chance in a million files.
_TELLTALES: Final = tuple(
    bytes.fromhex(text)
    for text in (
        "060b2a864886f70d010c0a01",  # the kind of a bag
        "06092a864886f70d0101",  # RSA
        "06092a864886f70d0109",  # attributes of PKCS #9
        "06072a8648ce3d0201",  # EC keys
        "06082a8648ce3d04",  # ECDSA
        "06035504",  # parts of a distinguished name
        "0603551d",  # extensions of a certificate
        "06032b6570",  # Ed25519
        "06032b6571",  # Ed448
    )
)


@dataclass(frozen=True)
class FoundKey:
    """A private key as unencrypted PKCS #8 (not checked yet)."""

    pkcs8: bytes = field(repr=False)
    name: str | None = None
    local_key_id: bytes | None = None


@dataclass
class Opened:
    """What was inside. `password_checked` is False where the file says nothing about its password: any would do."""

    keys: list[FoundKey] = field(default_factory=list)
    certificates: list[CertificateBag] = field(default_factory=list)
    password_checked: bool = True
    locked_keys: int = 0
    schemes: list[Scheme] = field(default_factory=list)
    iterations: int = 0
    integrity: str = ""


@dataclass
class _Attempt:
    """What became of the encrypted parts so far. `evidence`: a part shows that the password is right for it."""

    ways: tuple[Spelling, ...]
    work: Work
    opened: int = 0
    failed: int = 0
    evidence: bool = False

    def open(self, part: Sealed) -> bytes | None:
        for number, way in enumerate(self.ways):
            if number and not self.work.left_for_more:
                break
            raw = part.scheme.decrypt(part.ciphertext, way, self.work)
            plain = part.scheme.unpad(raw)
            if plain is not None and is_one_list(plain):
                self.opened += 1
                self.evidence = True
                return plain
            if any(telltale in raw for telltale in _TELLTALES):
                self.evidence = True
        self.failed += 1
        return None


def open_pfx(seen: Outline, password: str, entry_password: str | None = None) -> Opened:
    """What is in a file, whose outline grows by what was encrypted. Raises Refusal.

    `entry_password` is that of the private key, where it has one of its own; both are tried on each part.
    """
    ways = spellings(password)
    mac_fits: bool | None = None
    if seen.mac is not None:
        fitting = _fitting(seen, ways)
        mac_fits = fitting is not None
        if fitting is not None:
            ways = (fitting, *(way for way in ways if way != fitting))
    if entry_password is not None:
        ways = (*ways, *spellings(entry_password))
    attempt = _Attempt(ways, seen.work)
    schemes = seen.schemes
    for safe in seen.safes:
        if (plain := attempt.open(safe)) is not None:
            before = len(seen.keys)
            try:
                seen.read_bags(plain, safe.depth)
            except Refusal:
                if mac_fits is False:
                    raise Refusal("damaged", place=CHANGED) from None
                raise
            schemes += [key.sealed.scheme for key in seen.keys[before:] if key.sealed]
    failed_safes = attempt.failed
    only_keys = failed_safes == len(seen.safes) > 0 and not attempt.evidence
    found = Opened(
        certificates=seen.certificates,
        schemes=schemes,
        iterations=max(seen.work.announced, default=0),
        integrity=seen.mac.title if seen.mac else "",
    )
    found.keys = list(_keys(seen.keys, attempt))
    found.locked_keys = attempt.failed - failed_safes
    if mac_fits is False and only_keys:
        # It may open the key, but not what surrounds it: then it is that of the key, or of another file.
        raise Refusal("wrong_password")
    _judge(attempt, mac_fits, failed_safes, found)
    found.password_checked = bool(mac_fits or attempt.opened)
    return found


CHANGED: Final = "the password is right, but bytes were changed after it was made"


def _judge(attempt: _Attempt, mac_fits: bool | None, failed_safes: int, found: Opened) -> None:
    """Raises the Refusal that follows from the integrity check (None: there is none) and from the parts."""
    tried = attempt.opened + attempt.failed
    if mac_fits is False:
        if attempt.evidence:
            raise Refusal("damaged", place=CHANGED)
        raise Refusal("wrong_password" if tried else "wrong_password_or_damaged")
    if not attempt.failed:
        return
    if mac_fits is None and not attempt.opened:
        if attempt.evidence:
            raise Refusal("damaged", place=CHANGED)
        # Of one part nobody can say; that several were damaged at once is no ordinary accident.
        raise Refusal("wrong_password" if tried > 1 else "wrong_password_or_damaged")
    if failed_safes or not (attempt.opened or found.certificates):
        raise Refusal("damaged", place="the password is right, but an encrypted part cannot be read with it")
    if not found.keys:
        raise Refusal("entry_password_differs")


def _fitting(seen: Outline, ways: tuple[Spelling, ...]) -> Spelling | None:
    assert seen.mac is not None
    tried: set[bytes] = set()
    for way in ways:
        form = way.raw if seen.mac.pbmac1 else way.bmp
        if form in tried or (tried and not seen.work.left_for_more):
            continue
        tried.add(form)
        if seen.mac.verifies(way, seen.work):
            return way
    return None


def _keys(bags: Iterable[KeyBag], attempt: _Attempt) -> Iterable[FoundKey]:
    for bag in bags:
        plain = bag.pkcs8 if bag.sealed is None else attempt.open(bag.sealed)
        if plain is not None:
            yield FoundKey(plain, bag.name, bag.local_key_id)


def is_one_list(plain: bytes) -> bool:
    """Whether this is one SEQUENCE from its first byte to its last: chance makes that of one in 2³² garbled parts."""
    if plain[:1] != b"\x30" or len(plain) < 2:
        return False
    first = plain[1]
    if first < 0x80:
        return len(plain) == 2 + first
    if first == 0x80:
        return plain.endswith(b"\0\0")
    octets = first & 0x7F
    return octets <= 4 and len(plain) == 2 + octets + int.from_bytes(plain[2 : 2 + octets], "big")
