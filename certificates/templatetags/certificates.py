"""How a certificate is drawn: its chain, its key, values to copy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import slugify
from django.utils.translation import gettext as _

from certificates import listing, rows, spelled
from certificates.models import IDENTIFIED_BY, TrustedAuthority, Version

register = template.Library()


@dataclass(frozen=True)
class Link:
    """One certificate of the chain, the leaf first."""

    name: str
    role: str
    not_after: datetime
    sha256: str
    completed: bool = False

    @property
    def expired(self) -> bool:
        return self.not_after <= timezone.now()


@register.simple_tag(takes_context=True)
def certificate_rows(context: Any, listed: listing.Sheet[listing.Row], everywhere: bool = False) -> list[rows.Line]:
    """What a page says row by row, with life and status between the parts."""
    return list(rows.lines(context, listed.items, total=listed.total, everywhere=everywhere))


@register.simple_tag(takes_context=True)
def pin_rows(context: Any, listed: listing.Sheet[listing.PinRow]) -> SafeString:
    return rows.filled_pins(context, listed.items)


@register.inclusion_tag("certificates/chain.html")
def certificate_chain(version: Version) -> dict[str, Any]:
    """Leaf to root from top to bottom; where the file lacks an issuer, it is named."""
    alone = not version.chain and not version.missing_issuer
    links = [
        Link(
            version.common_name or version.subject,
            _("signed by itself") if alone else _("client certificate"),
            version.not_after,
            version.sha256,
        )
    ]
    for link in version.chain:
        role = _("root") if link["self_signed"] else _("intermediate")
        expiry = datetime.fromisoformat(link["not_after"])
        added = link.get("completed", False)
        links.append(Link(common_name(link["subject"]), role, expiry, link["sha256"], added))
    return {"links": links, "missing": common_name(version.missing_issuer)}


@register.simple_tag
def authority_status(authority: TrustedAuthority) -> listing.Status:
    return listing.status_of_authority(authority)


@register.inclusion_tag("certificates/copied.html")
def copied(about: str, value: str) -> dict[str, Any]:
    """A hexadecimal value, in whole bytes, with a button that copies it."""
    return {"about": about, "value": f"{'0' * (len(value) % 2)}{value}", "id": slugify(about)}


@register.filter
def recognised(kinds: list[str]) -> str:
    """“its subject, its issuer”."""
    return ", ".join(str(IDENTIFIED_BY[kind]) for kind in kinds if kind in IDENTIFIED_BY)


@register.filter
def key(version: Version) -> str:
    return spelled.key_of(version)


@register.filter
def common_name(subject: str) -> str:
    """The common name in an RFC 4514 subject, or the subject where there is none."""
    return spelled.common_name(subject)


@register.filter
def readable(subject: str) -> str:
    return spelled.readable(subject)


@register.filter
def distinguished(subject: str) -> SafeString:
    """A name as a page shows it: the common name first and bold, the rest muted."""
    parts = spelled.name_parts(subject)
    name = next((part for part in parts if part.startswith("CN=") and part != "CN="), None)
    if name is None:
        return format_html("{}", spelled.readable(subject))
    parts.remove(name)
    return format_html('<b>{}</b> <span class="muted">{}</span>', name[3:], ", ".join(parts))


@register.filter
def stretched(hexadecimal: str) -> SafeString:
    """As programs print it, where a line may end after every eighth digit; copying gives no blanks."""
    return format_html_join(
        SafeString("<wbr>"), "{}", ((hexadecimal[i : i + 8],) for i in range(0, len(hexadecimal), 8))
    )


@register.filter
def breakable(hexadecimal: str) -> SafeString:
    """Pairs with colons, where a line may end between two pairs and nowhere else; copying gives no blanks."""
    return format_html_join(
        SafeString(":<wbr>"), "{}", ((hexadecimal[i : i + 2],) for i in range(0, len(hexadecimal), 2))
    )
