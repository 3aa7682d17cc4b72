"""A renewal beside the version that it follows: what differs, in words."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from certificates.listing import readable
from certificates.models import Version, key_of


@dataclass(frozen=True)
class Pair:
    """One line: what it is about, the old and the new value, and the difference in words, "" where there is none.

    `unusual` marks what a renewal seldom changes on purpose.
    """

    about: str
    old: str
    new: str
    difference: str = ""
    unusual: bool = False
    mono: bool = False


def compare(old: Version, new: Version) -> list[Pair]:
    """The lines of the table, in the order in which somebody checks them."""
    return [
        _text(_("Subject"), old.subject, new.subject, _("another subject")),
        _text(_("Issuer"), old.issuer, new.issuer, _("another issuer")),
        _names(old, new),
        _key(old, new),
        Pair(
            _("Serial number"), old.serial, new.serial, _("another one") if old.serial != new.serial else "", mono=True
        ),
        _expiry(old, new),
        Pair(_("SHA-256"), old.sha256, new.sha256, _("another one") if old.sha256 != new.sha256 else "", mono=True),
    ]


def _text(about: str, old: str, new: str, words: str) -> Pair:
    return Pair(about, readable(old), readable(new), words if old != new else "", unusual=old != new)


def _names(old: Version, new: Version) -> Pair:
    added = [name for name in new.names if name not in old.names]
    dropped = [name for name in old.names if name not in new.names]
    words = [_("adds %(names)s") % {"names": ", ".join(added)}] if added else []
    words += [_("drops %(names)s") % {"names": ", ".join(dropped)}] if dropped else []
    return Pair(
        _("Names"), ", ".join(old.names) or "–", ", ".join(new.names) or "–", "; ".join(words), unusual=bool(dropped)
    )


def _key(old: Version, new: Version) -> Pair:
    words = _("the same key again") if old.spki_sha256 == new.spki_sha256 else _("new key")
    if key_of(old) != key_of(new):
        words = _("new key of another kind")
    return Pair(_("Key"), key_of(old), key_of(new), words, unusual=key_of(old) != key_of(new))


def _expiry(old: Version, new: Version) -> Pair:
    days = (new.not_after - old.not_after).days
    if days >= 0:
        words = ngettext("%(n)d day later", "%(n)d days later", days) % {"n": days} if days else _("the same day")
    else:
        words = ngettext("%(n)d day earlier", "%(n)d days earlier", -days) % {"n": -days}
    return Pair(
        _("Expires"), date_format(old.not_after, "j M Y"), date_format(new.not_after, "j M Y"), words, unusual=days <= 0
    )
