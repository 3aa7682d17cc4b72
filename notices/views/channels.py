"""An application's Notices page: where they go, when they come, and what was sent."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from certificates import listing
from environments.access import Right, get_application, get_environment, sentence_for, visible_environments
from environments.forms import refused
from environments.models import Application
from environments.refusals import Refused
from notices import actions, watching
from notices.forms import LeadForm, MailForm, ServiceForm
from notices.models import Channel, Lead, Message, Snooze
from notices.recipients import people_of
from notices.thresholds import Plan

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
def notices(request: HttpRequest, app: str) -> HttpResponse:
    application = get_application(request.user, app)
    seen = list(visible_environments(request.user).filter(application=application, archived_at=None))
    plans = {lead.environment_id: lead.plan for lead in Lead.objects.filter(environment__in=seen)}
    may_own, now = Right.OWN in application.rights, timezone.now()
    people, channels = people_of([application.pk]), application.channels.filter(removed_at=None)
    snoozes = Snooze.objects.filter(ended_at=None, until__gt=now, certificate__environment__in=seen)
    sent = Message.objects.filter(channel__application=application).select_related("channel")
    number = listing.page_number(request.GET.get("page", ""))
    context: dict[str, Any] = {
        "channels": channels.annotate(waits=Count("messages", filter=Q(messages__state__in=("waiting", "sending")))),
        # What messages say is of the whole application; who sees a part of it sees that they were sent.
        "sheet": _page(sent, number) if _sees_all(application, request.user, seen) else None,
        "plans": [(environment, plans.get(environment.pk, Plan())) for environment in seen],
        "snoozes": snoozes.select_related("certificate__environment__application").order_by("until"),
        "mails": settings.MAILS,
        "reached": sorted(people.everywhere.get(application.pk, set())) or sorted(people.owners),
        "last": watching.last(),
        "next": watching.next_due_at(now),
        "may_own": may_own,
        "who_may": "" if may_own else sentence_for(Right.OWN, application),
    }
    return _render(request, "notices", application, **context)


def _sees_all(application: Application, person: Any, seen: list[Any]) -> bool:
    return person.is_superuser or len(seen) == application.environments.filter(archived_at=None).count()


def _page(sent: Any, number: int) -> listing.Sheet[Message]:
    found = listing.sheet("page", sent.order_by("-created_at", "pk"), number)
    rows = {message.pk: message for message in sent.filter(pk__in=found.items).defer("text")}
    return listing.Sheet(
        found.name, [rows[pk] for pk in found.items if pk in rows], found.number, found.found, found.total
    )


@require_safe
def message(request: HttpRequest, app: str, pk: UUID) -> HttpResponse:
    """What one message said, word for word; for those who see the whole application."""
    application = get_application(request.user, app)
    seen = list(visible_environments(request.user).filter(application=application, archived_at=None))
    found = get_object_or_404(
        Message.objects.filter(
            channel__application=application if _sees_all(application, request.user, seen) else None
        ).select_related("channel"),
        pk=pk,
    )
    may_own = Right.OWN in application.rights
    return _render(request, "message", application, message=found, may_own=may_own)


@require_POST
def message_again(request: HttpRequest, app: str, pk: UUID) -> HttpResponse:
    application = get_application(request.user, app, to=Right.OWN)
    found = get_object_or_404(Message.objects.filter(channel__application=application), pk=pk)
    actions.send_again(message=found, by=request.user)
    messages.success(request, _("It is sent again within half a minute."))
    return redirect("notices", app)


@get_or_post
def channel_new(request: HttpRequest, app: str, kind: str) -> HttpResponse:
    if kind not in ("mail", "service"):
        raise Http404
    application = get_application(request.user, app, to=Right.OWN)
    data = request.POST if request.method == "POST" else None
    form: MailForm | ServiceForm = MailForm(data) if kind == "mail" else ServiceForm(data)
    if form.is_bound and form.is_valid():
        add: Any = actions.add_mail if kind == "mail" else actions.add_service
        try:
            channel = add(application=application, by=request.user, **form.cleaned_data)
        except Refused as error:
            refused(form, error)
        else:
            messages.success(
                request, _("Added %(channel)s. Send a test to see that it arrives.") % {"channel": channel}
            )
            return redirect("notices", app)
    status = 422 if form.is_bound else 200
    return _render(request, "channel", application, status=status, form=form, kind=kind, mails=settings.MAILS)


@get_or_post
def channel_edit(request: HttpRequest, app: str, pk: UUID) -> HttpResponse:
    application, channel = _fetched(request, app, pk)
    data = request.POST if request.method == "POST" else None
    form: MailForm | ServiceForm = (MailForm if channel.is_mail else ServiceForm)(data, channel=channel)
    if form.is_bound and form.is_valid():
        values = {"to_people": False, "addresses": "", **form.cleaned_data}
        try:
            actions.change_channel(channel=channel, by=request.user, **values)
        except Refused as error:
            refused(form, error)
        else:
            messages.success(request, _("Saved %(channel)s.") % {"channel": channel})
            return redirect("notices", app)
    context = {"form": form, "channel": channel, "kind": channel.kind, "mails": settings.MAILS}
    return _render(request, "channel", application, status=422 if form.is_bound else 200, **context)


@require_POST
def channel_test(request: HttpRequest, app: str, pk: UUID) -> HttpResponse:
    _application, channel = _fetched(request, app, pk)
    sent = actions.test_channel(channel=channel, by=request.user)
    if sent.state == "sent":
        whom = ", ".join(sent.recipients) or channel.service
        messages.success(request, _("%(channel)s: handed over to %(whom)s.") % {"channel": channel, "whom": whom})
    else:
        messages.error(request, _("%(channel)s: not sent. %(why)s") % {"channel": channel, "why": sent.error})
    return redirect("notices", app)


@get_or_post
def channel_remove(request: HttpRequest, app: str, pk: UUID) -> HttpResponse:
    application, channel = _fetched(request, app, pk)
    if request.method == "POST":
        actions.remove_channel(channel=channel, by=request.user)
        messages.success(request, _("Removed %(channel)s.") % {"channel": channel})
        return redirect("notices", app)
    left = application.channels.filter(removed_at=None).exclude(pk=channel.pk).count()
    return _render(request, "channel_remove", application, channel=channel, left=left)


@get_or_post
def lead(request: HttpRequest, app: str, env: str) -> HttpResponse:
    environment = get_environment(request.user, app, env, to=Right.OWN)
    found = Lead.objects.filter(environment=environment).first()
    plan = found.plan if found else Plan()
    initial = {"first": plan.first, "week": plan.week, "day": plan.day}
    form = LeadForm(request.POST if request.method == "POST" else None, initial=initial)
    if form.is_bound and form.is_valid():
        try:
            actions.set_lead(environment=environment, by=request.user, **form.cleaned_data)
        except Refused as error:
            refused(form, error)
        else:
            messages.success(request, _("Saved. It holds from the next look on."))
            return redirect("notices", app)
    application = environment.application
    return _render(request, "lead", application, status=422 if form.is_bound else 200, form=form, place=environment)


def _fetched(request: HttpRequest, app: str, pk: UUID) -> tuple[Application, Channel]:
    application = get_application(request.user, app, to=Right.OWN)
    channel = get_object_or_404(application.channels.filter(removed_at=None).select_related("sealed"), pk=pk)
    channel.application = application
    return application, channel


def _render(
    request: HttpRequest, name: str, application: Application, *, status: int = 200, **context: Any
) -> HttpResponse:
    whole = {"section": "applications", "application": application, **context}
    return render(request, f"notices/{name}.html", whole, status=status)
