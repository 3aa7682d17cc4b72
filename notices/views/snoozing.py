"""Snooze on a certificate's page: seen by everybody, ended by anybody who may change it."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from certificates.views.fetching import get_certificate
from environments.forms import refused
from environments.refusals import Refused
from notices import actions
from notices.forms import SnoozeForm


@require_http_methods(["GET", "HEAD", "POST"])
def snooze(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    certificate = get_certificate(request.user, app, env, pk)
    form = SnoozeForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            actions.snooze(certificate=certificate, by=request.user, **form.cleaned_data)
        except Refused as error:
            refused(form, error)
        else:
            messages.success(request, _("Snoozed. It stands on its page and in the weekly digest, with your reason."))
            return redirect(certificate)
    context = {
        "section": "applications", "environment": certificate.environment, "certificate": certificate, "form": form,
    }  # fmt: skip
    return render(request, "notices/snooze.html", context, status=422 if form.is_bound else 200)


@require_POST
def wake(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    certificate = get_certificate(request.user, app, env, pk)
    actions.wake(certificate=certificate, by=request.user)
    messages.success(request, _("The snooze is over; what it held back is told within a minute."))
    return redirect(certificate)
