"""Two environments of an application side by side, and pins that are taken along from one to the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from certificates import actions, shared_keys
from certificates import side_by_side as compared
from certificates.listing import A_PAGE, Sheet, page_number
from certificates.models import ClientCertificate, Pin, Version
from certificates.side_by_side import SAME, PinLine, Side
from certificates.views.fetching import page, posted
from environments.access import Right, get_application, get_environment, sentence_for, visible_environments
from environments.models import Environment
from environments.refusals import Refused

T = TypeVar("T")

# Certificates in one list to choose from; where there are more, the name is typed, with suggestions.
LISTED = 60


@require_http_methods(["GET", "HEAD", "POST"])
def compare(request: HttpRequest, app: str) -> HttpResponse:
    application = get_application(request.user, app)
    places = list(visible_environments(request.user).filter(application=application, archived_at=None))
    if len(places) < 2:
        messages.info(
            request, _("There are no two environments here that you may see, so there is nothing to compare.")
        )
        return redirect(application)
    asked = _asked(request, places)
    right = Right.CERTIFICATES if request.method == "POST" else Right.VIEW
    source = get_environment(request.user, app, asked[0].slug)
    target = get_environment(request.user, app, asked[1].slug, to=right)
    context = {"application": application, "places": places, "source": source, "target": target}
    if source.pk == target.pk:
        return page(request, "compare", status=422 if request.method == "POST" else 200, **context)
    typed = Typed(posted(request))
    error = ""
    if typed.given is not None:
        try:
            return _take(request, source, target, typed)
        except Refused as refused:
            error = _note(typed, refused)
    context |= _shown(request, *compared.sides(source, target), typed)
    return page(request, "compare", status=200 if typed.given is None else 422, error=error, **context)


def _asked(request: HttpRequest, places: list[Environment]) -> tuple[Environment, Environment]:
    """By their slugs; where one is not named: into production, from what stands before it."""
    by_slug = {place.slug: place for place in places}
    slugs = [request.GET.get(name, "") for name in ("from", "to")]
    if any(slug and slug not in by_slug for slug in slugs):
        raise Http404
    source, target = (by_slug.get(slug) for slug in slugs)
    if target is None:
        others = [place for place in places if place is not source]
        target = next((place for place in others if place.production), others[-1])
    if source is None:
        at = places.index(target)
        source = places[at - 1] if at else places[1]
    return source, target


class Typed:
    """What was posted: which pins are ticked, and for each its target and its certificate. None of it is ever lost."""

    def __init__(self, given: QueryDict | None) -> None:
        self.given = given
        self.ticked = set(given.getlist("take")) if given is not None else set()
        # The certificates whose sentence was confirmed, by SHA-256.
        self.confirmed = set(given.getlist("confirmed")) if given is not None else set()
        self.refused: dict[str, Refused] = {}
        self.unconfirmed = ""

    def of(self, pin: Pin, name: str, otherwise: str) -> str:
        return otherwise if self.given is None else self.given.get(f"{name}-{pin.pk}", otherwise)


def _take(request: HttpRequest, source: Environment, target: Environment, typed: Typed) -> HttpResponse:
    assert typed.given is not None
    ticked = Pin.objects.filter(environment=source, pk__in=_keys(typed.ticked)).order_by("key")
    wanted = [actions.Wanted(pin, typed.of(pin, "target", pin.key), typed.of(pin, "certificate", "")) for pin in ticked]
    taken = actions.take_along(
        source=source,
        target=target,
        pins=wanted,
        shown=typed.given.get("shown", ""),
        confirmed=typed.confirmed,
        by=request.user,
    )
    messages.success(request, _told(taken))
    return redirect(target.url("network"))


def _told(taken: list[Pin]) -> str:
    words = ngettext(
        "Took %(n)d pin along. It is not running yet.", "Took %(n)d pins along. They are not running yet.", len(taken)
    ) % {"n": len(taken)}
    if out := sum(1 for pin in taken if pin.certificate is not None and not pin.certificate.enabled):
        words += " " + ngettext(
            "%(n)d counts once its certificate is enabled.", "%(n)d count once their certificates are enabled.", out
        ) % {"n": out}
    return words


def _note(typed: Typed, refused: Refused) -> str:
    """Where the refusal belongs; returns what is said above the pins."""
    if isinstance(refused, actions.NotTaken):
        typed.refused = dict(refused.rows)
    elif refused.field == "confirmed":
        typed.unconfirmed = _(
            "Nothing was taken along; read what is said of the keys of the ticked pins, and tick their boxes."
        )
        return typed.unconfirmed
    return str(refused)


@dataclass
class Row:
    """A target on the page, with what is typed or suggested for it."""

    line: PinLine
    ticked: bool = False
    text: str = ""
    certificate: str = ""
    # The certificate there of the name that is sent here, where no pin can be set to it.
    tracked: ClientCertificate | None = None
    missing: str = ""
    error: str = ""
    wrong: str = ""  # the field that the error is about
    shared: bool = False  # its key is also used outside production

    @property
    def offered(self) -> bool:
        return self.line.here is not None and self.line.difference != SAME and not self.line.untold

    @property
    def never(self) -> bool:
        return self.line.here is not None and self.line.here.certificate_id is None


def _shown(request: HttpRequest, here: Side, there: Side, typed: Typed) -> dict[str, Any]:
    """Everything that the page lists, a page of it at a time."""
    only = request.GET.get("show") == "differences"
    pins, certificates = compared.pin_lines(here, there), compared.certificate_lines(here, there)
    authorities, settings = compared.authority_lines(here, there), compared.setting_lines(here, there)
    listed = _sheet("pins", pins, only, request)
    rows = [_row(line, there, typed) for line in listed.items]
    in_tests = _in_tests(rows, there, request.user)
    may_change = Right.CERTIFICATES in there.environment.rights
    mixes = here.environment.production != there.environment.production
    return {
        "only": only,
        "shown": compared.digest(here, there),
        "pins": listed,
        "pins_differ": _differ(pins),
        "rows": rows,
        "untold": sum(1 for line in pins if line.untold),
        # Where one side is production, the same certificate on both is what has to be seen.
        "certificates": _sheet("page", certificates, only and not mixes, request),
        "certificates_differ": _differ(certificates),
        "mixes": mixes,
        "authorities": [line for line in authorities if not only or line.difference != SAME],
        "authorities_differ": _differ(authorities),
        "settings": [line for line in settings if not only or line.difference != SAME],
        "settings_differ": _differ(settings),
        "choices": there.sendable,
        "lists": len(there.sendable) <= LISTED,
        "offers": may_change and any(row.offered for row in rows),
        "may_change": may_change,
        "who_may": "" if may_change else sentence_for(Right.CERTIFICATES, there.environment),
        "in_tests": in_tests,
        "confirmed": typed.confirmed,
        "unconfirmed": typed.unconfirmed,
    }


def _differ(lines: Iterable[Any]) -> int:
    return sum(1 for line in lines if line.difference != SAME)


def _sheet(name: str, lines: list[T], only: bool, request: HttpRequest) -> Sheet[T]:
    found = [line for line in lines if not only or line.difference != SAME]  # type: ignore[attr-defined]
    number = min(page_number(request.GET.get(name, "")), max(1, -(-len(found) // A_PAGE)))
    return Sheet(name, found[(number - 1) * A_PAGE : number * A_PAGE], number, len(found), len(lines))


def _row(line: PinLine, there: Side, typed: Typed) -> Row:
    """Suggests the same target, and the certificate of the same name there."""
    row = Row(line)
    if line.here is None or not row.offered:
        return row
    sent = line.here.certificate
    named = there.named(sent.name) if sent is not None else None
    if named is not None and named not in there.sendable:
        row.tracked, named = named, None
    elif named is None and sent is not None:
        row.missing = sent.name
    row.ticked = str(line.here.pk) in typed.ticked
    row.text = typed.of(line.here, "target", line.key)
    row.certificate = typed.of(line.here, "certificate", named.name if named else "")
    if refused := typed.refused.get(line.key):
        row.error, row.wrong = str(refused), refused.field or ""
    return row


def _in_tests(rows: list[Row], there: Side, reader: Any) -> list[tuple[str, str, str]]:
    """Of the certificates in these rows whose key is also used outside production: name, SHA-256 and sentence."""
    chosen: dict[str, Version] = {}
    for row in rows:
        certificate = there.named(row.certificate) if row.offered and row.certificate else None
        if certificate is not None and certificate.in_use is not None:
            row.certificate = certificate.name
            chosen[certificate.name] = certificate.in_use
    found = shared_keys.also_in_tests(there.environment, chosen.values(), reader)
    for row in rows:
        row.shared = row.certificate in chosen and chosen[row.certificate].sha256 in found
    return [(name, v.sha256, found[v.sha256]) for name, v in sorted(chosen.items()) if v.sha256 in found]


def _keys(ticked: Iterable[str]) -> list[UUID]:
    found = []
    for text in ticked:
        try:
            found.append(UUID(text))
        except ValueError:
            raise Http404 from None
    return found
