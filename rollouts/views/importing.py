"""*Import what runs today*: its configuration and files are sent, looked at, and brought in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from certificates import actions as certificates
from certificates.actions.imports import drafts_of
from certificates.compromised import look_up
from certificates.models import Incoming, Version
from certificates.targets import WORDS
from environments.access import Right, environments_to
from environments.forms import refused
from environments.models import Environment
from environments.refusals import Refused
from rollouts import actions
from rollouts.forms import ImportForm

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@sensitive_post_parameters("text")
@sensitive_variables("plans")
@get_or_post
def import_new(request: HttpRequest) -> HttpResponse:
    """Plans what was sent and opens its files; the preview has an address of its own."""
    places = list(environments_to(Right.CERTIFICATES, request.user).order_by("application__name", "position"))
    initial = {"environment": request.GET.get("environment", "")}
    form = ImportForm(
        places,
        request.POST if request.method == "POST" else None,
        request.FILES if request.method == "POST" else None,
        initial=initial,
    )
    if form.is_bound and form.is_valid():
        try:
            plans = certificates.plan_import(
                files=form.cleaned_data["file"],
                pasted=form.cleaned_data["text"],
                environment=form.cleaned_data["environment"],
                known=known(places),
            )
            if request.session.session_key is None:
                request.session.create()
            group = certificates.keep_import(
                plans=plans, session_key=request.session.session_key or "", by=request.user
            )
        except Refused as error:
            refused(form, error)
        else:
            return redirect("import", group)
    context = {"section": "applications", "form": form, "places": places}
    return render(request, "rollouts/import_new.html", context, status=422 if form.is_bound else 200)


def known(places: list[Environment]) -> dict[str, Environment]:
    """By the names that a list may use, in small letters: those of the address and those of the pages."""
    found = {f"{place.application.slug}/{place.slug}".lower(): place for place in places}
    # Where one's address is another's name, the name wins: it is what people write in lists.
    return found | {f"{place.application.name}/{place.name}".lower(): place for place in places}


@dataclass(frozen=True)
class Row:
    """One certificate of an import: what its file holds, None where it was not among the files or cannot be opened."""

    number: int
    name: str
    file: str
    version: Version | None
    tracked: bool


@dataclass(frozen=True)
class Part:
    """What waits for one environment."""

    incoming: Incoming
    rows: list[Row]
    pins: list[dict[str, Any]]

    @property
    def ready(self) -> bool:
        return not self.incoming.plan["problems"]


def _part(incoming: Incoming) -> Part:
    drafts, rows = drafts_of(incoming), []
    for place, one in enumerate(incoming.plan["certificates"]):
        draft = drafts.get(place)
        version = draft.version() if draft is not None and draft.is_read else None
        name = one["name"] or (version.common_name if version else "") or one["file"]
        rows.append(Row(place + 1, name, one["file"], version, bool(draft and draft.tracked)))
    look_up(row.version for row in rows if row.version is not None)
    pins = [
        {
            "key": pin["key"],
            "kind": WORDS[pin["kind"]].lower(),
            "never": pin["place"] is None,
            "row": None if pin["place"] is None else rows[pin["place"]],
        }
        for pin in incoming.plan["pins"]
    ]
    return Part(incoming, rows, pins)


@get_or_post
def import_look(request: HttpRequest, group: UUID) -> HttpResponse:
    try:
        waiting = certificates.imports_of(group=group, session_key=request.session.session_key or "", by=request.user)
        allowed = set(environments_to(Right.CERTIFICATES, request.user).values_list("pk", flat=True))
        if any(one.environment_id not in allowed for one in waiting):
            raise Refused(_("You may no longer change one of these environments; choose the files again."))
    except Refused as error:
        messages.error(request, str(error))
        return redirect("import-new")
    if request.method == "POST" and "cancel" in request.POST:
        for one in waiting:
            certificates.drop_import(incoming=one, by=request.user)
        messages.success(request, _("Nothing was brought in."))
        return redirect("home")
    if request.method == "POST":
        _bring_in(request, waiting)
        left = [one for one in waiting if one.pk is not None]
        if not left:
            return redirect(waiting[0].environment.url("network")) if len(waiting) == 1 else redirect("home")
        waiting = left
    parts = [_part(one) for one in waiting]
    context = {"section": "applications", "parts": parts, "ready": any(part.ready for part in parts)}
    return render(request, "rollouts/import.html", context)


def _bring_in(request: HttpRequest, waiting: list[Incoming]) -> None:
    """Those without problems, each for itself; what came in has no key any more."""
    for one in waiting:
        if one.plan["problems"]:
            continue
        try:
            done = actions.bring_in(incoming=one, by=request.user)
        except Refused as error:
            messages.error(request, f"{one.environment}: {error}")
            continue
        one.pk = None
        n = len(done.certificates)
        words = ngettext(
            "%(environment)s: brought in %(n)d certificate and %(pins)d pins. Exported again, they mean the same.",
            "%(environment)s: brought in %(n)d certificates and %(pins)d pins. Exported again, they mean the same.",
            n,
        )
        messages.success(request, words % {"environment": done.environment, "n": n, "pins": done.pins})
