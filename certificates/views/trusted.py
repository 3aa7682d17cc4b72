"""Trusted authorities of an environment: read, confirmed, looked at, removed."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from certificates import actions
from certificates.diagnosis import Refusal
from certificates.dialects import dialect_of
from certificates.forms import TrustForm
from certificates.models import TrustedAuthority
from certificates.pem import armoured
from certificates.views.fetching import page, posted
from environments.access import Right, get_environment, sentence_for
from environments.forms import refused
from environments.refusals import Refused


@require_http_methods(["GET", "HEAD", "POST"])
def trusted_new(request: HttpRequest, app: str, env: str) -> HttpResponse:
    """Reads what was sent and shows it, as text in the form; sent again with the button that adds, it is added."""
    environment = get_environment(request.user, app, env, to=Right.CERTIFICATES)
    form = TrustForm(posted(request), request.FILES or None)
    found: list[TrustedAuthority] = []
    if form.is_bound and form.is_valid():
        try:
            found = actions.read_authorities(environment=environment, files=form.cleaned_data["file"])
            if form.adds(found):
                added = actions.trust(environment=environment, authorities=found, by=request.user)
                words = ngettext("Added %(name)s.", "Added %(n)d authorities.", len(added))
                messages.success(request, words % {"name": added[0], "n": len(added)})
                return redirect(f"{environment.url('network')}#authorities")
        except Refusal as refusal:
            form.add_error("file", str(refusal))
        except Refused as error:
            refused(form, error)
    if found and not form.errors.get("file"):
        form = form.again("".join(armoured(bytes(one.certificate)) for one in found))
    else:
        found = []
    return page(
        request,
        "trusted_new",
        status=422 if form.errors else 200,
        environment=environment,
        form=form,
        found=found,
        warned=any(one.warnings for one in found),
        dialect=dialect_of(environment.runtime),
    )


@require_safe
def trusted(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    environment = get_environment(request.user, app, env)
    authority = get_object_or_404(TrustedAuthority.objects.filter(environment=environment), pk=pk)
    authority.environment = environment
    may_change = Right.CERTIFICATES in environment.rights
    return page(
        request,
        "trusted",
        environment=environment,
        version=authority,
        pem=armoured(bytes(authority.certificate)),
        may_change=may_change and authority.removed_at is None,
        who_may="" if may_change else sentence_for(Right.CERTIFICATES, environment),
    )


@require_POST
def trusted_remove(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    environment = get_environment(request.user, app, env, to=Right.CERTIFICATES)
    authority = get_object_or_404(TrustedAuthority.objects.filter(environment=environment), pk=pk)
    authority.environment = environment
    try:
        actions.distrust(authority=authority, by=request.user)
    except Refused as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("Removed %(name)s. It is trusted until the next apply.") % {"name": authority})
    return redirect(f"{environment.url('network')}#authorities")
