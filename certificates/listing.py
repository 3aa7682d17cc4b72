"""Certificates and pins as pages list, search and export them: fifty a page, whatever there is."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

from django.db.models import Count, Exists, F, Model, OuterRef, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from certificates.actions import warnings_of
from certificates.models import ClientCertificate, Incident, Pin, TrustedAuthority, Version
from certificates.spelled import key_of, readable
from environments.models import Environment

T = TypeVar("T")
M = TypeVar("M", bound=Model)

A_PAGE = 50
# Rows of a download that are in memory at once.
A_PART = 500
# Pins that a row names; their number says how many more there are.
PINS_SHOWN = 6
# What a list shows; the rest of a certificate is long.
SEEN = (
    *("environment", "name", "slug", "position", "enabled", "in_use__sealed", "in_use__common_name", "in_use__issuer"),
    *("in_use__issuer_common_name", "in_use__not_before", "in_use__not_after", "in_use__warnings"),
)
SEEN_PLACE = (
    *("environment__name", "environment__slug", "environment__production"),
    *("environment__application__name", "environment__application__slug"),
)

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
    """One certificate on a list, as its template says it fifty times a page; `number` is its place in its environment,
    `pins` the keys of the first of its `pinned` pins."""

    certificate: ClientCertificate
    number: int
    pins: list[str] = field(default_factory=list)
    pinned: int = 0
    address: str = ""
    # How it differs from what runs, and the class of a row that does; set by an upper layer (rollouts).
    mark: str = ""
    css: str = ""
    # Whether a server turned it away when it was last tested; also set by an upper layer.
    turned_away: bool = False

    @property
    def version(self) -> Version | None:
        return self.certificate.in_use

    @property
    def status(self) -> Status:
        return status_of(self.certificate, pinned=bool(self.pins), turned_away=self.turned_away)

    @property
    def name(self) -> str:
        return shortened(self.certificate.name, 80)

    @property
    def common_name(self) -> str:
        """Where it says more than the name."""
        version = self.version
        return shortened(version.common_name, 40) if version and version.common_name != self.certificate.name else ""

    @property
    def issuer(self) -> str:
        return readable(self.version.issuer) if self.version else ""

    @property
    def issuer_name(self) -> str:
        return shortened(self.version.issuer_common_name or self.issuer, 40) if self.version else ""

    @property
    def targets(self) -> list[str]:
        return [shortened(key, 48) for key in self.pins]

    @property
    def more_pins(self) -> int:
        return self.pinned - len(self.pins)


@dataclass
class PinRow:
    """One pin on a list; `certificate` is None where it says never."""

    pk: UUID
    kind: str
    key: str
    note: str
    certificate: UUID | None
    name: str | None
    enabled: bool | None
    address: str = ""
    mark: str = ""
    css: str = ""
    # The last test of its connection, as the page above this layer tells it: text, tone and icon of a chip; and when.
    test: tuple[str, str, str] | None = None
    tested: str = ""

    @property
    def sends(self) -> str:
        return "never" if self.certificate is None else "it" if self.enabled else "disabled"


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


@dataclass(frozen=True)
class Sheet(Generic[T]):
    """One page of a list that is turned by `?name=2`. Of `total`, `found` fit the search."""

    name: str
    items: list[T]
    number: int
    found: int
    total: int

    @property
    def pages(self) -> int:
        return max(1, -(-self.found // A_PAGE))

    @property
    def back(self) -> int:
        """The page before; 0 where there is none."""
        return self.number - 1

    @property
    def forth(self) -> int:
        return self.number + 1 if self.number < self.pages else 0


def sheet(name: str, listed: QuerySet[M], number: int, *, total: int | None = None, at_once: bool = True) -> Sheet[Any]:
    """The primary keys of one page, in order; the last page where there are fewer. `total` is given where `listed` is
    narrowed, so that its length is not known by counting alone. One query then both finds and counts, for a search that
    looks through everything; not `at_once`, indexes answer each of the two sooner."""
    keys = listed.values_list("pk", flat=True)
    if total is None or not at_once:
        found = listed.count()
        number = min(number, max(1, -(-found // A_PAGE)))
        items = list(keys[(number - 1) * A_PAGE : number * A_PAGE])
        return Sheet(name, items, number, found, found if total is None else total)
    start = (number - 1) * A_PAGE
    counted = listed.annotate(found=Window(Count("*"))).values_list("pk", "found")[start : start + A_PAGE]
    rows = list(counted)
    if not rows and number > 1:
        return sheet(name, listed, max(1, -(-listed.count() // A_PAGE)), total=total)
    return Sheet(name, [pk for pk, _found in rows], number, rows[0][1] if rows else 0, total)


def page_number(text: str) -> int:
    """From an address: what is no page is the first one."""
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def status_of(
    certificate: ClientCertificate, *, pinned: bool, turned_away: bool = False, now: datetime | None = None
) -> Status:
    """The worst of what is known: disabled, its key compromised (where that was asked for), validity, last test, no
    key, warnings, no pin; otherwise OK."""
    version = certificate.in_use
    if not certificate.enabled:
        return Status(_("Disabled"), "plain", "pause")
    if getattr(certificate, "compromised", False):
        return Status(_("Key compromised"), "bad", "alert")
    if version is None:
        return Status(_("No key here"), "plain", "circle")
    validity = version.status(now)
    if validity == "expired":
        return Status(_("Expired"), "bad", "alert")
    if turned_away:
        return Status(_("Refused in test"), "bad", "alert")
    if validity == "not-yet-valid":
        return Status(_("Not yet valid"), "bad", "alert")
    if version.is_tracked_only:
        soon = validity == "expiring"
        return Status(_("Tracked only"), "warn" if soon else "plain", "clock" if soon else "circle")
    if warned := [w["code"] for w in version.warnings if w.get("confirm", True)]:
        return Status(str(SHORT_WARNINGS.get(warned[0], _("Has warnings"))), "warn", "alert")
    if validity == "expiring":
        return Status(_("Expiring"), "warn", "clock")
    return Status(_("OK"), "good", "check") if pinned else Status(_("Not pinned"), "plain", "circle")


def status_of_authority(authority: TrustedAuthority, now: datetime | None = None) -> Status:
    """The worst of validity and warnings; otherwise OK."""
    match authority.status(now):
        case "expired":
            return Status(_("Expired"), "bad", "alert")
        case "not-yet-valid":
            return Status(_("Not yet valid"), "bad", "alert")
        case validity:
            if authority.warnings:
                return Status(_("Has warnings"), "warn", "alert")
            soon = validity == "expiring"
            return Status(_("Expiring"), "warn", "clock") if soon else Status(_("OK"), "good", "check")


def certificates_of(environment: Environment, text: str, number: int) -> Sheet[Row]:
    """A page of an environment's certificates in their order, narrowed by a search. Four queries, for any number."""
    listed = environment.certificates.filter(removed_at=None).order_by("position", "created_at")
    if text:
        narrowed = search(listed, text, within=Q(certificate__environment=environment))
        found = sheet("page", narrowed, number, total=listed.count())
    else:
        found = sheet("page", listed, number)
    rows = rows_of(found.items, ("position", "created_at"))
    address = environment.url("network")
    for place, row in enumerate(rows, start=(found.number - 1) * A_PAGE + 1):
        row.certificate.environment = environment
        row.address = f"{address}certificates/{row.certificate.pk}/"
        # Positions count from one, so that a search need not count who stands before each that it found.
        row.number = row.certificate.position if text else place
    return replace(found, items=rows)


