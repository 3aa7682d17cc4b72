"""How an environment's tickets are written: `#` is a digit, `*` is anything, the rest is what it is, in any case."""

from __future__ import annotations

import re

from django.utils.translation import gettext as _

from environments.refusals import Refused

LONGEST = 40
# Each makes the comparison longer; nobody's tickets need more.
STARS = 2


def checked_pattern(text: str) -> str:
    """Trimmed; "" for no ticket. Raises Refused for what no ticket could match."""
    text = text.strip()
    if len(text) > LONGEST or not text.isprintable():
        raise Refused(_("Use at most %(n)d visible characters.") % {"n": LONGEST}, field="ticket_pattern")
    if text.count("*") > STARS:
        raise Refused(_("Use * at most twice."), field="ticket_pattern")
    return text


def checked_ticket(text: str, pattern: str) -> str:
    """Trimmed. Raises Refused where the pattern asks for another one."""
    text = " ".join(text.split())[:100]
    if not pattern:
        return text
    expression = "".join({"#": r"[0-9]", "*": ".*"}.get(char, re.escape(char)) for char in pattern)
    if not re.fullmatch(expression, text, re.IGNORECASE):
        words = (
            _("Name the ticket, written like %(pattern)s.")
            if not text
            else _("Tickets here are written like %(pattern)s.")
        )
        raise Refused(words % {"pattern": pattern}, field="ticket")
    return text
