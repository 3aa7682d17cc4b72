"""Changes as lines that a person reads: names instead of slugs, version numbers and expiry instead of fingerprints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from certificates.content import Content
from certificates.models import ClientCertificate, TrustedAuthority, Version
from certificates.selection import Selection
from certificates.targets import WORDS
from environments.models import Environment
from rollouts.authors import Author, of_change
from rollouts.changes import Change, changed_answers

MARKS = {"new": gettext_lazy("New"), "changed": gettext_lazy("Changed"), "gone": gettext_lazy("Removed")}
SETTING_WORDS = {
    "runtime": gettext_lazy("Runtime"),
    "runtime_version": gettext_lazy("Runtime version"),
    "profile": gettext_lazy("Profile"),
    "base_folder": gettext_lazy("Base folder"),
}

# Of two long orders, only where they differ, and this many of it.
MOVED_SHOWN = 12


@dataclass(frozen=True)
class Side:
    """What stands on one side: a version (facts of a certificate), or words; `quiet` words stand for nothing there."""

    words: str = ""
    version: Version | None = None
    quiet: bool = False
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One row of the table of changes. `name` is what it is about; `sort` says which kind of target it is."""

    change: Change
    name: str
    sort: str
    before: Side
    after: Side
    author: Author | None = None
    left_out: bool = False

    @property
    def mark(self) -> str:
        if self.left_out:
            return _("Left out")
        if self.change.what == "certificate" and self.change.mark == "gone":
            return _("Taken out")
        return str(MARKS[self.change.mark])


def lines(
    environment: Environment, found: Iterable[Change], who: Mapping[tuple[str, str], Author] | None = None
) -> list[Line]:
    """The changes in words, in their order. Three queries, whatever their number."""
    found = tuple(found)
    if not found:
        return []
    names, out = _names(environment, found), left_out([environment])[environment.pk]
    prints = {p for c in found if c.what == "certificate" for p in (c.before, c.after) if p}
    listed = Version.objects.filter(certificate__environment=environment, sha256__in=prints).select_related(
        "certificate"
    )
    versions = {(v.certificate.slug, v.sha256): v for v in listed.order_by("number")}
    authors = dict(who or {})
    return [
        replace(_line(c, names, versions, authors), left_out=c.mark == "gone" and (c.what, c.key) in out) for c in found
    ]


def left_out(environments: Iterable[Environment]) -> dict[UUID, set[tuple[str, str]]]:
    """What is listed and yet not delivered, as (what, key): disabled certificates by slug, their pins by key. By the
    environment's id, in one query."""
    out: dict[UUID, set[tuple[str, str]]] = defaultdict(set)
    disabled = ClientCertificate.objects.filter(environment__in=list(environments), enabled=False, removed_at=None)
    for environment, slug, pin in disabled.order_by().values_list("environment", "slug", "pins__key"):
        out[environment].add(("certificate", slug))
        if pin is not None:
            out[environment].add(("pin", pin))
    return out


def _names(environment: Environment, found: Iterable[Change]) -> dict[str, str]:
    """The names of what these changes speak of: of certificates by slug, of trusted authorities by fingerprint."""
    slugs: set[str] = set()
    for change in found:
        match change.what:
            case "certificate":
                slugs.add(change.key)
            case "pin":
                slugs |= {slug for slug in (change.before, change.after) if slug}
            case "order":
                slugs |= {slug for side in _moved(change) for slug in side}
    listed = ClientCertificate.objects.filter(environment=environment, slug__in=slugs)
    called = dict(listed.order_by().values_list("slug", "name"))
    if prints := {change.key for change in found if change.what == "authority"}:
        trusted = TrustedAuthority.objects.filter(environment=environment, sha256__in=prints)
        called |= dict(trusted.order_by().values_list("sha256", "name"))
    return called


def _moved(change: Change) -> tuple[list[str], list[str]]:
    """The two orders without what stands at the same place at their beginnings and ends; at most MOVED_SHOWN of each,
    and an empty one for the rest."""
    before, after = ((text or "").split(",") for text in (change.before, change.after))
    first = next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
    last = next((n for n, (a, b) in enumerate(zip(before[::-1], after[::-1], strict=False)) if a != b), 0)
    if len(before) <= MOVED_SHOWN:
        return before, after
    middles = (side[first : len(side) - last] for side in (before, after))
    before, after = (side if len(side) <= MOVED_SHOWN else [*side[:MOVED_SHOWN], ""] for side in middles)
    return (["", *before] if first else before), (["", *after] if first else after)


