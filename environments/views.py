"""Applications, their members, and people. What shows how an environment stands is the portal's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Count, Q, QuerySet
from django.db.models.functions import Lower
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from audit import trail
from environments import actions
from environments.access import (
    ROLES,
    NotAllowed,
    Right,
    Role,
    get_application,
    sentence_for,
    visible_applications,
    visible_environments,
)
from environments.forms import AboutForm, ApplicationForm, MemberForm, PersonForm, RenameForm, refused
from environments.models import Application, Environment, Membership, Person
from environments.refusals import Refused

get_or_post = require_http_methods(["GET", "HEAD", "POST"])
View = Callable[..., HttpResponseBase]


def installation_owners(view: View) -> View:
    """A page for installation owners only; others are told so, and the attempt is recorded."""

    @wraps(view)
    def only_for_them(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_superuser:
            trail.refused("access.refused", by=request.user, subject=request.user, right="installation-owner")
            raise NotAllowed(_("Only installation owners do this; ask one of them."))
        return view(request, *args, **kwargs)

    return only_for_them


# --- Applications -----------------------------------------------------------------------------------------------------


@get_or_post
@installation_owners
def application_new(request: HttpRequest) -> HttpResponse:
    form = ApplicationForm(request.POST or None)
    if form.is_bound and form.is_valid():
        try:
            application = actions.create_application(by=request.user, **form.cleaned_data)
        except Refused as error:
            refused(form, error)
        else:
            messages.success(request, _("Created %(name)s. You are its owner.") % {"name": application})
            return redirect(application)
    return _page(request, "environments/application_new.html", form)


@get_or_post
def application_settings(request: HttpRequest, app: str) -> HttpResponse:
    application = get_application(request.user, app, to=Right.OWN)
    form = RenameForm(application, request.POST or None)
    if form.is_bound and form.is_valid():
        try:
            actions.rename_application(application=application, by=request.user, **form.cleaned_data)
        except Refused as error:
            refused(form, error)
        else:
            messages.success(request, _("Renamed to %(name)s.") % {"name": application})
            return redirect(application)
    # The heading shows the name that holds, not the one that was refused.
    application.refresh_from_db(fields=["name"])
    return _page(request, "environments/application_settings.html", form, application=application)


# --- Members ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One role of one person, as the members page shows it."""

    membership: Membership

    @property
    def role(self) -> Role | None:
        return ROLES.get(self.membership.role)

    @property
    def title(self) -> str | Promise:
        return self.role.title if self.role else self.membership.role

    @property
    def sentence(self) -> str | Promise:
        return self.role.sentence if self.role else _("This release does not know this role; it gives no rights.")


def members_of(application: Application, environments: list[Environment]) -> list[Member]:
    """Who has which role in the application and in these of its environments, by name."""
    memberships = (
        Membership.objects.filter(Q(environment=None) | Q(environment__in=environments), application=application)
        .select_related("person", "environment")
        .order_by(Lower("person__username"), "environment__position", "pk")
    )
    return [Member(membership) for membership in memberships]


@get_or_post
def members(request: HttpRequest, app: str) -> HttpResponse:
    posted = request.method == "POST"
    application = get_application(request.user, app, to=Right.OWN if posted else Right.VIEW)
    environments = list(visible_environments(request.user).filter(application=application, archived_at=None))
    form = MemberForm(environments, request.POST if posted else None, initial={"role": "viewer"})
    if posted and form.is_valid():
        try:
            member = Member(actions.add_member(application=application, by=request.user, **form.cleaned_data))
        except Refused as error:
            refused(form, error)
        else:
            words = {"person": member.membership.person, "role": member.title}
            messages.success(request, _("%(person)s now has the role %(role)s.") % words)
            return redirect("members", app)
    may_own = Right.OWN in application.rights
    context = {
        "application": application,
        "members": members_of(application, environments),
        "roles": ROLES.values(),
        "may_own": may_own,
        "who_may": "" if may_own else sentence_for(Right.OWN, application),
        "people": Person.objects.filter(is_active=True).order_by(Lower("username"))[:200] if may_own else (),
    }
    return _page(request, "environments/members.html", form, **context)


