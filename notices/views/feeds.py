"""Calendars: a person's own, at addresses that are told once; and what a calendar program reads there."""

from __future__ import annotations

from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from environments.access import visible_applications
from environments.models import Person
from notices import actions, feeds, letters
from notices.forms import FeedForm
from notices.models import Feed


@require_http_methods(["GET", "HEAD", "POST"])
def calendars(request: HttpRequest) -> HttpResponse:
    """The address stands in the answer itself and nowhere else: a redirect would have to keep it somewhere."""
    form = FeedForm(list(visible_applications(request.user)), request.POST if request.method == "POST" else None)
    address = ""
    if form.is_bound and form.is_valid():
        application = form.applications.get(form.cleaned_data["scope"])
        scope = "application" if application else form.cleaned_data["scope"]
        person = cast(Person, request.user)
        token = actions.open_feed(person=person, scope=scope, application=application, by=request.user)
        path = reverse("calendar-feed", args=[token])
        address = letters.link(path) or request.build_absolute_uri(path)
    context = {"section": "calendars", "form": form, "address": address, "feeds": _feeds_of(request)}
    status = 422 if form.is_bound and not address else 200
    response = render(request, "notices/calendars.html", context, status=status)
    if address:
        response["Cache-Control"] = "no-store"
    return response


def _feeds_of(request: HttpRequest) -> list[Feed]:
    return list(Feed.objects.filter(person=request.user.pk).select_related("application"))


@require_POST
def calendar_close(request: HttpRequest, mark: str) -> HttpResponse:
    feed = get_object_or_404(Feed, mark=mark, person=request.user.pk)
    actions.close_feed(feed=feed, by=request.user)
    messages.success(request, _("Closed. Calendar programs that have its address get nothing any more."))
    return redirect("calendars")


@login_not_required
@require_safe
def feed(request: HttpRequest, token: str) -> HttpResponse:
    """Whoever has the address; as long as its person may sign in. Every other address is the same nothing."""
    found = Feed.objects.select_related("person", "application").filter(mark=actions.mark_of(token)).first()
    if found is None or not found.person.is_active:
        raise Http404
    now = timezone.now()
    Feed.objects.filter(pk=found.pk).update(fetched_at=now)
    response = HttpResponse(feeds.calendar(found, now), content_type="text/calendar; charset=utf-8")
    response["Content-Disposition"] = 'inline; filename="certificates.ics"'
    response["Cache-Control"] = "private, max-age=900"
    response["Referrer-Policy"] = "no-referrer"
    return response
