"""The certificates and pins of an environment as the Network page lists, searches and exports them."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from certificates.actions import warnings_of
from certificates.models import ClientCertificate, Pin, Version
from environments.models import Environment

# A spreadsheet takes a cell that begins with one of these for a formula (OWASP, CSV injection).
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "＝", "＋", "－", "＠")

# What a warning is called in a chip, where its sentence has no room.
SHORT_WARNINGS = {
    "no_client_auth": gettext_lazy("Not for clients"),
    "weak_key": gettext_lazy("Weak key"),
    "dsa_key": gettext_lazy("DSA key"),
    "weak_signature": gettext_lazy("Weak signature"),
}


@dataclass(frozen=True)
class Status:
    """Word, colour and icon, as the chip of a page takes them."""

    text: str
    tone: str
    icon: str


@dataclass
class Row:
    """One certificate on the list; `number` is its place among those that are shown."""

    certificate: ClientCertificate
    number: int
    pins: list[Pin] = field(default_factory=list)

    @property
    def version(self) -> Version | None:
        return self.certificate.in_use

    @property
    def status(self) -> Status:
        return status_of(self.certificate, pinned=bool(self.pins))


def status_of(certificate: ClientCertificate, *, pinned: bool, now: datetime | None = None) -> Status:
    """The worst of what is known: disabled, no key, validity, warnings, no pin; otherwise OK."""
    version = certificate.in_use
    if not certificate.enabled:
        return Status(_("Disabled"), "plain", "pause")
    if version is None or version.sealed_id is None:
        return Status(_("No key here"), "plain", "circle")
    validity = version.status(now)
    if validity == "expired":
        return Status(_("Expired"), "bad", "alert")
    if validity == "not-yet-valid":
        return Status(_("Not yet valid"), "bad", "alert")
    if warned := [w["code"] for w in version.warnings if w.get("confirm", True)]:
        return Status(str(SHORT_WARNINGS.get(warned[0], _("Has warnings"))), "warn", "alert")
    if validity == "expiring":
        return Status(_("Expiring"), "warn", "clock")
    return Status(_("OK"), "good", "check") if pinned else Status(_("Not pinned"), "plain", "circle")


def rows(environment: Environment) -> tuple[list[Row], list[Pin]]:
    """The certificates in their order, each with its pins, and all pins by key. Three queries, for any number."""
    certificates = list(
        environment.certificates.filter(removed_at=None).select_related("in_use").prefetch_related("versions")
    )
    by_id = {certificate.pk: certificate for certificate in certificates}
    pins = list(environment.pins.all())
    of: dict[UUID | None, list[Pin]] = defaultdict(list)
    for certificate in certificates:
        certificate.environment = environment
    for pin in pins:
        pin.environment = environment
        if pin.certificate_id in by_id:
            pin.certificate = by_id[pin.certificate_id]
        of[pin.certificate_id].append(pin)
    return [Row(c, number, of[c.pk]) for number, c in enumerate(certificates, start=1)], pins


def search(listed: Iterable[Row], text: str) -> list[Row]:
    """Those that have this text in a name, a common name, an alternative name, a pin, a serial number or a fingerprint.

    Serial numbers are found as hexadecimal (also with 0x, or leading zeros) and as decimal numbers; fingerprints with
    and without colons; a version that is ready or was in use before counts like the one in use.
    """
    text = text.strip()
    return [row for row in listed if _found(row, text)] if text else list(listed)


def _found(row: Row, text: str) -> bool:
    words = [row.certificate.name, *(pin.key for pin in row.pins)]
    versions = list(row.certificate.versions.all())
    for version in versions:
        words += [version.common_name, version.subject, version.issuer_common_name, *version.names]
    if any(text.casefold() in word.casefold() for word in words):
        return True
    digits = re.sub(r"[\s:]", "", text).lower().removeprefix("0x")
    if len(digits) >= 4 and re.fullmatch(r"[0-9a-f]+", digits):
        if any(digits in fingerprint for v in versions for fingerprint in (v.sha1, v.sha256)):
            return True
        if any((digits.lstrip("0") or "0") in version.serial for version in versions):
            return True
    return text.isdecimal() and text.isascii() and any(f"{int(text):x}" == version.serial for version in versions)


def as_csv(listed: Iterable[Row]) -> str:
    """The list for a spreadsheet; a cell that it would take for a formula begins with an apostrophe."""
    out = io.StringIO()
    write = csv.writer(out).writerow
    write([
        _("Position"), _("Name"), _("Common name"), _("Subject"), _("Issued by"), _("Serial number"), _("Valid from"),
        _("Expires"), _("Days left"), _("Key"), _("SHA-256"), _("SHA-1"), _("Pinned to"), _("Status"), _("Contact"),
    ])  # fmt: skip
    for row in listed:
        write([neutral(str(cell)) for cell in _cells(row)])
    return out.getvalue()


def _cells(row: Row) -> Iterable[object]:
    version = row.version
    yield from (row.number, row.certificate.name)
    if version is None:
        yield from [""] * 10
    else:
        yield from (version.common_name, version.subject, version.issuer_common_name or version.issuer)
        # With 0x, because a spreadsheet takes 12e5 for a number.
        yield f"0x{version.serial}"
        yield from (f"{version.not_before:%Y-%m-%d %H:%M:%SZ}", f"{version.not_after:%Y-%m-%d %H:%M:%SZ}")
        yield (version.not_after - timezone.now()).days
        yield key_of(version)
        yield from (version.sha256, version.sha1)
    yield from (" ".join(pin.key for pin in row.pins), row.status.text, row.certificate.contact)


def neutral(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula. A number, also a negative one, stays as it is."""
    if re.fullmatch(r"-?[0-9]+", cell):
        return cell
    return f"'{cell}" if cell.lstrip(" \u00a0").startswith(FORMULA) or cell.startswith(FORMULA) else cell


def key_of(version: Version) -> str:
    """“RSA 2048”, “EC P-256”, “Ed25519”."""
    return f"{version.key_kind} {version.key_bits}" if version.key_kind in ("RSA", "DSA") else version.key_kind


def name_parts(name: str) -> list[str]:
    """The parts of an RFC 4514 name (“CN=Bank\\, Inc,O=Bank”) as people read them, without its escapes (§2.4)."""
    parts = re.findall(r"(?:\\.|[^,\\])+", name, re.S)
    return [re.sub(r"((?:\\[0-9A-Fa-f]{2})+)|\\(.)", _unescaped, part, flags=re.S).strip() for part in parts]


def _unescaped(found: re.Match[str]) -> str:
    pairs, character = found.groups()
    return bytes.fromhex(pairs.replace("\\", "")).decode(errors="replace") if pairs else character


def readable(name: str) -> str:
    """An RFC 4514 name in one line, for reading and never for comparing."""
    return ", ".join(name_parts(name))


def warned(version: Version) -> list[str]:
    """The sentences of what has to be known before this version is used."""
    return [warning["sentence"] for warning in warnings_of(version)]
