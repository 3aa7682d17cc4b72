"""Where an app runs on a platform of its own: choosing it, how it is reached, and a look at it step by step."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from environments.access import Right, get_environment, sentence_for
from environments.forms import refused
from environments.refusals import Refused
from rollouts import actions
from rollouts.connectors import CONNECTORS, LISTED, connector_class
from rollouts.forms import PlatformForm
from rollouts.standing import standing


@require_safe
def platforms(request: HttpRequest, app: str, env: str) -> HttpResponse:
    """The platforms that there are, each with what it can prove."""
    environment = get_environment(request.user, app, env, to=Right.OWN)
    kinds = [(kind, _(connector_class(kind).title)) for kind in CONNECTORS if kind not in LISTED]
    known = [(kind, title, _(connector_class(kind).able({}).proves)) for kind, title in kinds]
    context = {"environment": environment, "standing": standing(environment), "platforms": known}
    return render(request, "rollouts/platforms.html", {"section": "applications", **context})


@require_http_methods(["GET", "HEAD", "POST"])
def platform(request: HttpRequest, app: str, env: str, kind: str) -> HttpResponse:
    """How one is reached. For a place of the server's settings only its secrets are asked for."""
    environment = get_environment(request.user, app, env, to=Right.OWN)
    stand = standing(environment)
    there = stand.destination
    if kind not in CONNECTORS or (kind in LISTED and (there is None or there.connector != kind)):
        raise Http404
    form = PlatformForm(kind, there, request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            if kind in LISTED:
                actions.set_credentials(environment=environment, secrets=form.secrets, by=request.user)
            else:
                actions.use_platform(
                    environment=environment,
                    connector=kind,
                    exporter=form.exporter,
                    options=form.options,
                    secrets=form.secrets,
                    base_folder=form.cleaned_data.get("base_folder", ""),
                    by=request.user,
                )
        except Refused as error:
            refused(form, error)
        else:
            messages.success(request, _("Saved. Check the connection now: nothing is restarted by that."))
            return redirect("platform-check", app, env)
    context = {
        "environment": environment,
        "standing": stand,
        "form": form,
        "kind": kind,
        "title": _(connector_class(kind).title),
        "proves": _(connector_class(kind).able(there.settings if there and there.connector == kind else {}).proves),
        "listed": kind in LISTED,
    }
    status = 422 if form.is_bound else 200
    return render(request, "rollouts/platform.html", {"section": "applications", **context}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def check(request: HttpRequest, app: str, env: str) -> HttpResponse:
    needs = Right.APPLY if request.method == "POST" else Right.VIEW
    environment = get_environment(request.user, app, env, to=needs)
    stand = standing(environment)
    if stand.destination is None:
        raise Http404
    ticks: list[Any] = []
    if request.method == "POST":
        try:
            ticks = actions.check_platform(environment=environment, by=request.user)
        except Refused as error:
            messages.error(request, str(error))
    may_check = Right.APPLY in environment.rights
    context = {
        "environment": environment,
        "standing": stand,
        "able": stand.destination.able,
        "proves": _(stand.destination.able.proves),
        "ticks": [(_(tick.title), tick) for tick in ticks],
        "well": bool(ticks) and all(tick.outcome != "failed" for tick in ticks),
        "may_check": may_check,
        "who_may": "" if may_check else sentence_for(Right.APPLY, environment),
    }
    return render(request, "rollouts/platform_check.html", {"section": "applications", **context})
