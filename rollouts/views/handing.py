"""What a rollout waits for where people upload: the files, the clicks, and the button that says that it is done."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from certificates.models import ClientCertificate
from environments.access import Right, get_environment, sentence_for
from environments.forms import refused
from environments.refusals import Refused
from rollouts import actions, handing
from rollouts.downloads import zipped
from rollouts.forms import PasswordForm
from rollouts.standing import standing


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def hand_over(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    """Two forms on one page; the field `form` says which of them was sent."""
    posted = request.POST if request.method == "POST" else None
    downloads = posted is not None and posted.get("form") == "download"
    needs = Right.VIEW if posted is None else Right.EXPORT if downloads else Right.APPLY
    environment = get_environment(request.user, app, env, to=needs)
    rollout = get_object_or_404(environment.rollouts.select_related("revision", "bundle__sealed"), pk=pk)
    rollout.environment = environment
    if rollout.state != "handing_over" or rollout.phase or rollout.revision is None:
        return redirect(rollout)
    form = PasswordForm(posted if downloads else None)
    try:
        if posted is not None and not downloads:
            actions.confirm_handover(rollout=rollout, by=request.user)
            messages.success(request, _("Confirmed. The app is restarted now."))
            return redirect(rollout)
        if downloads and form.is_valid():
            files = actions.hand_out(rollout=rollout, by=request.user, **form.cleaned_data)
            answer = HttpResponse(zipped(files), content_type="application/zip")
            answer["Content-Disposition"] = f'attachment; filename="{app}-{env}-upload.zip"'
            return answer
    except Refused as error:
        refused(form, error)
    stand, content = standing(environment), rollout.revision.frozen
    names = dict(ClientCertificate.objects.filter(environment=environment).values_list("slug", "name"))
    context = {
        "section": "applications",
        "environment": environment,
        "standing": stand,
        "rollout": rollout,
        "form": form,
        "uploads": [(one, names.get(one.slug, one.slug)) for one in handing.uploads(content)],
        "never": handing.never(content),
        "authorities": len(content.authorities),
        "may_export": Right.EXPORT in environment.rights,
        "who_may_export": "" if Right.EXPORT in environment.rights else sentence_for(Right.EXPORT, environment),
        "may_apply": Right.APPLY in environment.rights,
        "who_may_apply": "" if Right.APPLY in environment.rights else sentence_for(Right.APPLY, environment),
    }
    return render(request, "rollouts/hand_over.html", context, status=422 if form.is_bound else 200)
