"""Changes as lines that a person reads: names instead of slugs, version numbers and expiry instead of fingerprints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from certificates.models import ClientCertificate, Version
from certificates.targets import WORDS
from environments.models import Environment
from rollouts.authors import Author, of_change
from rollouts.changes import Change

MARKS = {"new": gettext_lazy("New"), "changed": gettext_lazy("Changed"), "gone": gettext_lazy("Removed")}
SETTING_WORDS = {
    "runtime": gettext_lazy("Runtime"),
    "runtime_version": gettext_lazy("Runtime version"),
    "profile": gettext_lazy("Profile"),
    "base_folder": gettext_lazy("Base folder"),
}


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

    @property
    def mark(self) -> str:
        if self.change.what == "certificate" and self.change.mark == "gone":
            return _("Taken out")
        return str(MARKS[self.change.mark])


def lines(
    environment: Environment, found: Iterable[Change], who: Mapping[tuple[str, str], Author] | None = None
) -> list[Line]:
    """The changes in words, in their order. Two queries, whatever their number."""
    found = tuple(found)
    if not found:
        return []
    certificates = ClientCertificate.objects.filter(environment=environment)
    names = dict(certificates.values_list("slug", "name"))
    prints = {p for c in found if c.what == "certificate" for p in (c.before, c.after) if p}
    listed = Version.objects.filter(certificate__environment=environment, sha256__in=prints).select_related(
        "certificate"
    )
    versions = {(v.certificate.slug, v.sha256): v for v in listed.order_by("number")}
    return [_line(change, names, versions, dict(who or {})) for change in found]


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
                Side(", ".join(names.get(slug, slug) for slug in (text or "").split(",")))
                for text in (change.before, change.after)
            )
            return Line(change, _("Order of certificates"), "", before, after, author)
        case "setting":
            before, after = (Side(text or _("not set"), quiet=not text) for text in (change.before, change.after))
            return Line(change, str(SETTING_WORDS.get(change.key, change.key)), "", before, after, author)
        case _:
            before, after = (Side(text or _("not there"), quiet=not text) for text in (change.before, change.after))
            return Line(change, _("Trusted authority"), "", before, after, author)


def sent(slug: str | None, names: Mapping[str, str]) -> Side:
    """What a target is sent: by a pin to a slug, by a pin that says never (""), or without a pin (None)."""
    if slug is None:
        return Side(_("any certificate that the server accepts"), quiet=True)
    return Side(names.get(slug, slug)) if slug else Side(_("never a certificate"))


def _compared(change: Change, old: Version | None, new: Version | None) -> str:
    """The new version beside the old one: “same subject, new key”."""
    if old is None or new is None:
        return ""
    if change.detail == "chain":
        return _("same certificate, another chain")
    subject = _("same subject") if old.subject == new.subject else _("another subject")
    key = _("same key") if old.spki_sha256 == new.spki_sha256 else _("new key")
    return _("%(subject)s, %(key)s") % {"subject": subject, "key": key}