def certificates_in(
    found: QuerySet[ClientCertificate], number: int, *, order: tuple[str, ...], total: int | None, at_once: bool
) -> Sheet[Row]:
    """A page of certificates of any environments in this order; `total` and `at_once` as for `sheet`."""
    listed = sheet("page", found.order_by(*order), number, total=total, at_once=at_once)
    rows = rows_of(listed.items, order, "environment__application")
    for row in rows:
        row.address = row.certificate.get_absolute_url()
    return replace(listed, items=rows)


def rows_of(keys: Collection[UUID], order: Iterable[str], *related: str) -> list[Row]:
    """The certificates with these keys, each with its first pins: two queries."""
    certificates = ClientCertificate.objects.filter(pk__in=keys).select_related("in_use", *related).order_by(*order)
    rows = {c.pk: Row(c, c.position) for c in _with_keys(certificates).only(*SEEN, *(SEEN_PLACE if related else ()))}
    of_one: dict[str, Any] = {"partition_by": [F("certificate")]}
    pins = Pin.objects.filter(certificate__in=keys).annotate(
        nth=Window(RowNumber(), order_by="key", **of_one), of=Window(Count("pk"), **of_one)
    )
    listed = pins.filter(nth__lte=PINS_SHOWN).order_by("key").values_list("certificate", "key", "of")
    for certificate, key, pinned in listed:
        rows[certificate].pins.append(key)
        rows[certificate].pinned = pinned
    return list(rows.values())


def _with_keys(certificates: QuerySet[ClientCertificate]) -> QuerySet[ClientCertificate]:
    """Each knows whether the key of what is in use is compromised."""
    incidents = Incident.of_keys([OuterRef("in_use__spki_sha256")])
    return certificates.annotate(compromised=Exists(incidents) & Q(in_use__sealed__isnull=False))


