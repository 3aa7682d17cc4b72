"""What people upload: PKCS #12, and everything else that carries keys and certificates, one file or several together.

No Django here. PEM and DER, PKCS #8 and older keys, PKCS #7 chains, base64 of any of these. Java's own key stores are
named and not read.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from certificates import der, pem, protection
from certificates.der import Budget, Node
from certificates.derivation import Work
from certificates.diagnosis import Refusal, looks_like
from certificates.identities import Identity, make, tracked
from certificates.opening import FoundKey, Opened, is_one_list, open_pfx
from certificates.outline import MAX_CERTIFICATES, MAX_FILE, CertificateBag, other_der, outline, too_large
from certificates.protection import spellings
from certificates.remarks import Remark, remarks_on

Result = TypeVar("Result")
MAX_FILES: Final = 10
MAX_PASSWORDS: Final = 10
_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
_KEYS: Final = frozenset({"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY", "ANY PRIVATE KEY"})
_CERTIFICATES: Final = frozenset({"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"})
# What may be said with one password although another one opens the file; the last says most.
_OF_ONE_PASSWORD: Final = ("wrong_password", "wrong_password_or_damaged", "damaged", "entry_password_differs")


@dataclass(frozen=True)
class Upload:
    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Reading:
    """The identities that files make up, at least one, each with what is to be said about it."""

    identities: tuple[tuple[Identity, tuple[Remark, ...]], ...]


@dataclass
class _Parts:
    """What stands in the files, closed parts as functions of a password that raise Refusal."""

    keys: list[FoundKey] = field(default_factory=list)
    certificates: list[CertificateBag] = field(default_factory=list)
    pfx: list[bytes] = field(default_factory=list)
    closed_keys: list[Callable[[str], FoundKey]] = field(default_factory=list)
    requests: int = 0


@dataclass(frozen=True)
class Seen:
    """What files hold, as far as it can be seen without a password: whether anything is encrypted, and whether there
    can be a private key."""

    closed: bool
    keys: bool


def screen(files: Sequence[Upload]) -> Seen:
    """Judge files before a password is asked for. Raises Refusal for what none could open."""
    parts = _parts(files)
    outlines = [outline(file) for file in parts.pfx]
    return Seen(
        closed=bool(parts.closed_keys) or any(one.schemes for one in outlines),
        keys=bool(parts.pfx or parts.keys or parts.closed_keys),
    )


def read(
    files: Sequence[Upload], passwords: Sequence[str] = ("",), *, track: bool = False, wanted: Container[str] = ()
) -> Reading:
    """The identities in these files, read in this process. Raises Refusal.

    Every password is tried on every part: one of them may be that of the file, another that of the key inside. With
    `track`, certificates without a key become an identity whose key is empty; those of `wanted` keys (SHA-256 of the
    public one) come first.
    """
    if len(passwords) > MAX_PASSWORDS:
        raise Refusal("limit_exceeded", what="the number of passwords", figure=len(passwords), limit=MAX_PASSWORDS)
    parts = _parts(files)
    opened = [open_with(file, passwords) for file in parts.pfx]
    keys = [*(key for one in opened for key in one.keys), *parts.keys]
    keys += [_tried(closed, passwords) for closed in parts.closed_keys]
    certificates = [*(bag for one in opened for bag in one.certificates), *parts.certificates]
    found = tracked(certificates, wanted) if track and not keys else make(keys, certificates)
    return Reading(tuple((one.identity, remarks_on(opened, one)) for one in found))


def public_part(files: Sequence[Upload]) -> tuple[tuple[bytes, ...], bool]:
    """The certificates that stand open in these files, as DER, each once, in their order; and whether there is, or may
    be, a private key beside them. Raises Refusal."""
    parts = _parts(files)
    keys = bool(parts.keys or parts.closed_keys or parts.pfx)
    return tuple(dict.fromkeys(bag.certificate for bag in parts.certificates)), keys


def open_with(file: bytes, passwords: Sequence[str]) -> Opened:
    """A PKCS #12 file with the first password that opens it, and its keys with any of them. Raises Refusal."""

    def attempt(password: str) -> Opened:
        try:
            return open_pfx(outline(file), password)
        except Refusal as refusal:
            if refusal.code != "entry_password_differs":
                raise
            others = [other for other in passwords if other != password]
            if not others:
                raise
        return _tried(lambda other: open_pfx(outline(file), password, other), others)

    return _tried(attempt, passwords)


