"""Signing in and out, and changing one's password."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.crypto import salted_hmac
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from audit import trail
from audit.actors import Actor
from audit.models import Event
from environments import actions
from environments.attempts import TooManyAttempts, only_refusals
from environments.forms import refused
from environments.models import Person
from environments.refusals import Refused
from portal.forms import ChangePasswordForm, SignInForm

SIGNED_IN, NOT_SIGNED_IN = "person.signed-in", "person.sign-in-refused"


@login_not_required
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """The answer to a wrong password is the answer to an unknown name, a locked-out person, and a pause for either."""
    if request.htmx:  # type: ignore[attr-defined]  # a part of a page whose session has ended: load the whole page
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})
    if request.user.is_authenticated:
        return redirect(_next(request))
    form, status = SignInForm(request.POST or None), 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            name, address = form.cleaned_data["name"], request.META.get("REMOTE_ADDR", "")
            attempt = _attempt(name, address)
            if _paused(attempt):
                status = 429
                form.add_error(None, _("Too many attempts with this name failed; wait 5 minutes, then try again."))
            elif _sign_in(request, name, form.cleaned_data["password"], address, attempt):
                return redirect(_next(request))
            else:
                form.add_error(None, _("Name and password do not match; check both, then try again."))
    context = {"form": form, "next": _next(request), "nobody_yet": not Person.objects.exclude(last_login=None).exists()}
    return render(request, "portal/sign_in.html", context, status=status)


def _sign_in(request: HttpRequest, name: str, password: str, address: str, attempt: str) -> bool:
    """Signs in, or records that somebody could not. An unknown name is not written down: it may be a password."""
    known = Person.objects.filter(username__iexact=Person.normalize_username(name)).first()
    # Also for an unknown name, so that it takes as long as for a known one.
    person = authenticate(request, username=known.username if known else name, password=password)
    if not isinstance(person, Person):
        trail.refused(
            NOT_SIGNED_IN,
            by=Actor("person", "Somebody", address=address),
            subject=known or Person(pk="", username="an unknown name"),
            attempt=attempt,
        )
        return False
    person.address = address
    with transaction.atomic():
        login(request, person)
        trail.record(SIGNED_IN, by=person, subject=person, attempt=attempt)
    return True


def _attempt(name: str, address: str) -> str:
    """Stands for name and address in the audit log without saying the name."""
    name = Person.normalize_username(name).lower()
    return salted_hmac("portal.auth.attempt", f"{name}\n{address}").hexdigest()[:32]


def _paused(attempt: str) -> bool:
    """With one name from one address; signing in in time starts the count anew."""
    return only_refusals(
        Event.objects.filter(action__in=(SIGNED_IN, NOT_SIGNED_IN), body__contains=f'"attempt":"{attempt}"')
    )


def _next(request: HttpRequest) -> str:
    """Where the person was going, if that is a page of this portal; else home."""
    wanted = request.POST.get("next") or request.GET.get("next") or "/"
    ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if ours else "/"


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        trail.record("person.signed-out", by=request.user, subject=request.user)
    logout(request)
    return redirect("sign-in")


@sensitive_post_parameters("current", "new", "again")
@require_http_methods(["GET", "HEAD", "POST"])
def change_password(request: HttpRequest) -> HttpResponse:
    person = request.user
    assert isinstance(person, Person)
    form = ChangePasswordForm(request.POST or None)
    status = 422 if form.is_bound else 200
    if person.must_change_password:
        form.fields["current"].help_text = _("The one-time password that you were given.")
    if form.is_bound and form.is_valid():
        values = form.cleaned_data
        try:
            actions.change_password(person=person, current=values["current"], new=values["new"], by=person)
        except Refused as error:
            refused(form, error)
            person.refresh_from_db()
            status = 429 if isinstance(error, TooManyAttempts) else status
        else:
            # This session goes on; every other one of this person ends, because sessions are bound to the password.
            update_session_auth_hash(request, person)
            messages.success(request, _("Password changed. You are signed out everywhere else."))
            return redirect("home")
    context = {"form": form, "username": person.username}
    return render(request, "portal/change_password.html", context, status=status)
