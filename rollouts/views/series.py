"""Applying to several environments in one go: choosing them, and one outcome each."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from certificates.models import Renewal
from certificates.renewals import seen_renewals
from environments.access import Right, environments_to, visible_environments
from environments.forms import refused
from environments.refusals import Refused
from rollouts import actions, due
from rollouts.forms import SeveralForm
from rollouts.models import Series
from rollouts.stages import result
from rollouts.standing import Standing, standings


@require_http_methods(["GET", "HEAD", "POST"])
def several(request: HttpRequest) -> HttpResponse:
    found = list(environments_to(Right.APPLY, request.user).select_related("application"))
    stands = [stand for stand in standings(found).values() if stand.count and stand.destination and not stand.active]
    # What each stands for is what was shown: content that moves on meanwhile is refused.
    by_choice = {f"{stand.environment.pk}:{stand.comparison.digest}": stand for stand in stands}
    choices = [(key, _in_words(stand)) for key, stand in by_choice.items()]
    posted = request.POST if request.method == "POST" else None
    renewal, named = _renewal(request), set(request.GET.getlist("environment"))
    of_renewal = set(renewal.versions.values_list("certificate__environment", flat=True)) if renewal else set()
    wanted = {str(pk) for pk in of_renewal} | named
    ticked = [key for key, stand in by_choice.items() if "all" in request.GET or str(stand.environment.pk) in wanted]
    form = SeveralForm(choices, posted, initial={"environments": ticked})
    if form.is_bound and form.is_valid():
        values = dict(form.cleaned_data)
        asked = [(by_choice[key].environment, key.partition(":")[2]) for key in values.pop("environments")]
        try:
            made = actions.apply_to_several(asked=asked, by=request.user, **values)
        except Refused as error:
            refused(form, error)
        else:
            return redirect(renewal or made)
    context = {"section": "applications", "form": form, "number": len(choices), "renewal": renewal}
    return render(request, "rollouts/several.html", context, status=422 if form.is_bound else 200)


def _renewal(request: HttpRequest) -> Renewal | None:
    """Whose worklist led here, where this person may see some of it."""
    try:
        key = UUID(request.GET.get("renewal", ""))
    except ValueError:
        return None
    return seen_renewals(request.user).filter(pk=key).first()


def _in_words(stand: Standing) -> str:
    changes = ngettext("%(n)d change", "%(n)d changes", stand.count) % {"n": stand.count}
    production = " · " + _("Production") if stand.environment.production else ""
    scheduled = ""
    if stand.scheduled is not None and stand.scheduled.revision is not None and stand.scheduled.due_at is not None:
        scheduled = " · " + _("takes the place of revision %(n)d, scheduled for %(when)s") % {
            "n": stand.scheduled.revision.number,
            "when": due.day_and_time(stand.scheduled.due_at),
        }
    return f"{stand.environment}: {changes}{production}{scheduled}"


def _told(request: HttpRequest, pk: UUID) -> dict[str, Any]:
    """What may be seen of it: the environments that this person may see."""
    found = get_object_or_404(Series, pk=pk)
    seen = found.rollouts.filter(environment__in=visible_environments(request.user)).order_by("position")
    listed = list(seen.select_related("environment__application", "revision", "previous", "environment__destination"))
    if not listed:
        raise Http404
    may = set(environments_to(Right.APPLY, request.user).values_list("pk", flat=True))
    lines = [(rollout, result(rollout)) for rollout in listed]
    waiting = [rollout for rollout in listed if rollout.state in ("scheduled", "waiting")]
    due_at = next((rollout.due_at for rollout in listed if rollout.due_at), None)
    return {
        "series": found,
        "lines": lines,
        "verified": sum(1 for rollout in listed if rollout.state == "verified"),
        "due": due.said(due_at) if due_at else "",
        "not_begun": len(waiting) == len(listed),
        "under_way": any(not rollout.is_final for rollout in listed),
        "may_cancel": bool(waiting) and all(rollout.environment_id in may for rollout in waiting),
    }


@require_http_methods(["GET", "HEAD", "POST"])
def series(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A post takes back those that have not begun."""
    context = _told(request, pk)
    if request.method == "POST":
        try:
            if not context["may_cancel"]:
                raise Refused(_("None of them waits any more."))
            taken = actions.cancel_rest(series=context["series"], by=request.user)
        except Refused as error:
            messages.error(request, str(error))
        else:
            messages.success(request, ngettext("Cancelled %(n)d.", "Cancelled %(n)d.", taken) % {"n": taken})
        return redirect(context["series"])
    return render(request, "rollouts/series.html", {"section": "applications", **context})


@require_safe
def live(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Polled while one of them is under way."""
    context = _told(request, pk)
    return render(request, "rollouts/series_live.html", context, status=200 if context["under_way"] else 286)