def _tried(attempt: Callable[[str], Result], passwords: Iterable[str]) -> Result:
    """With the first password that fits; else the Refusal that says most."""
    said: list[Refusal] = []
    for password in passwords:
        try:
            return attempt(password)
        except Refusal as refusal:
            if refusal.code not in _OF_ONE_PASSWORD:
                raise
            said.append(refusal)
    raise max(said, key=lambda refusal: _OF_ONE_PASSWORD.index(refusal.code), default=Refusal("wrong_password"))


# --- Which parts a file has -------------------------------------------------------------------------------------------


def _parts(files: Sequence[Upload]) -> _Parts:
    if len(files) > MAX_FILES:
        raise Refusal("limit_exceeded", what="the number of files", figure=len(files), limit=MAX_FILES, kind="files")
    if (size := sum(len(file.content) for file in files)) > MAX_FILE:
        raise too_large(size)
    parts = _Parts()
    for file in files:
        _add_file(file.content, parts)
    if len(parts.certificates) > MAX_CERTIFICATES:
        count = len(parts.certificates)
        raise Refusal("limit_exceeded", what="the number of its certificates", figure=count, limit=MAX_CERTIFICATES)
    if parts.requests and not (parts.pfx or parts.keys or parts.closed_keys or parts.certificates):
        raise Refusal("not_pkcs12", looks_like="request")
    return parts


def _add_file(content: bytes, parts: _Parts) -> None:
    if (text := pem.text_of(content)) is None:
        if kind := looks_like(content):
            raise Refusal("not_pkcs12", looks_like=kind)
        _add_der(content, parts)
        return
    found = pem.blocks(text)
    if not found:
        raise Refusal("not_pkcs12", looks_like="text")
    for block in found:
        _add_block(block, parts)


def _add_block(block: pem.Block, parts: _Parts) -> None:
    label = block.label
    if label in _CERTIFICATES or label in ("PKCS7", "CMS", "PKCS12", "PFX", ""):
        _add_der(block.content, parts)
    elif label == "ENCRYPTED PRIVATE KEY":
        _add_closed(der.parse(block.content, Budget(), outermost=True), parts)
    elif label in _KEYS and block.encryption:
        parts.closed_keys.append(lambda password: _old_key(block, password))
    elif label in _KEYS:
        parts.keys.append(FoundKey(block.content))
    elif label == "OPENSSH PRIVATE KEY":
        raise Refusal("unsupported_algorithm", algorithm="the key format of OpenSSH", kind="ssh")
    elif label.endswith("CERTIFICATE REQUEST"):
        parts.requests += 1


def _add_der(content: bytes, parts: _Parts) -> None:
    root = der.parse(content, Budget(), outermost=True)
    match other_der(root):
        case None:
            parts.pfx.append(content)
        case "certificate":
            # What follows the first value is OpenSSL's own trust settings (TRUSTED CERTIFICATE), or nothing.
            parts.certificates.append(CertificateBag(content[: root.end], None, None))
        case "private-key" if root.children[0].tag == der.SEQUENCE:
            _add_closed(root, parts)
        case "private-key":
            parts.keys.append(FoundKey(der.encode(root)))
        case "pkcs7":
            parts.certificates += [CertificateBag(one, None, None) for one in _pkcs7(root)]
        case "request":
            parts.requests += 1
        case kind:
            raise Refusal("not_pkcs12", looks_like=kind)


def _add_closed(root: Node, parts: _Parts) -> None:
    """EncryptedPrivateKeyInfo, RFC 5958 §3."""
    work = Work()
    scheme = protection.scheme(root.child(0, der.SEQUENCE, "a private key's algorithm"), work)
    ciphertext = protection.string(root, 1, "a private key")

    def unlock(password: str) -> FoundKey:
        for way in spellings(password):
            plain = scheme.unpad(scheme.decrypt(ciphertext, way, work))
            if plain is not None and is_one_list(plain):
                return FoundKey(plain)
        raise Refusal("wrong_password")

    parts.closed_keys.append(unlock)


def _old_key(block: pem.Block, password: str) -> FoundKey:
    spellings(password)  # only for what it refuses
    plain = pem.decrypted(block, password)
    if plain is None or not is_one_list(plain):
        raise Refusal("wrong_password")
    return FoundKey(plain)


def _pkcs7(root: Node) -> list[bytes]:
    """The certificates of SignedData, RFC 5652 §5.1, each as it stands."""
    name = "its certificates"
    if root.child(0, der.OID, name).oid(name) != _SIGNED_DATA:
        raise Refusal("not_pkcs12", looks_like="pkcs7")
    signed = root.child(1, der.context(0), name).child(0, der.SEQUENCE, name)
    sets = [node for node in signed.children if node.tag == der.context(0)]
    found = [der.encode(node) for node in sets[0].children if node.tag == der.SEQUENCE] if sets else []
    if not found:
        raise Refusal("no_certificate")
    return found
