"""Which certificate a runtime presents for a target, from the content alone. No Django here.

The page's explanation, the command `explain`, the connection tests and the exporters' contract suite all ask this one
function, so that no two of them can give different answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from certificates.content import Content
from certificates.dialects import dialect_of


@dataclass(frozen=True)
class Selection:
    """The answer for one target.

    `slug` is the certificate that is presented, or None: never, none there, or the server decides (rule `any`) among
    `candidates`, which are slugs in the order of export. `sentence` calls certificates by their slugs. `near` are the
    keys of pins that differ from the target in capitals only, and so do not count.
    """

    slug: str | None
    rule: Literal["pinned", "never", "any", "none"]
    candidates: tuple[str, ...]
    sentence: str
    near: tuple[str, ...] = ()


class Selector:
    """Answers many questions about one content. Raises DialectError for an unknown runtime."""

    def __init__(self, content: Content) -> None:
        self._dialect = dialect_of(content.runtime)
        self._slugs = tuple(slot.slug for slot in content.slots)
        self._enabled = frozenset(self._slugs)
        # Of two pins with one key the first counts; `dialects.problems` refuses such content.
        self._pins = {pin.key: pin for pin in reversed(content.pins)}
        self._folded: dict[str, list[str]] = {}
        for key in self._pins:
            self._folded.setdefault(key.casefold(), []).append(key)

    def select(self, target_key: str) -> Selection:
        """What a runtime of the content's dialect presents for the exported key (`targets.interpret(…).key`).

        Keys are compared exactly, as far as is documented. A pin to a certificate that is not enabled counts for
        nothing; `dialects.problems` refuses such content before it is exported.
        """
        pin, slugs = self._pins.get(target_key), self._slugs
        if pin is not None and pin.slug is None:
            return Selection(None, "never", (), f"{target_key} is never sent a certificate, because a pin says so.")
        if pin is not None and pin.slug in self._enabled:
            sentence = f"{target_key} is sent {pin.slug}, because it is pinned to it."
            return Selection(pin.slug, "pinned", (pin.slug,), sentence)
        why = "no pin names it" if pin is None else f"its pin names {pin.slug}, which is not enabled here"
        words = self._dialect.words_for_any_other(len(slugs))
        offered = slugs if self._dialect.offers_any else ()
        near = tuple(sorted(key for key in self._folded.get(target_key.casefold(), ()) if key != target_key))
        return Selection(None, "any" if offered else "none", offered, f"{target_key} {words}: {why}.", near)

    def lost(self, found: Selection) -> tuple[tuple[str, str], ...]:
        """Every other certificate, by its slug, with why it is not sent to the target of this answer."""
        if found.rule == "never":
            why = "a pin says that nothing is sent there"
        elif found.slug is not None:
            why = f"the target is pinned to {found.slug}"
        else:
            why = "only pinned targets are sent one here"
        kept = {found.slug, *found.candidates}
        return tuple((slug, why) for slug in self._slugs if slug not in kept)


def select(content: Content, target_key: str) -> Selection:
    """One answer of a Selector."""
    return Selector(content).select(target_key)
