"""Names and slugs: 1 to 200 visible characters, no control characters; a slug never changes (DESIGN: limits)."""

from __future__ import annotations

import unicodedata

from django.utils.text import slugify
from django.utils.translation import gettext as _

from environments.refusals import Refused

# Parts of a route that stand where a slug would.
RESERVED = {"new", "members", "settings", "archive", "apps", "compare"}


def checked_name(text: str, *, field: str = "name") -> str:
    """The name without blanks around it. Raises Refused for an empty, overlong or invisible one."""
    name = text.strip()
    if not name:
        raise Refused(_("Give it a name."), field=field)
    if len(name) > 200:
        raise Refused(_("This name has %(n)d characters; use at most 200.") % {"n": len(name)}, field=field)
    # Cf covers direction marks, with which a name could read as another one.
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in name):
        raise Refused(_("This name contains control characters; type it anew."), field=field)
    return name


def checked_slug(text: str, *, name: str, taken: set[str], field: str = "slug") -> str:
    """The slug that was typed, or the next free one made from the name. Raises Refused for one that cannot be used."""
    slug = text.strip().lower()
    if not slug:
        base = (slugify(name) or "item")[:40]
        slug, number = base, 2
        while slug in taken or slug in RESERVED:
            slug, number = f"{base}-{number}", number + 1
        return slug
    if slugify(slug) != slug or len(slug) > 50:
        raise Refused(_("Use small letters, digits and hyphens, at most 50."), field=field)
    if slug in RESERVED:
        raise Refused(
            _("“%(slug)s” is a word of the portal's own addresses; choose another.") % {"slug": slug}, field=field
        )
    if slug in taken:
        raise Refused(_("“%(slug)s” is already used; choose another.") % {"slug": slug}, field=field)
    return slug
