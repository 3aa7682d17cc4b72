"""The list of public authorities that stop issuing certificates for clients: everybody reads it, owners keep it."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from certificates import actions
from certificates.forms import AuthorityForm
from certificates.models import PublicAuthority
from certificates.views.fetching import posted
from environments.forms import refused
from environments.refusals import Refused
from environments.views import installation_owners

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
def authorities(request: HttpRequest) -> HttpResponse:
    context = {"section": "certificates", "authorities": PublicAuthority.objects.all()}
    return render(request, "certificates/authorities.html", context)


@get_or_post
@installation_owners
def authority_new(request: HttpRequest) -> HttpResponse:
    return _edit(request, None)


@get_or_post
@installation_owners
def authority_edit(request: HttpRequest, pk: int) -> HttpResponse:
    return _edit(request, get_object_or_404(PublicAuthority, pk=pk))


def _edit(request: HttpRequest, authority: PublicAuthority | None) -> HttpResponse:
    form = AuthorityForm(authority, posted(request))
    if form.is_bound and form.is_valid():
        try:
            saved = actions.save_authority(authority=authority, by=request.user, **form.cleaned_data)
        except Refused as error:
            refused(form, error)
        else:
            messages.success(request, _("Saved %(name)s.") % {"name": saved})
            return redirect("authorities")
    context = {"section": "certificates", "authority": authority, "form": form}
    return render(request, "certificates/authority.html", context, status=422 if form.is_bound else 200)


@require_POST
@installation_owners
def authority_remove(request: HttpRequest, pk: int) -> HttpResponse:
    authority = get_object_or_404(PublicAuthority, pk=pk)
    actions.remove_authority(authority=authority, by=request.user)
    messages.success(request, _("Removed %(name)s from the list.") % {"name": authority})
    return redirect("authorities")
