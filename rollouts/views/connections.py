"""The page of one pin's connection: what the last test found, and a button that tries it now."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from environments.access import Right, get_environment, sentence_for
from environments.refusals import Refused
from rollouts import actions, connections
from rollouts.models import ConnectionTest
from rollouts.standing import standing

# Of the tests of one target, the newest.
SHOWN = 10


@require_http_methods(["GET", "HEAD", "POST"])
def connection(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    needs = Right.CERTIFICATES if request.method == "POST" else Right.VIEW
    environment = get_environment(request.user, app, env, to=needs)
    pin = get_object_or_404(environment.pins.select_related("certificate__in_use__sealed"), pk=pk)
    pin.environment = environment
    if pin.certificate is not None:
        pin.certificate.environment = environment
    if request.method == "POST":
        try:
            actions.test_connection(pin=pin, by=request.user)
        except Refused as error:
            messages.error(request, str(error))
        return redirect(environment.url("connection", pk))
    stand = standing(environment)
    asked = connections.of_pins(environment, stand.destination, [pin.pk])
    tests = list(
        ConnectionTest.objects.filter(environment=environment, key=pin.key).select_related("version", "rollout")[:SHOWN]
    )
    basis = asked[0].basis if asked else ""
    last = next((test for test in tests if test.basis == basis), None)
    may_test = Right.CERTIFICATES in environment.rights
    context: dict[str, Any] = {
        "section": "applications",
        "environment": environment,
        "standing": stand,
        "pin": pin,
        "connection": asked[0] if asked else None,
        "last": last,
        "last_told": connections.told(last) if last else None,
        "tests": [connections.told(test) for test in tests],
        "may_test": may_test and bool(asked),
        "may_change": may_test,
        "who_may": "" if may_test else sentence_for(Right.CERTIFICATES, environment),
    }
    return render(request, "rollouts/connection.html", context)