@require_POST
def member_remove(request: HttpRequest, app: str, pk: int) -> HttpResponse:
    application = get_application(request.user, app, to=Right.OWN)
    membership = get_object_or_404(Membership.objects.select_related("person"), application=application, pk=pk)
    member = Member(membership)
    try:
        actions.remove_member(membership=membership, by=request.user)
    except Refused as error:
        messages.error(request, str(error))
    else:
        words = {"person": membership.person, "role": member.title}
        messages.success(request, _("%(person)s no longer has the role %(role)s.") % words)
    still_there = visible_applications(request.user).filter(pk=application.pk).exists()
    return redirect("members", app) if still_there else redirect("home")


# --- People -----------------------------------------------------------------------------------------------------------


def _people() -> QuerySet[Person]:
    return Person.objects.annotate(applications=Count("memberships__application", distinct=True)).order_by(
        "-is_active", Lower("username")
    )


@require_safe
@installation_owners
def people(request: HttpRequest) -> HttpResponse:
    return _page(request, "environments/people.html", people=_people(), section="people")


@get_or_post
@installation_owners
def person_new(request: HttpRequest) -> HttpResponse:
    form = PersonForm(request.POST or None)
    if form.is_bound and form.is_valid():
        try:
            person, password = actions.create_person(by=request.user, **form.cleaned_data)
        except Refused as error:
            refused(form, error)
        else:
            return _password_once(request, person, password)
    return _page(request, "environments/person_new.html", form, section="people")


@get_or_post
@installation_owners
def person_edit(request: HttpRequest, pk: int) -> HttpResponse:
    return _about(request, get_object_or_404(Person, pk=pk), back="people")


@get_or_post
def account(request: HttpRequest) -> HttpResponse:
    """One's own name and address."""
    return _about(request, get_object_or_404(Person, pk=request.user.pk), back="account")


def _about(request: HttpRequest, person: Person, *, back: str) -> HttpResponse:
    form = AboutForm(person, request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            actions.describe_person(person=person, by=request.user, **form.cleaned_data)
        except Refused as error:
            refused(form, error)
        else:
            messages.success(request, _("Saved."))
            return redirect(back)
    section = "people" if back == "people" else ""
    return _page(request, "environments/person_edit.html", form, person=person, section=section, back=back)


@get_or_post
@installation_owners
def person_reset(request: HttpRequest, pk: int) -> HttpResponse:
    person = get_object_or_404(Person, pk=pk)
    if person == request.user:
        # A one-time password for oneself would end the very session that shows it.
        return redirect("change-password")
    if request.method == "POST":
        return _password_once(request, person, actions.reset_password(person=person, by=request.user))
    return _page(request, "environments/person_reset.html", person=person, section="people")


def _password_once(request: HttpRequest, person: Person, password: str) -> HttpResponse:
    """Shown in the answer itself and never again: a redirect would have to keep it somewhere."""
    response = _page(request, "environments/password_once.html", person=person, password=password, section="people")
    response["Cache-Control"] = "no-store"
    return response


@require_POST
@installation_owners
def person_active(request: HttpRequest, pk: int) -> HttpResponse:
    person = get_object_or_404(Person, pk=pk)
    active = request.POST.get("active") == "true"
    try:
        actions.set_active(person=person, active=active, by=request.user)
    except Refused as error:
        messages.error(request, str(error))
    else:
        said = _("%(person)s may sign in again.") if active else _("%(person)s is locked out, from this moment.")
        messages.success(request, said % {"person": person})
    return redirect("people")


def _page(request: HttpRequest, template: str, form: forms.Form | None = None, **context: Any) -> HttpResponse:
    """The page; with status 422 where it comes back with a form that was refused."""
    status = 422 if form is not None and form.is_bound else 200
    return render(request, template, {"section": "applications", "form": form, **context}, status=status)
