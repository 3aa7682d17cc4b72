"""A renewal beside the version that it follows, in words: what it is, what differs, and what the partner has to know
of it (certificates.recognition says what there is to say)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from certificates.models import Version
from certificates.recognition import Difference, Recognised, recognised
from certificates.spelled import key_of, readable


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


# kind → what it is, in one sentence
KINDS = {
    "same": gettext_lazy("This is the very same certificate."),
    "renewal": gettext_lazy("A renewal: the same subject and issuer, with a new key."),
    "same-key": gettext_lazy(
        "A renewal with the same key: the same subject and issuer. Who had the old key has this one."
    ),
    "other-issuer": gettext_lazy("A renewal from another issuer; the subject is the same."),
    "other-subject": gettext_lazy(
        "The subject differs, and something is the same: the key, the common name or a name. Check that it is meant."
    ),
    "stranger": gettext_lazy(
        "This hardly is a renewal of this certificate: another subject, another key, no name in common."
    ),
}


def headline(found: Recognised) -> str:
    return str(KINDS[found.kind])


def compare(old: Version, new: Version) -> list[Pair]:
    """The lines of the table, in the order in which somebody checks them."""
    found = recognised(old, new)
    key = found.of("key")
    other = _("another one") if old.sha256 != new.sha256 else ""
    return [
        _name(_("Subject"), old.subject, new.subject, found.of("subject")),
        _name(_("Issuer"), old.issuer, new.issuer, found.of("issuer") or found.of("chain")),
        _names(old, new, found.of("names")),
        Pair(_("Key"), key_of(old), key_of(new), _key(key), unusual=key is not None and key.how == "kind"),
        Pair(_("Serial number"), old.serial, new.serial, other, mono=True),
        _expiry(old, new, found.of("lifetime")),
        Pair(_("SHA-256"), old.sha256, new.sha256, other, mono=True),
    ]


def _name(about: str, old: str, new: str, found: Difference | None) -> Pair:
    if found is None:
        return Pair(about, readable(old), readable(new))
    if found.about == "chain":
        words = _("the same name, under another certificate of it; whoever keeps the old one has to take the new one")
        return Pair(about, readable(old), readable(new), words)
    if found.how == "spelling":
        words = _("the same, spelled otherwise; who compares letters sees another one")
    else:
        kinds = {"subject": _("another subject: %(change)s"), "issuer": _("another issuer: %(change)s")}
        words = kinds[found.about] % {"change": _change(found)}
    return Pair(about, readable(old), readable(new), words, unusual=True)


def _change(found: Difference) -> str:
    lost, added = ", ".join(found.lost), ", ".join(found.added)
    if lost and added:
        return _("%(new)s instead of %(old)s") % {"new": added, "old": lost}
    return _("without %(names)s") % {"names": lost} if lost else _("with %(names)s") % {"names": added}


def _names(old: Version, new: Version, found: Difference | None) -> Pair:
    words = []
    if found is not None and found.added:
        words.append(_("adds %(names)s") % {"names": ", ".join(found.added)})
    if found is not None and found.lost:
        words.append(_("drops %(names)s") % {"names": ", ".join(found.lost)})
    unusual = found is not None and found.how == "lost"
    return Pair(_("Names"), ", ".join(old.names) or "–", ", ".join(new.names) or "–", "; ".join(words), unusual=unusual)


def _key(found: Difference | None) -> str:
    if found is None:
        return _("the same key again")
    return _("new key of another kind") if found.how == "kind" else _("new key")


def _expiry(old: Version, new: Version, found: Difference | None) -> Pair:
    days = found.days if found is not None else 0
    if days >= 0:
        words = ngettext("%(n)d day later", "%(n)d days later", days) % {"n": days} if days else _("the same day")
    else:
        words = ngettext("%(n)d day earlier", "%(n)d days earlier", -days) % {"n": -days}
    return Pair(
        _("Expires"), date_format(old.not_after, "j M Y"), date_format(new.not_after, "j M Y"), words, unusual=days <= 0
    )


@dataclass(frozen=True)
class Disagreement:
    """What a renewal changes although the partner recognises us by it: `code` is `partner-<kind>`
    (or shared_keys.CODE, of a key that is used outside production, too)."""

    code: str
    sentence: str


def disagreements(identified_by: Iterable[str], old: Version | None, new: Version) -> list[Disagreement]:
    """What has to be agreed with the partner before the renewal is used (ClientCertificate.identified_by)."""
    if old is None:
        return []
    found = recognised(old, new)
    said = []
    for kind in identified_by:
        if kind in ("subject", "issuer") and found.of(kind) is not None:
            before, after = getattr(old, kind), getattr(new, kind)
            said.append((kind, WORDS_OF_KIND[kind] % {"old": readable(before), "new": readable(after)}))
        elif kind == "thumbprint" and found.kind != "same":
            said.append((kind, WORDS_OF_KIND[kind] % {"new": f"{new.sha256[:8].upper()}…"}))
        elif kind == "key" and found.of("key") is not None:
            said.append((kind, WORDS_OF_KIND[kind] % {}))
    return [Disagreement(f"partner-{kind}", str(sentence)) for kind, sentence in said]


WORDS_OF_KIND = {
    "subject": gettext_lazy(
        "The partner recognises us by its subject, which changes from %(old)s to %(new)s; agree it with them first."
    ),
    "issuer": gettext_lazy(
        "The partner recognises us by its issuer, which changes from %(old)s to %(new)s; agree it with them first."
    ),
    "thumbprint": gettext_lazy(
        "The partner recognises us by its fingerprint, which is another one; send them the new one first"
        " (SHA-256 %(new)s)."
    ),
    "key": gettext_lazy(
        "The partner recognises us by its public key, which is a new one; send them the new certificate first."
    ),
}
