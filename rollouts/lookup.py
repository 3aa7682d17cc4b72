"""“Which certificate is sent to …?”, for what runs, for what goes with the next apply, and for any revision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from certificates import current
from certificates.content import Content
from certificates.dialects import DIALECTS, inexpressible
from certificates.models import ClientCertificate, Version
from certificates.selection import Selection, Selector
from certificates.targets import Interpretation, TargetError, interpret
from environments.models import Environment
from environments.refusals import Refused
from rollouts.models import Destination, Revision

# Of a version; the rest of it is long.
SHOWN = ("number", "sha256", "not_after")


@dataclass(frozen=True)
class Presented:
    """A certificate that an answer names."""

    certificate: ClientCertificate
    version: Version


@dataclass(frozen=True)
class Answer:
    """What one configuration presents to a target; `title` says which configuration it is."""

    title: str
    target: Interpretation
    selection: Selection
    presented: Presented | None
    others: tuple[Presented, ...]
    # Each other certificate, and why it is not sent.
    lost: tuple[tuple[Presented, str], ...] = ()

    @property
    def means(self) -> tuple[str, list[Any]]:
        """The same for two configurations that present the same versions by the same rule."""
        named = [self.presented] if self.presented else self.others
        return self.selection.rule, [one.version.pk for one in named]


class Configuration:
    """A content with the certificates behind its slots. Answers many questions."""

    def __init__(self, title: str, content: Content, behind: dict[str, Presented]) -> None:
        self.title = title
        self._content = content
        self._selector = Selector(content)
        self._behind = behind

    def answer(self, target: Interpretation) -> Answer:
        found = self._selector.select(target.key)
        named = tuple(self._behind[slug] for slug in found.candidates if slug in self._behind)
        presented = self._behind.get(found.slug) if found.slug else None
        lost = ((self._behind[slug], why) for slug, why in self._selector.lost(found) if slug in self._behind)
        return Answer(self.title, target, found, presented, () if presented else named, tuple(lost))

    def elsewhere(self, target: Interpretation) -> tuple[tuple[str, str], ...]:
        """What the other kinds of runtime would present: the title of each, with a sentence."""
        told = []
        pin = next((pin for pin in self._content.pins if pin.key == target.key), None)
        for dialect in DIALECTS.values():
            if dialect.kind == self._content.runtime:
                continue
            # Of its pins, only the one that is asked for decides.
            there = replace(self._content, runtime=dialect.kind, pins=(pin,) if pin else ())
            refused = [why for _pin, why in inexpressible(there, dialect.kind)]
            told.append((dialect.title, refused[0] if refused else self._in_words(there, target)))
        return tuple(told)

    def _in_words(self, there: Content, target: Interpretation) -> str:
        found = Selector(there).select(target.key)
        if found.slug is not None:
            name = self._behind[found.slug].certificate.name if found.slug in self._behind else found.slug
            return _("is sent %(name)s") % {"name": name}
        return found.sentence


def pending(environment: Environment) -> Configuration:
    """What goes with the next apply."""
    listed = ClientCertificate.objects.filter(environment=environment, removed_at=None, in_use__isnull=False)
    shown = listed.select_related("in_use").only("slug", "name", *(f"in_use__{column}" for column in SHOWN))
    found = [(c.slug, c, c.in_use) for c in shown if c.in_use is not None]
    return Configuration(_("After the next apply"), current.content(environment), _behind(environment, found))


def running(environment: Environment) -> Configuration | None:
    """What was proved to run; None where nothing was."""
    destination = Destination.objects.filter(environment=environment).select_related("running").first()
    if destination is None or destination.running is None:
        return None
    return _frozen(environment, destination.running, _("Running (%(n)d)") % {"n": destination.running.number})


def revision(environment: Environment, number: int) -> Configuration:
    """An earlier configuration. Raises Refused where there is none of this number."""
    found = Revision.objects.filter(environment=environment, number=number).first()
    if found is None:
        raise Refused(_("There is no revision %(n)d here; look at Rollouts for their numbers.") % {"n": number})
    return _frozen(environment, found, _("Revision %(n)d") % {"n": number})


def _frozen(environment: Environment, revision: Revision, title: str) -> Configuration:
    columns = (*(f"version__{column}" for column in SHOWN), "version__certificate__slug", "version__certificate__name")
    entries = revision.entries.select_related("version__certificate").only("slug", *columns)
    found = [(entry.slug, entry.version.certificate, entry.version) for entry in entries]
    return Configuration(title, revision.frozen, _behind(environment, found))


def _behind(environment: Environment, found: Iterable[tuple[str, ClientCertificate, Version]]) -> dict[str, Presented]:
    """By slug; each certificate knows its environment without a query."""
    behind = {}
    for slug, certificate, version in found:
        certificate.environment = environment
        behind[slug] = Presented(certificate, version)
    return behind


def read(text: str) -> Interpretation:
    """What was asked for: an address, a host, a service or an identifier. Raises Refused."""
    try:
        return interpret(text)
    except TargetError as error:
        raise Refused(str(error), field="target") from None


def answers(environment: Environment, target: Interpretation, wanted: Configuration | None = None) -> list[Answer]:
    """What runs, and what goes with the next apply; one answer where both are the same."""
    runs, next_one = running(environment), (wanted or pending(environment)).answer(target)
    if runs is None:
        return [next_one]
    now = runs.answer(target)
    if now.means == next_one.means:
        return [replace(next_one, title=_("Running, and after the next apply"))]
    return [now, next_one]
