"""The export tab: a preview without secrets for everybody here, the files for those who may take keys along."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from certificates import current
from certificates.content import Bundle, Content
from certificates.dialects import inexpressible
from environments.access import Right, get_environment, sentence_for
from environments.forms import refused
from environments.models import Environment
from environments.refusals import Refused
from rollouts import actions, exporters
from rollouts.downloads import Preview, preview, zipped
from rollouts.forms import DownloadForm, ExportForm
from rollouts.standing import standing


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def export(request: HttpRequest, app: str, env: str) -> HttpResponse:
    posted = request.method == "POST"
    environment = get_environment(request.user, app, env, to=Right.EXPORT if posted else Right.VIEW)
    chosen = ExportForm(_choices(request, environment))
    chosen.full_clean()
    # Shown where an export cannot be written without one; its sentence says so better than a field's.
    chosen.fields["folder"].required = True
    exporter = chosen.cleaned_data.get("exporter") or next(iter(exporters.EXPORTERS))
    folder = chosen.cleaned_data.get("folder", "")
    form = DownloadForm(request.POST if posted else None)
    if posted and chosen.is_valid() and form.is_valid():
        try:
            bundle = actions.export_to_download(
                environment=environment, exporter=exporter, base_folder=folder, by=request.user, **form.cleaned_data
            )
        except Refused as error:
            refused(form, error)
        else:
            return _download(bundle, f"{app}-{env}-{exporter}.zip")
    context: dict[str, Any] = {
        "section": "applications",
        "environment": environment,
        "standing": standing(environment),
        "chosen": chosen,
        "exporter": exporters.exporter(exporter),
        "folder": folder,
        "form": form,
        "may_export": Right.EXPORT in environment.rights,
        "who_may": _why_not(environment),
    }
    asked = posted or "folder" in request.GET or bool(folder)
    content = current.content(environment)
    context["untold"] = untold = exporters.obstacles(exporter, content)
    context["pins"] = len(content.pins)
    context["untold_pins"] = len(inexpressible(content, exporters.exporter(exporter).dialect))
    context["preview"] = None if untold else _preview(environment, content, exporter, folder, chosen if asked else None)
    return render(request, "rollouts/export.html", context, status=422 if posted else 200)


def _why_not(environment: Environment) -> str:
    """Why the reader may not take keys along; "" where they may."""
    if environment.archived_at is not None:
        return _("This environment is archived; bring it back to download its files.")
    return "" if Right.EXPORT in environment.rights else sentence_for(Right.EXPORT, environment)


def _choices(request: HttpRequest, environment: Environment) -> dict[str, str]:
    """What the address or the form says, with the environment's own folder where neither names one."""
    asked = request.POST if request.method == "POST" else request.GET
    return {
        "exporter": asked.get("exporter", exporters.usual(environment.runtime).kind),
        "folder": asked.get("folder", environment.base_folder),
    }


def _preview(
    environment: Environment, content: Content, exporter: str, folder: str, chosen: ExportForm | None
) -> Preview | None:
    """None where it cannot be written; says why beside the field, once somebody has had a chance to fill it in."""
    try:
        trusted = current.authorities(environment, content)
        return preview(content, exporter=exporter, base_folder=folder, trusted=trusted)
    except exporters.ExportError as error:
        if chosen is not None:
            chosen.add_error("folder" if exporters.exporter(exporter).needs_folder else None, str(error))
        return None


def _download(bundle: Bundle, name: str) -> HttpResponse:
    response = HttpResponse(zipped(bundle), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response
