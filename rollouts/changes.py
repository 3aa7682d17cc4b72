"""What differs between two contents, as changes that a person can read: the banner, the diff, the apply form.

Pure: names of slots are given by the caller. It compares content, so a change and its opposite are no change.
"""

from __future__ import annotations

from dataclasses import dataclass

from certificates.content import Content
from certificates.dialects import DialectError
from certificates.selection import Selection, Selector


@dataclass(frozen=True)
class Change:
    """One difference: `what` changed, `mark` (new, changed or gone), and its `key`, a slug or a target."""

    what: str
    mark: str
    key: str
    before: str | None = None
    after: str | None = None
    detail: str = ""


SETTINGS = ("runtime", "runtime_version", "profile", "base_folder")


def changes(running: Content, wanted: Content) -> tuple[Change, ...]:
    """The differences from what runs to what is wanted: certificates in order, then pins by key, then settings.

    For certificates `before` and `after` are SHA-256 fingerprints (hex); for pins the slugs, "" for *never*.
    A changed order counts as one change, and only where the same certificates are left to compare.
    """
    found: list[Change] = []
    old, new = {s.slug: s for s in running.slots}, {s.slug: s for s in wanted.slots}
    for slug, slot in new.items():
        if slug not in old:
            found.append(Change("certificate", "new", slug, None, slot.sha256))
        elif old[slug] != slot:
            detail = "chain" if old[slug].sha256 == slot.sha256 else ""
            found.append(Change("certificate", "changed", slug, old[slug].sha256, slot.sha256, detail))
    found += [Change("certificate", "gone", slug, slot.sha256, None) for slug, slot in old.items() if slug not in new]
    kept_before = [slug for slug in old if slug in new]
    kept_after = [slug for slug in new if slug in old]
    if kept_before != kept_after:
        found.append(Change("order", "changed", "", ",".join(kept_before), ",".join(kept_after)))
    old_pins, new_pins = {p.key: p for p in running.pins}, {p.key: p for p in wanted.pins}
    for key in sorted(old_pins.keys() | new_pins.keys()):
        before, after = old_pins.get(key), new_pins.get(key)
        if before == after:
            continue
        mark = "new" if before is None else "gone" if after is None else "changed"
        kinds = dict.fromkeys(pin.kind for pin in (before, after) if pin is not None)
        old_slug, new_slug = (None if pin is None else pin.slug or "" for pin in (before, after))
        found.append(Change("pin", mark, key, old_slug, new_slug, " → ".join(kinds)))
    for name in SETTINGS:
        if getattr(running, name) != getattr(wanted, name):
            found.append(Change("setting", "changed", name, getattr(running, name), getattr(wanted, name)))
    old_ca, new_ca = set(running.authorities), set(wanted.authorities)
    found += [Change("authority", "new", a, None, a) for a in sorted(new_ca - old_ca)]
    found += [Change("authority", "gone", a, a, None) for a in sorted(old_ca - new_ca)]
    return tuple(found)


@dataclass(frozen=True)
class ChangedAnswer:
    """A target that is sent something else than before; "" is any other server."""

    key: str
    before: Selection
    after: Selection


def changed_answers(before: Content, after: Content) -> tuple[int, tuple[ChangedAnswer, ...]]:
    """How many targets either content pins, and which of them are sent something else, any other server last.

    A renewed certificate is something else, whatever the slug."""
    try:
        asked = Selector(before), Selector(after)
    except DialectError:
        return 0, ()
    prints = tuple({slot.slug: (slot.sha256, slot.chain) for slot in content.slots} for content in (before, after))
    keys = sorted({pin.key for content in (before, after) for pin in content.pins})
    found = []
    for key in (*keys, ""):
        answers = [selector.select(key) for selector in asked]
        means = [
            (one.rule, [known.get(slug) for slug in ((one.slug,) if one.slug else one.candidates)])
            for one, known in zip(answers, prints, strict=True)
        ]
        if means[0] != means[1]:
            found.append(ChangedAnswer(key, *answers))
    return len(keys), tuple(found)


def nothing(like: Content) -> Content:
    """The content of an environment in which nothing was ever applied: no certificates, the same settings."""
    return Content(like.runtime, like.runtime_version, like.profile, like.base_folder)