def pins_of(environment: Environment, text: str, number: int) -> Sheet[PinRow]:
    """A page of an environment's pins by their keys, narrowed by a search for key, note or certificate."""
    listed = environment.pins.order_by("key")
    if text:
        fits = Q(key__icontains=text) | Q(note__icontains=text) | Q(certificate__sought__contains=text.casefold())
        found = sheet("pins", listed.filter(fits), number, total=listed.count())
    else:
        found = sheet("pins", listed, number)
    address = environment.url("network")
    columns = ("pk", "kind", "key", "note", "certificate", "certificate__name", "certificate__enabled")
    rows = [PinRow(*row) for row in Pin.objects.filter(pk__in=found.items).order_by("key").values_list(*columns)]
    for row in rows:
        row.address = address
    return replace(found, items=rows)


def search(listed: QuerySet[ClientCertificate], text: str, *, within: Q) -> QuerySet[ClientCertificate]:
    """Those that have this text in a name, a common name, an alternative name, a subject or a pin; or whose serial
    number or fingerprint it is, or begins.

    Serial numbers are found as hexadecimal (also with 0x, or leading zeros) and as decimal numbers; fingerprints with
    and without colons; a version that is ready or was in use before counts like the one in use. `within` says, of a
    version or a pin, whether its certificate can be listed at all.
    """
    versions, pins = Version.objects.filter(within), Pin.objects.filter(within)
    digits = re.sub(r"[\s:]", "", text).lower().removeprefix("0x")
    marks = Q()
    if len(digits) >= 4 and re.fullmatch(r"[0-9a-f]+", digits):
        marks |= _begins("sha256", digits) | _begins("sha1", digits) | _begins("serial", digits.lstrip("0") or "0")
    if text.isdecimal() and text.isascii() and len(text) <= 60:
        marks |= Q(serial=f"{int(text):x}")
    # Nobody writes sixteen digits in hexadecimal and means a word, and the indexes answer at once.
    words = not marks or len(digits) < 16
    found = Q(pk__in=versions.filter(marks).order_by().values("certificate")) if marks else Q()
    if words:
        folded = text.casefold()
        found |= Q(sought__contains=folded)
        found |= Q(pk__in=versions.filter(sought__contains=folded).order_by().values("certificate"))
        pinned = pins.filter(key__icontains=text, certificate__isnull=False)
        found |= Q(pk__in=pinned.order_by().values("certificate"))
    return listed.filter(found)


def _begins(column: str, digits: str) -> Q:
    """As a range, which every database answers from the index; `g` comes after the last hexadecimal digit."""
    return Q(**{f"{column}__gte": digits, f"{column}__lt": f"{digits}g"})


def all_rows(listed: QuerySet[ClientCertificate], *related: str) -> Iterator[Row]:
    """Every certificate with all its pins, some hundreds at a time; three queries each time."""
    keys = list(listed.values_list("pk", flat=True))
    for start in range(0, len(keys), A_PART):
        part = keys[start : start + A_PART]
        certificates = _with_keys(ClientCertificate.objects.select_related("in_use", *related)).in_bulk(part)
        rows = {pk: Row(certificates[pk], certificates[pk].position) for pk in part if pk in certificates}
        for pin in Pin.objects.filter(certificate__in=part).order_by("key"):
            rows[cast(UUID, pin.certificate_id)].pins.append(pin.key)
        yield from rows.values()


def as_csv(listed: Iterable[Row], *, where: bool = False) -> Iterator[bytes]:
    """The list for a spreadsheet, in parts; a cell that it would take for a formula begins with an apostrophe.
    `where` adds the environment of each."""
    out = io.StringIO()
    write = csv.writer(out).writerow
    # The mark at the front tells spreadsheets that it is UTF-8.
    out.write("\ufeff")
    write([
        *([_("Application"), _("Environment")] if where else []),
        _("Position"), _("Name"), _("Common name"), _("Subject"), _("Issued by"), _("Serial number"), _("Valid from"),
        _("Expires"), _("Days left"), _("Key"), _("SHA-256"), _("SHA-1"), _("Pinned to"), _("Status"), _("Contact"),
    ])  # fmt: skip
    for row in listed:
        place = row.certificate.environment if where else None
        cells = [place.application.name, place.name, *_cells(row)] if place else _cells(row)
        write([neutral(str(cell)) for cell in cells])
        if out.tell() > 30_000:
            yield out.getvalue().encode()
            out.seek(0)
            out.truncate()
    yield out.getvalue().encode()


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
    yield from (" ".join(row.pins), row.status.text, row.certificate.contact)


def neutral(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula. A number, also a negative one, stays as it is."""
    if re.fullmatch(r"-?[0-9]+", cell):
        return cell
    return f"'{cell}" if cell.lstrip(" \u00a0").startswith(FORMULA) or cell.startswith(FORMULA) else cell


def warned(version: Version) -> list[str]:
    """The sentences of what has to be known before this version is used."""
    return [warning["sentence"] for warning in warnings_of(version)]
