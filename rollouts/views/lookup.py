"""Which certificate is sent to a service or host, asked on the Network tab."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from environments.access import get_environment
from environments.refusals import Refused
from rollouts import lookup as lookups


@require_http_methods(["GET", "HEAD", "POST"])
def lookup(request: HttpRequest, app: str, env: str) -> HttpResponse:
    """By POST, although it changes nothing: an address that was pasted may carry a password, and addresses of requests
    are written to logs."""
    environment = get_environment(request.user, app, env)
    asked = request.POST.get("target", "").strip()
    context = {"section": "applications", "environment": environment, "asked": asked}
    if asked:
        try:
            context["target"] = target = lookups.read(asked)
            wanted = lookups.pending(environment)
            context["answers"] = lookups.answers(environment, target, wanted)
            context["elsewhere"] = wanted.elsewhere(target)
        except Refused as error:
            context["problem"] = str(error)
    fragment = bool(request.headers.get("HX-Request"))
    status = 422 if "problem" in context and not fragment else 200
    return render(request, "rollouts/answers.html" if fragment else "rollouts/lookup.html", context, status=status)