def _line(
    change: Change,
    names: Mapping[str, str],
    versions: Mapping[tuple[str, str], Version],
    who: dict[tuple[str, str], Author],
) -> Line:
    author = of_change(change, who)
    match change.what:
        case "certificate":
            old, new = (versions.get((change.key, sha256 or "")) for sha256 in (change.before, change.after))
            before = Side(change.before or "", old) if change.before else Side(_("not there"), quiet=True)
            after = Side(change.after or "", new) if change.after else Side(_("not there"), quiet=True)
            after = Side(after.words, after.version, after.quiet, _compared(change, old, new))
            return Line(change, names.get(change.key, change.key), "", before, after, author)
        case "pin":
            kinds = " → ".join(WORDS.get(kind, kind).lower() for kind in change.detail.split(" → "))
            return Line(change, change.key, kinds, sent(change.before, names), sent(change.after, names), author)
        case "order":
            before, after = (
                Side(", ".join(names.get(slug, slug) if slug else "…" for slug in side)) for side in _moved(change)
            )
            return Line(change, _("Order of certificates"), "", before, after, author)
        case "setting":
            before, after = (Side(text or _("not set"), quiet=not text) for text in (change.before, change.after))
            return Line(change, str(SETTING_WORDS.get(change.key, change.key)), "", before, after, author)
        case _:
            before, after = (
                Side(_("trusted") if text else _("not trusted"), quiet=not text, note=short_print(text or ""))
                for text in (change.before, change.after)
            )
            return Line(change, names.get(change.key, change.key[:16]), _("trusted authority"), before, after, author)


def sent(slug: str | None, names: Mapping[str, str]) -> Side:
    """What a target is sent: by a pin to a slug, by a pin that says never (""), or without a pin (None)."""
    if slug is None:
        return Side(_("any certificate that the server accepts"), quiet=True)
    return Side(names.get(slug, slug)) if slug else Side(_("never a certificate"))


@dataclass(frozen=True)
class AnswerLine:
    """A target that is sent something else: words before and after, and the beginnings of fingerprints."""

    key: str
    before: Side
    after: Side


@dataclass(frozen=True)
class Answers:
    """Of `pinned` targets, how many are sent something else, and the first of them; and whether others may be."""

    pinned: int
    changed: int
    lines: tuple[AnswerLine, ...]
    any_other: bool


ANSWERS_SHOWN = 50


def answers_that_change(environment: Environment, before: Content, after: Content) -> Answers:
    """What a diff means for those who are called. One query."""
    pinned, found = changed_answers(before, after)
    shown = found[:ANSWERS_SHOWN]
    slugs = {
        slug for one in shown for side in (one.before, one.after) for slug in (side.slug, *side.candidates) if slug
    }
    listed = ClientCertificate.objects.filter(environment=environment, slug__in=slugs) if slugs else ()
    names = {c.slug: c.name for c in listed}
    prints = [{slot.slug: slot.sha256 for slot in content.slots} for content in (before, after)]
    lines = tuple(
        AnswerLine(one.key, _said(one.before, names, prints[0]), _said(one.after, names, prints[1])) for one in shown
    )
    any_other = bool(found) and found[-1].key == ""
    return Answers(pinned, len(found) - any_other, lines, any_other)


def _said(found: Selection, names: Mapping[str, str], prints: Mapping[str, str]) -> Side:
    if found.slug is not None:
        return Side(names.get(found.slug, found.slug), note=short_print(prints.get(found.slug, "")))
    if found.rule == "never":
        return Side(_("never a certificate"))
    if found.rule == "none":
        return Side(_("no certificate"), quiet=True)
    named = ", ".join(names.get(slug, slug) for slug in found.candidates[:5])
    more = "…" if len(found.candidates) > 5 else ""
    return Side(_("any of: %(names)s") % {"names": f"{named}{more}"}, quiet=True)


def short_print(sha256: str) -> str:
    """The beginning of a fingerprint: `0F1E2D3C…`; nothing for none."""
    return f"SHA-256 {sha256[:8].upper()}…" if sha256 else ""


def _compared(change: Change, old: Version | None, new: Version | None) -> str:
    """The new version beside the old one: “same subject, new key”."""
    if old is None or new is None:
        return ""
    if change.detail == "chain":
        return _("same certificate, another chain")
    subject = _("same subject") if old.subject == new.subject else _("another subject")
    key = _("same key") if old.spki_sha256 == new.spki_sha256 else _("new key")
    return _("%(subject)s, %(key)s") % {"subject": subject, "key": key}
