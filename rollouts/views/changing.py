"""What is not running: look at it, apply it, undo it; and stop, start and restart, which leave it waiting."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from environments.access import Right, get_environment
from environments.forms import refused
from environments.models import Environment
from environments.refusals import Refused
from rollouts import actions, authors, connections
from rollouts.differences import answers_that_change, lines
from rollouts.forms import ApplyForm, AskForm, UndoForm
from rollouts.models import Rollout
from rollouts.stages import way_back
from rollouts.standing import Standing, downtime_in_words, standing, why_blocked

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


# Lines of a page. What is applied or undone is everything, by its digest, however much of it one page can show.
A_PAGE = 200
# Names in one sentence.
STAY_NAMED = 12


def _lines(stand: Standing, request: HttpRequest) -> dict[str, Any]:
    """A page of the changes, and the means to turn it; `total` is the number of all changes."""
    listed = Paginator(stand.changes, A_PAGE).get_page(request.GET.get("page"))
    who = authors.of_changes(stand.environment, stand.destination, request.user)
    return {"lines": lines(stand.environment, list(listed), who), "total": len(stand.changes), "page": listed}


@require_safe
def changes(request: HttpRequest, app: str, env: str) -> HttpResponse:
    environment = get_environment(request.user, app, env)
    stand = standing(environment)
    context = {"environment": environment, "standing": stand, **_lines(stand, request)}
    context["answers"] = answers_that_change(environment, stand.running, stand.wanted)
    return render(request, "rollouts/changes.html", {"section": "applications", **context})


@get_or_post
def apply(request: HttpRequest, app: str, env: str) -> HttpResponse:
    environment = get_environment(request.user, app, env, to=Right.APPLY)
    stand = standing(environment)
    refusals = _known_refusals(environment, stand)
    form = ApplyForm(stand, request.POST if request.method == "POST" else None, refusals=bool(refusals))
    if form.is_bound and form.is_valid():
        try:
            made = actions.apply(environment=environment, by=request.user, **form.choices)
        except Refused as error:
            if already := _already(environment, str(form.cleaned_data["shown"]), later=bool(form.choices["due_at"])):
                return _follow(request, already, str(error))
            refused(form, error)
            stand = standing(environment)
        else:
            return _follow(request, made)
    elif stand.active is not None and stand.active.revision and stand.active.revision.digest == stand.comparison.digest:
        return _follow(request, stand.active, _("This is already being applied."))
    context = {
        "environment": environment,
        "standing": stand,
        **_lines(stand, request),
        "form": form,
        "refusals": refusals,
        "downtime": downtime_in_words(environment),
        "why_blocked": why_blocked(stand),
        "way_back": way_back(stand.destination.able, stand.destination.running) if stand.destination else "",
    }
    status = 422 if form.is_bound else 200
    return render(request, "rollouts/apply.html", {"section": "applications", **context}, status=status)


def _known_refusals(environment: Environment, stand: Standing) -> list[connections.Told]:
    """What the last tests of the connections to be tested said, where that would stop an apply."""
    if environment.connection_tests != "block" or stand.destination is None:
        return []
    asked = connections.of_content(environment, stand.destination, stand.wanted)
    found = [connections.told(test) for test in connections.newest(environment, asked).values()]
    return [one for one in found if one.turned_away]


def _already(environment: Environment, shown: str, *, later: bool) -> Rollout | None:
    """What a second click meets: the rollout that the first one asked for."""
    stand = standing(environment)
    if later:
        same = stand.scheduled is not None and stand.scheduled.revision and stand.scheduled.revision.digest == shown
        return stand.scheduled if same else None
    if stand.active is not None:
        return stand.active
    if stand.last is not None and stand.last.revision and stand.last.revision.digest == shown and not stand.count:
        return stand.last
    return None


def _follow(request: HttpRequest, rollout: Rollout, sentence: str = "") -> HttpResponse:
    if sentence:
        messages.info(request, sentence)
    return redirect(rollout)


@get_or_post
def undo(request: HttpRequest, app: str, env: str) -> HttpResponse:
    environment = get_environment(request.user, app, env, to=Right.CERTIFICATES)
    form = UndoForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            actions.undo_changes(environment=environment, by=request.user, **form.cleaned_data)
        except Refused as error:
            form.fields["despite"].required = error.field == "despite"
            refused(form, error)
        else:
            messages.success(request, _("Changes undone. What is shown is what runs."))
            return redirect("network", app, env)
    stand = standing(environment)
    listed = _lines(stand, request)
    new = [line.name for line in listed["lines"] if (line.change.what, line.change.mark) == ("certificate", "new")]
    all_new = sum(1 for change in stand.changes if (change.what, change.mark) == ("certificate", "new"))
    context = {
        "environment": environment,
        "standing": stand,
        **listed,
        "form": form,
        "stay": new[:STAY_NAMED],
        "more_stay": max(0, all_new - len(new[:STAY_NAMED])),
    }
    status = 422 if form.is_bound else 200
    return render(request, "rollouts/undo.html", {"section": "applications", **context}, status=status)


ASKS = {"stop": actions.stop, "start": actions.start, "restart": actions.restart}


@get_or_post
def ask(request: HttpRequest, app: str, env: str, kind: str) -> HttpResponse:
    """Stop, start or restart, after a page that says exactly what will run."""
    if kind not in ASKS:
        raise Http404
    environment = get_environment(request.user, app, env, to=Right.APPLY)
    form = AskForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            return _follow(request, ASKS[kind](environment=environment, by=request.user, **form.cleaned_data))
        except Refused as error:
            if active := actions.active_rollout(environment):
                return _follow(request, active, str(error))
            refused(form, error)
    context = {
        "environment": environment,
        "standing": standing(environment),
        "kind": kind,
        "form": form,
        "downtime": downtime_in_words(environment) if kind == "restart" else "",
    }
    status = 422 if form.is_bound else 200
    return render(request, "rollouts/ask.html", {"section": "applications", **context}, status=status)
