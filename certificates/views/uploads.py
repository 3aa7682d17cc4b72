"""The way of one .pfx on the pages: the file, its password, the preview, the confirmation."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from certificates import actions, advice, shared_keys
from certificates.actions.sealing import VaultUnusable
from certificates.comparison import compare, headline
from certificates.diagnosis import Refusal
from certificates.forms import ChooseForm, ConfirmForm, PasswordForm, UploadForm
from certificates.models import ClientCertificate, Draft, Version
from certificates.names import Names
from certificates.recognition import is_same_key, recognised
from certificates.renewals import Elsewhere, better_fits, used_elsewhere
from certificates.views.fetching import get_certificate, page, posted
from environments.access import Right, get_environment, visible_environments
from environments.forms import refused
from environments.models import Environment
from environments.refusals import Refused

get_or_post = require_http_methods(["GET", "HEAD", "POST"])

# The file may be fine: another password, or another minute, can open it.
WORTH_ANOTHER_TRY = {"busy", "too_slow", "reader_stopped"}


@sensitive_post_parameters("password", "text")
@get_or_post
def certificate_new(request: HttpRequest, app: str, env: str) -> HttpResponse:
    environment = get_environment(request.user, app, env, to=Right.CERTIFICATES)
    form = UploadForm(posted(request), request.FILES or None)
    return _upload(request, environment, None, form)


@sensitive_post_parameters("password", "text")
@get_or_post
def certificate_renew(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    certificate = get_certificate(request.user, app, env, pk)
    form = UploadForm(posted(request), request.FILES or None, renewal=True)
    return _upload(request, certificate.environment, certificate, form)


@sensitive_variables("form", "files")
def _upload(
    request: HttpRequest, environment: Environment, certificate: ClientCertificate | None, form: UploadForm
) -> HttpResponse:
    message = None
    if form.is_bound and form.is_valid():
        files = form.cleaned_data["file"]
        try:
            draft = actions.keep_draft(
                environment=environment,
                certificate=certificate,
                files=files,
                session_key=_session(request),
                by=request.user,
            )
        except Refusal as refusal:
            refused(form, _beside(refusal))
            message = advice.message(refusal, files[0].name)
        except Refused as error:
            refused(form, error)
        else:
            return _read(request, draft, [form.cleaned_data["password"]], form.cleaned_data.get("name", ""))
    status = 422 if form.is_bound else 200
    context = {"environment": environment, "certificate": certificate, "form": form, "message": message}
    return page(request, "upload", status=status, **context)


@sensitive_variables("passwords")
def _read(request: HttpRequest, draft: Draft, passwords: list[str], name: str) -> HttpResponse:
    """On to the preview; or the password once more; or, where no password would help, the file once more."""
    try:
        actions.read_draft(draft=draft, passwords=passwords, by=request.user)
    except (Refusal, Refused) as error:
        message = advice.message(error, draft.file_name) if isinstance(error, Refusal) else None
        waits = isinstance(error, VaultUnusable) or getattr(error, "code", "") in WORTH_ANOTHER_TRY
        if waits or error.field == "password":
            two = len(passwords) > 1 or getattr(error, "code", "") == "entry_password_differs"
            again = PasswordForm({"name": name}, two=two)
            again.full_clean()
            again.add_error("password", str(error))
            return _ask_again(request, draft, again, status=422, message=message)
        actions.drop_draft(draft=draft, by=request.user)
        upload = UploadForm({"name": name}, renewal=draft.certificate is not None)
        upload.errors["file"] = upload.error_class([str(error)])
        context = {"environment": draft.environment, "certificate": draft.certificate, "form": upload}
        return page(request, "upload", status=422, message=message, **context)
    return _onward(draft, name)


@sensitive_post_parameters("password", "entry_password")
@get_or_post
def draft(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    """Where an upload stands: its password is asked for again, or it is shown to be confirmed."""
    environment = get_environment(request.user, app, env, to=Right.CERTIFICATES)
    try:
        kept = actions.open_draft(draft_id=pk, environment=environment, session_key=_session(request), by=request.user)
    except Refused as error:
        messages.error(request, str(error))
        return redirect("network", app, env)
    kept.environment = environment
    if "cancel" in request.POST and kept.link is None:
        actions.drop_draft(draft=kept, by=request.user)
        messages.info(request, _("Cancelled; nothing was added."))
        return redirect("network", app, env)
    if "instead" in request.POST and kept.is_read:
        return _turned(request, kept)
    if kept.choices:
        return _choose(request, kept)
    if kept.is_read:
        return _preview(request, kept)
    two = "entry_password" in request.POST
    form = PasswordForm(posted(request), two=two, initial={"name": request.GET.get("name", "")})
    if form.is_bound and form.is_valid():
        return _read(request, kept, form.passwords, form.cleaned_data["name"])
    return _ask_again(request, kept, form)


def _choose(request: HttpRequest, draft: Draft) -> HttpResponse:
    """Which of several certificates in the files is meant."""
    versions = draft.versions()
    form = ChooseForm(versions, posted(request), initial={"name": request.GET.get("name", "")})
    if form.is_bound and form.is_valid():
        try:
            actions.choose_in_draft(draft=draft, sha256=form.cleaned_data["sha256"], by=request.user)
        except Refused as error:
            refused(form, error)
        else:
            return _onward(draft, form.cleaned_data["name"])
    context = {"environment": draft.environment, "draft": draft, "versions": versions, "form": form}
    return page(request, "choose", status=422 if form.is_bound else 200, **context)


def _onward(draft: Draft, name: str) -> HttpResponse:
    address = draft.environment.url("draft", draft.pk)
    return redirect(f"{address}?{urlencode({'name': name})}" if name else address)


def _ask_again(
    request: HttpRequest, draft: Draft, form: PasswordForm, *, status: int = 200, message: str | None = None
) -> HttpResponse:
    context = {"environment": draft.environment, "draft": draft, "form": form, "message": message}
    return page(request, "password", status=status, **context)


def _preview(request: HttpRequest, draft: Draft) -> HttpResponse:
    version, certificate = draft.version(), draft.certificate
    elsewhere, asked = _elsewhere(request, draft, version), draft.request
    told = actions.warnings_of_draft(draft, request.user)
    warnings = [warning["sentence"] for warning in told]
    in_tests = any(warning["code"] == shared_keys.CODE for warning in told)
    name = (
        request.GET.get("name") or (asked and asked.name) or Names(draft.environment).suggest(version, draft.file_name)
    )
    form = ConfirmForm(draft, posted(request), warned=bool(warnings), places=elsewhere.places, initial={"name": name})
    if form.is_bound and not form.is_only_set and form.is_valid():
        try:
            return _confirm(request, draft, form)
        except Refused as error:
            refused(form, error)
    old = certificate.in_use if certificate else None
    return page(
        request,
        "preview",
        status=422 if form.is_bound and not form.is_only_set else 200,
        environment=draft.environment,
        draft=draft,
        version=version,
        certificate=certificate,
        warnings=warnings,
        notes=[w["sentence"] for w in version.warnings if not w.get("confirm", True)],
        same=[] if certificate else same_here(draft.environment, version),
        same_key=[] if in_tests else _same_key(request, draft, version),
        what=headline(recognised(old, version)) if old else "",
        pairs=compare(old, version) if old else [],
        better=better_fits(version, certificate, draft.environment),
        elsewhere=elsewhere,
        form=form,
    )


def _elsewhere(request: HttpRequest, draft: Draft, version: Version) -> Elsewhere:
    """Where else what it replaces is used; nowhere, where nothing is replaced."""
    of = draft.certificate
    if of is None or of.in_use is None or of.in_use.is_tracked_only or draft.tracked:
        return Elsewhere()
    return used_elsewhere(request.user, replaced=[of.in_use], new=version, of=of)


def _same_key(request: HttpRequest, draft: Draft, version: Version) -> list[str]:
    """Not where a renewal keeps its key: who uses it is listed as places to replace, as far as one may know of them."""
    old = draft.certificate.in_use if draft.certificate else None
    if draft.tracked or (old is not None and is_same_key(old, version)):
        return []
    return same_key_elsewhere(request.user, draft.environment, version)


def _turned(request: HttpRequest, draft: Draft) -> HttpResponse:
    """The upload becomes the renewal of the certificate that it fits better."""
    here = ClientCertificate.objects.filter(environment=draft.environment, removed_at=None)
    certificate = next((one for one in here if str(one.pk) == request.POST["instead"]), None)
    if certificate is None:
        raise Http404
    try:
        actions.turn_draft(draft=draft, certificate=certificate, by=request.user)
    except Refused as error:
        messages.error(request, str(error))
    return redirect(draft.environment.url("draft", draft.pk))


def _confirm(request: HttpRequest, draft: Draft, form: ConfirmForm) -> HttpResponse:
    given: dict[str, Any] = form.cleaned_data
    choice: dict[str, Any] = {"links": given.get("links"), "confirmed": given.get("confirmed", False)}
    if draft.certificate is None:
        certificate = actions.add_draft(draft=draft, name=given["name"], by=request.user, **choice)
        words = _("Added %(name)s. Pin it to the services it is meant for.")
        if draft.tracked:
            words = _("Added %(name)s as tracked only: its expiry is watched, and nothing is sent.")
        messages.success(request, words % {"name": certificate})
        return redirect(draft.environment.url("network"))
    now, also = given.get("use") == "now", form.chosen
    version = actions.renew_with_draft(draft=draft, in_use=now, also=also, by=request.user, **choice)
    if renewal := version.renewals.first() if also else None:
        words = ngettext(
            "It is in %(n)d place now. Each has an apply of its own.",
            "It is in %(n)d places now. Each has an apply of its own.",
            len(also) + 1,
        )
        messages.success(request, words % {"n": len(also) + 1})
        return redirect(renewal)
    words = _("Version %(n)d goes with the next apply.") if now else _("Version %(n)d is kept ready.")
    if draft.tracked:
        words = _("Version %(n)d is tracked only; what is in use stays.")
    messages.success(request, words % {"n": version.number})
    return redirect(draft.certificate)


def same_here(environment: Environment, version: Version) -> list[str]:
    """The names of certificates here that have this very certificate already."""
    certificates = environment.certificates.filter(removed_at=None, versions__sha256=version.sha256)
    return list(certificates.values_list("name", flat=True))


def same_key_elsewhere(person: Any, environment: Environment, version: Version) -> list[str]:
    """Where else the private key of this version is in use: places that this person may see by name (at most five),
    and that there are others."""
    elsewhere = ClientCertificate.objects.filter(
        in_use__spki_sha256=version.spki_sha256, in_use__sealed__isnull=False, removed_at=None
    ).exclude(environment=environment)
    if not version.spki_sha256:
        return []
    seen = elsewhere.filter(environment__in=visible_environments(person))
    named = seen.select_related("environment__application").order_by("environment__application__name", "name")[:5]
    places = [f"{certificate.environment}: {certificate.name}" for certificate in named]
    return places + ([_("elsewhere")] if elsewhere.count() > len(places) else [])


def _beside(refusal: Refusal) -> Refused:
    return Refused(str(refusal), field=refusal.field)


def _session(request: HttpRequest) -> str:
    return request.session.session_key or ""
