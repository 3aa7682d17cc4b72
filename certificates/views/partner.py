"""The page behind an upload link, for a partner without an account. It shows nothing that was not written for them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import translation
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from audit.actors import Actor
from certificates import actions
from certificates.actions.sealing import VaultUnusable
from certificates.diagnosis import Refusal
from certificates.languages import LANGUAGES, language_of
from certificates.models import Draft, UploadLink
from certificates.partner import NOT_KEPT, SendForm, sentence
from certificates.views.fetching import posted
from environments.refusals import Refused


@login_not_required
@sensitive_post_parameters("password", "entry_password")
@require_http_methods(["GET", "HEAD", "POST"])
def upload(request: HttpRequest, token: str, language: str = "") -> HttpResponse:
    """File and password, once. Every link that is not open gets the same answer, whatever the reason."""
    partner = Actor.partner(request.META.get("REMOTE_ADDR", ""))
    try:
        link = actions.open_link(token=token, by=partner)
        if request.method != "POST":
            return _ask(request, token, language, link, SendForm())
        return _receive(request, token, language, link, partner)
    except actions.Closed as closed:
        return _page(request, language, "wait" if closed.too_often else "closed", 429 if closed.too_often else 404)


def too_old(request: HttpRequest, language: str = "") -> HttpResponse:
    """In place of the portal's page about forms that came without their mark against other sites."""
    return _page(request, language, "too_old", 403)


@sensitive_variables("form")
def _receive(request: HttpRequest, token: str, language: str, link: UploadLink, partner: Actor) -> HttpResponse:
    form, draft = SendForm(posted(request), request.FILES, two="entry_password" in request.POST), None
    if form.is_valid():
        try:
            with actions.attempt(link=link, by=partner):
                draft = _draft(form, link, partner)
                if draft is not None:
                    actions.receive(link=link, draft=draft, passwords=form.passwords, by=partner)
                    versions = draft.versions() or [draft.version()]
                    return _page(request, language, "thanks", 200, link=link, versions=versions)
            form.add_error("file", NOT_KEPT)
        except (Refusal, Refused) as error:
            return _again(request, token, language, link, draft, error)
    return _ask(request, token, language, link, form)


def _draft(form: SendForm, link: UploadLink, partner: Actor) -> Draft | None:
    if files := form.cleaned_data["file"]:
        return actions.keep_from_link(link=link, files=files, by=partner)
    return actions.kept_by_link(link=link, draft_id=form.cleaned_data["draft"])


def _again(
    request: HttpRequest, token: str, language: str, link: UploadLink, draft: Draft | None, error: Refusal | Refused
) -> HttpResponse:
    """The file is kept where another password, or another minute, can open it; else it has to be another file."""
    waits = isinstance(error, VaultUnusable) or getattr(error, "code", "") == "busy"
    kept = draft if waits or error.field == "password" else None
    if draft is not None and kept is None:
        actions.drop_draft(draft=draft, by=None)
    two = "entry_password" in request.POST or getattr(error, "code", "") == "entry_password_differs"
    form = SendForm({"draft": kept.pk if kept else None}, two=two)
    form.full_clean()
    form.errors.clear()
    form.add_error("password" if kept else "file", sentence(error))
    return _ask(request, token, language, link, form, kept)


def _ask(
    request: HttpRequest, token: str, language: str, link: UploadLink, form: SendForm, kept: Draft | None = None
) -> HttpResponse:
    status = 422 if form.is_bound else 200
    return _page(request, language, "upload", status, link=link, form=form, kept=kept, token=token)


def _page(request: HttpRequest, wanted: str, name: str, status: int, **context: Any) -> HttpResponse:
    language = language_of(wanted, request.headers.get("Accept-Language", ""))
    with translation.override(language):
        page = {"language": language, "languages": LANGUAGES.items(), **context}
        response = render(request, f"partner/{name}.html", page, status=status)
    response.headers["Content-Language"] = language
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    # The address is the secret, so no referrer may tell it. With `no-referrer` browsers send a form with the origin
    # `null`, which is what other sites can send too; so the page with the form tells the origin, and never the path.
    response.headers["Referrer-Policy"] = "strict-origin" if name == "upload" else "no-referrer"
    return response
