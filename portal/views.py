"""The home page and an application's pages: what shows how environments stand, and where a new one is to run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views import csrf
from django.views.decorators.http import require_http_methods, require_safe

from certificates.models import Version
from certificates.views import partner
from environments import actions as environments
from environments.access import Right, get_application, sentence_for, visible_applications, visible_environments
from environments.forms import refused
from environments.models import Environment
from environments.refusals import Refused
from environments.views import members_of
from portal.forms import EXPORT_ONLY, NewEnvironmentForm
from portal.needs import AT_MOST, needs
from portal.strip import strip
from rollouts import actions as rollouts
from rollouts.models import Destination
from rollouts.standing import Standing, standings

NEEDS_SHOWN = 10


@dataclass(frozen=True)
class Row:
    """An environment in a list."""

    environment: Environment
    standing: Standing

    @property
    def next_to_expire(self) -> Version | None:
        return self.standing.comparison.next_to_expire


def rows(found: Iterable[Environment]) -> list[Row]:
    found = list(found)
    stands = standings(found)
    return [Row(environment, stands[environment.pk]) for environment in found]


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    applications = list(visible_applications(request.user))
    all_rows = rows(environment for application in applications for environment in application.environments.all())
    by_application: dict[Any, list[Row]] = {application.pk: [] for application in applications}
    for row in all_rows:
        by_application[row.environment.application_id].append(row)
    needed = needs(request.user, {row.environment.pk: row.standing for row in all_rows})
    places = [row.environment for row in all_rows]
    context = {
        "section": "applications",
        "applications": [(application, by_application[application.pk]) for application in applications],
        "several": sum(1 for row in all_rows if row.standing.count and row.standing.destination) > 1,
        "needs": needed[:NEEDS_SHOWN],
        "more_needs": max(0, len(needed) - NEEDS_SHOWN),
        "needs_cut": needed.cut,
        "strip": strip(places) if places else None,
        "places": len(places),
        "sandbox": f"http://127.0.0.1:{settings.SANDBOX_PORT}/" if settings.SANDBOX and not applications else "",
    }
    return render(request, "portal/home.html", context)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form came without its mark against other sites; a partner is told so without the portal's frame."""
    match = request.resolver_match
    if match is not None and match.url_name == "partner":
        return partner.too_old(request, match.kwargs.get("language", ""))
    return csrf.csrf_failure(request, reason)


@require_safe
def needs_you(request: HttpRequest) -> HttpResponse:
    """All of what the home page shows the worst of."""
    stands = standings(visible_environments(request.user).filter(archived_at=None))
    context = {"section": "applications", "needs": needs(request.user, stands), "at_most": AT_MOST}
    return render(request, "portal/needs.html", context)


@require_safe
def application(request: HttpRequest, app: str) -> HttpResponse:
    found = get_application(request.user, app)
    seen = list(visible_environments(request.user).filter(application=found))
    may_own = Right.OWN in found.rights
    context = {
        "section": "applications",
        "application": found,
        "rows": rows(environment for environment in seen if environment.archived_at is None),
        "archived": [environment for environment in seen if environment.archived_at is not None],
        "members": members_of(found, seen),
        "may_own": may_own,
        "who_may": "" if may_own else sentence_for(Right.OWN, found),
    }
    return render(request, "portal/application.html", context)


def free_places() -> list[tuple[str, str]]:
    """The places of the server's settings that run no living environment, with their titles."""
    taken = set(Destination.objects.filter(environment__archived_at=None).values_list("place", flat=True))
    known = settings.LOCAL_PROCESSES
    return [(name, str(place.get("title", name))) for name, place in known.items() if name not in taken]


@require_http_methods(["GET", "HEAD", "POST"])
def environment_new(request: HttpRequest, app: str) -> HttpResponse:
    found = get_application(request.user, app, to=Right.OWN)
    form = NewEnvironmentForm(free_places(), request.POST or None)
    if form.is_bound and form.is_valid():
        values = dict(form.cleaned_data)
        place = values.pop("place")
        try:
            environment = environments.create_environment(application=found, by=request.user, **values)
        except Refused as error:
            refused(form, error)
        else:
            messages.success(request, _("Created %(environment)s.") % {"environment": environment})
            return _place(request, environment, place)
    context = {"section": "applications", "application": found, "form": form, "places": bool(settings.LOCAL_PROCESSES)}
    return render(request, "portal/environment_new.html", context, status=422 if form.is_bound else 200)


def _place(request: HttpRequest, environment: Environment, place: str) -> HttpResponse:
    """The environment exists by now; a place that says no leaves it without one, and the page where to choose again."""
    if place != EXPORT_ONLY:
        try:
            rollouts.use_place(environment=environment, place=place, by=request.user)
        except Refused as error:
            messages.warning(request, _("Where it runs is not set yet. %(why)s") % {"why": error})
            return redirect("environment-settings", environment.application.slug, environment.slug)
    return redirect(environment)
