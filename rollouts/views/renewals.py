"""The worklist of a renewal that was brought to several places: what is ready, what waits, what runs by which proof."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from certificates import actions as certificates
from certificates.renewals import seen_renewals
from environments.refusals import Refused
from rollouts.worklist import Worklist, worklist


def _told(request: HttpRequest, pk: UUID) -> Worklist:
    return worklist(get_object_or_404(seen_renewals(request.user), pk=pk), request.user)


@require_http_methods(["GET", "HEAD", "POST"])
def renewal(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A post uses what is ready: one version, or all that this person may."""
    told = _told(request, pk)
    if request.method == "POST":
        asked = request.POST.get("use", "")
        versions = [line.version for line in told.to_use if asked in ("all", str(line.version.pk))]
        try:
            if not versions:
                raise Refused(_("That is not ready here any more, or you may not change it; look again."))
            certificates.use_versions(versions=versions, by=request.user)
        except Refused as error:
            messages.error(request, str(error))
        else:
            n = len(versions)
            words = ngettext(
                "It goes with the next apply in %(n)d place.", "It goes with the next apply in %(n)d places.", n
            )
            messages.success(request, words % {"n": n})
        return redirect(told.renewal)
    return render(request, "rollouts/renewal.html", {"section": "applications", "worklist": told})


@require_safe
def live(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Polled while something is under way."""
    told = _told(request, pk)
    return render(request, "rollouts/renewal_live.html", {"worklist": told}, status=200 if told.under_way else 286)
