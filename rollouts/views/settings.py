"""An environment's settings: its name, where it runs, and its end."""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from certificates import current
from certificates.content import PinnedTarget
from certificates.dialects import dialect_of, inexpressible
from environments import actions as environments
from environments.access import Right, get_environment, sentence_for
from environments.forms import refused
from environments.models import Environment
from environments.refusals import Refused
from rollouts import actions
from rollouts.connectors import connector_class
from rollouts.forms import EnvironmentSettingsForm, HealthForm, PlaceForm
from rollouts.models import Destination
from rollouts.standing import standing

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@get_or_post
def environment_settings(request: HttpRequest, app: str, env: str) -> HttpResponse:
    """Two forms on one page; the field `form` says which of them was sent."""
    posted = request.POST if request.method == "POST" else None
    environment = get_environment(request.user, app, env, to=Right.VIEW if posted is None else Right.OWN)
    stand = standing(environment)
    placing = posted is not None and posted.get("form") == "place"
    form = EnvironmentSettingsForm(environment, None if placing else posted, placed=stand.destination is not None)
    place = PlaceForm(free_places(environment), posted if placing else None, initial=_current(stand.destination))
    asks_health = posted is not None and posted.get("form") == "health"
    health = HealthForm(posted if asks_health else None, initial=_health(stand.destination))
    form = EnvironmentSettingsForm(environment, None, placed=stand.destination is not None) if asks_health else form
    sent = place if placing else health if asks_health else form
    untold = _untold(environment, form)
    if sent.is_bound and sent.is_valid() and not untold:
        try:
            _save(environment, sent, request)
        except Refused as error:
            refused(sent, error)
            environment.refresh_from_db()
        else:
            return redirect("environment-settings", app, env)
    context = {
        "environment": environment,
        "standing": stand,
        "form": form,
        "place_form": place,
        "health_form": health,
        "untold": untold,
        "runtime": dialect_of(environment.runtime),
        "proves": _(stand.destination.able.proves) if stand.destination else "",
        "asks": bool(stand.destination and connector_class(stand.destination.connector).asks),
        "may_own": Right.OWN in environment.rights,
        "who_may": "" if Right.OWN in environment.rights else sentence_for(Right.OWN, environment),
    }
    status = 200 if posted is None else 422
    return render(request, "rollouts/settings.html", {"section": "applications", **context}, status=status)


@dataclass(frozen=True)
class Untold:
    """What another runtime cannot be told: pins with the reason, of how many; and whether authorities are among it."""

    title: str
    pins: tuple[tuple[PinnedTarget, str], ...]
    of: int
    authorities: int


def _untold(environment: Environment, form: EnvironmentSettingsForm) -> Untold | None:
    """What cannot be expressed where the environment is to run from now on, until the person has accepted that."""
    if not (form.is_bound and form.is_valid()):
        return None
    runtime = form.cleaned_data.get("runtime", environment.runtime)
    if runtime == environment.runtime or form.cleaned_data["accepted"]:
        return None
    dialect, content = dialect_of(runtime), current.content(environment)
    pins = tuple(
        PinnedTarget(kind, key, str(certificate) if certificate else None)
        for kind, key, certificate in environment.pins.values_list("kind", "key", "certificate")
    )
    version = form.cleaned_data["runtime_version"]
    found = inexpressible(replace(content, pins=pins, runtime_version=version), runtime)
    authorities = 0 if dialect.authorities else len(content.authorities)
    return Untold(dialect.title, found, len(pins), authorities) if found or authorities else None


def _health(destination: Destination | None) -> dict[str, object]:
    names = ("url", "status", "text", "seconds")
    return {name: getattr(destination, f"health_{name}") for name in names} if destination else {}


def _save(
    environment: Environment, form: EnvironmentSettingsForm | PlaceForm | HealthForm, request: HttpRequest
) -> None:
    if isinstance(form, HealthForm):
        actions.set_health_check(environment=environment, by=request.user, **form.cleaned_data)
        messages.success(request, _("Health check saved."))
        return
    if isinstance(form, PlaceForm):
        destination = actions.use_place(environment=environment, by=request.user, **form.cleaned_data)
        messages.success(request, _("Runs on %(place)s.") % {"place": destination.title})
    else:
        environments.change_environment(environment=environment, by=request.user, **form.values)
        messages.success(request, _("Settings saved."))


def _current(destination: Destination | None) -> dict[str, str]:
    return {"place": destination.place} if destination else {}


def free_places(environment: Environment) -> list[tuple[str, str]]:
    """The places that the server's settings list and no other living environment has taken, with their titles."""
    others = Destination.objects.exclude(environment=environment).filter(environment__archived_at=None)
    taken = set(others.values_list("place", flat=True))
    known = settings.LOCAL_PROCESSES
    return [(name, str(known[name].get("title", name))) for name in known if name not in taken]


@get_or_post
def archive(request: HttpRequest, app: str, env: str) -> HttpResponse:
    environment = get_environment(request.user, app, env, to=Right.OWN)
    stand, sentence = standing(environment), ""
    if request.method == "POST":
        try:
            actions.archive(environment=environment, by=request.user)
        except Refused as error:
            sentence = str(error)
        else:
            messages.success(request, _("%(environment)s is archived.") % {"environment": environment})
            return redirect(environment.application)
    context = {"section": "applications", "environment": environment, "standing": stand, "sentence": sentence}
    return render(request, "rollouts/archive.html", context, status=422 if sentence else 200)


@require_POST
def bring_back(request: HttpRequest, app: str, env: str) -> HttpResponse:
    environment = get_environment(request.user, app, env, to=Right.OWN, archived=True)
    try:
        environments.bring_back_environment(environment=environment, by=request.user)
    except Refused as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("%(environment)s is back.") % {"environment": environment})
    return redirect("environment-settings", app, env)
