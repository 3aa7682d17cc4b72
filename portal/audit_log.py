"""The audit log's page: what the viewer may see of it, narrowed by the address of the page, fifty events at a time."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from audit.models import Event
from environments.access import ROLES, visible_applications
from environments.models import Application, Environment, Membership
from portal.forms import AuditFilter
from portal.sentences import Words, pairs, sentence

PAGE = 50


@dataclass(frozen=True)
class Line:
    """One event for the page; `place` is the environment or application that it happened in, if that still exists."""

    event: Event
    sentence: SafeString
    place: Environment | Application | None
    details: list[tuple[Words, str]]


def visible_events(person: Any) -> QuerySet[Event]:
    """Everything for an installation owner; else what happened where this person is a member, and their own account."""
    if person.is_superuser:
        return Event.objects.all()
    memberships = list(Membership.objects.filter(person=person, role__in=list(ROLES)))
    account = Q(actor_id=str(person.pk)) | Q(subject_kind="person", subject_id=str(person.pk))
    return Event.objects.filter(
        Q(application_id__in=[str(m.application_id) for m in memberships if m.environment_id is None])
        | Q(environment_id__in=[str(m.environment_id) for m in memberships if m.environment_id is not None])
        | (Q(application_id="") & account)
    )


def narrowed(events: QuerySet[Event], chosen: dict[str, Any]) -> QuerySet[Event]:
    """The events that every chosen filter keeps; a fingerprint may be given with its colons."""
    if text := chosen.get("q"):
        if re.fullmatch(r"[0-9A-Fa-f]{2}([: ][0-9A-Fa-f]{2})+", text):
            text = re.sub("[: ]", "", text)
        # As it stands inside the canonical JSON text.
        events = events.filter(body__icontains=json.dumps(text, ensure_ascii=False)[1:-1])
    if who := chosen.get("who"):
        events = events.filter(actor__icontains=who)
    if action := chosen.get("action"):
        events = events.filter(action=action)
    if application := chosen.get("application"):
        events = events.filter(application_id=application)
    return events.filter(refused=True) if chosen.get("refused") else events


@require_safe
def audit_log(request: HttpRequest) -> HttpResponse:
    applications = list(visible_applications(request.user).prefetch_related(None))
    form = AuditFilter(applications, request.GET or None)
    chosen = form.cleaned_data if form.is_bound and form.is_valid() else {}
    events = narrowed(visible_events(request.user), chosen)
    page, newer, older = _page(events, _number(request, "before"), _number(request, "after"))
    query = request.GET.copy()
    for name in ("before", "after"):
        query.pop(name, None)
    context = {
        "section": "audit",
        "form": form,
        "lines": _lines(page),
        "newer": newer,
        "older": older,
        "query": query.urlencode(),
        "filtered": any(chosen.values()),
    }
    return render(request, "portal/audit_log.html", context, status=422 if form.is_bound and form.errors else 200)


def _page(events: QuerySet[Event], before: int | None, after: int | None) -> tuple[list[Event], int | None, int | None]:
    """The events of a page, newest first, and the ids that lead to newer and older ones where there are any."""
    if after is not None:
        found = list(events.filter(pk__gt=after).order_by("pk")[: PAGE + 1])
        page = found[:PAGE][::-1]
        return page, page[0].pk if len(found) > PAGE else None, page[-1].pk if page else None
    found = list((events.filter(pk__lt=before) if before is not None else events)[: PAGE + 1])
    page = found[:PAGE]
    return page, page[0].pk if before is not None and page else None, page[-1].pk if len(found) > PAGE else None


def _number(request: HttpRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _lines(events: list[Event]) -> list[Line]:
    environments = Environment.objects.select_related("application").in_bulk(
        {event.environment_id for event in events if event.environment_id}
    )
    applications = Application.objects.in_bulk(
        {event.application_id for event in events if event.application_id and not event.environment_id}
    )
    places: dict[str, Environment | Application] = {str(pk): environment for pk, environment in environments.items()}
    places.update({str(pk): application for pk, application in applications.items()})
    lines = []
    for event in events:
        body = json.loads(event.body)
        details = {key: value for key, value in body["details"].items() if key != "attempt"}
        lines.append(
            Line(
                event,
                sentence(event, details),
                places.get(event.environment_id or event.application_id),
                pairs({**details, "address": body.get("address", "")}),
            )
        )
    return lines
