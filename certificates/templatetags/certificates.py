"""How a certificate is drawn: its chain, its key, values to copy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from certificates.listing import key_of
from certificates.models import Version

register = template.Library()


@dataclass(frozen=True)
class Link:
    """One certificate of the chain, the leaf first."""

    name: str
    role: str
    not_after: datetime
    sha256: str

    @property
    def expired(self) -> bool:
        return self.not_after <= timezone.now()


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
        links.append(Link(common_name(link["subject"]), role, expiry, link["sha256"]))
    return {"links": links, "missing": common_name(version.missing_issuer)}


@register.inclusion_tag("certificates/copied.html")
def copied(about: str, value: str) -> dict[str, Any]:
    """A hexadecimal value, in whole bytes, with a button that copies it."""
    return {"about": about, "value": f"{'0' * (len(value) % 2)}{value}", "id": slugify(about)}


@register.filter
def key(version: Version) -> str:
    return key_of(version)


@register.filter
def common_name(subject: str) -> str:
    """The common name in an RFC 4514 subject, or the subject where there is none that is plain."""
    for part in subject.split(","):
        name, equals, value = part.strip().partition("=")
        if name == "CN" and equals and value and "\\" not in subject:
            return value
    return subject
