"""Many certificates at once: their files together, a handful of passwords, one page to look at all, one button."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from certificates import actions, advice, shared_keys
from certificates.compromised import look_up
from certificates.forms import BatchForm, PasswordsForm
from certificates.listing import warned
from certificates.models import ClientCertificate, Draft, Version
from certificates.names import Names
from certificates.views.fetching import page, posted
from environments.access import Right, get_environment
from environments.forms import refused
from environments.models import Environment
from environments.refusals import Refused

get_or_post = require_http_methods(["GET", "HEAD", "POST"])

# Seconds that one request reads, where the page asks again by itself, and where a person has to.
A_PART, AT_ONCE = 1.5, 8.0


@dataclass
class Row:
    """One file of the batch, as the page shows it."""

    draft: Draft
    version: Version | None
    name: str = ""
    chosen: bool = False
    sentence: str = ""
    message: str | None = None
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def state(self) -> str:
        if self.version is not None:
            return "tracked" if self.draft.tracked else "read"
        if self.draft.choices:
            return "several"
        if not actions.is_open_to_more(self.draft):
            return "refused"
        return "closed" if self.draft.refusal else "waiting"


@get_or_post
def certificates_many(request: HttpRequest, app: str, env: str) -> HttpResponse:
    """The files of many certificates."""
    environment = get_environment(request.user, app, env, to=Right.CERTIFICATES)
    form = BatchForm(posted(request), request.FILES or None)
    if form.is_bound and form.is_valid():
        try:
            batch = actions.keep_batch(
                environment=environment,
                files=form.cleaned_data["file"],
                session_key=request.session.session_key or "",
                by=request.user,
            )
        except Refused as error:
            refused(form, error)
        else:
            return redirect(environment.url("batch", batch))
    status = 422 if form.is_bound else 200
    return page(request, "many", status=status, environment=environment, form=form)


@sensitive_post_parameters("passwords")
@get_or_post
def batch(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    """Where the files of a batch stand: opened part by part, then added together."""
    environment = get_environment(request.user, app, env, to=Right.CERTIFICATES)
    try:
        drafts = _drafts(request, environment, pk)
    except Refused as error:
        messages.error(request, str(error))
        return redirect("network", app, env)
    if "cancel" in request.POST:
        for one in drafts:
            actions.drop_draft(draft=one, by=request.user)
        messages.info(request, _("Cancelled; nothing was added."))
        return redirect("network", app, env)
    if "add" in request.POST:
        return _add(request, environment, drafts)
    return _open(request, environment, drafts)


def _drafts(request: HttpRequest, environment: Environment, pk: UUID) -> list[Draft]:
    return actions.batch_of(
        batch=pk, environment=environment, session_key=request.session.session_key or "", by=request.user
    )


@sensitive_variables("form")
def _open(request: HttpRequest, environment: Environment, drafts: list[Draft]) -> HttpResponse:
    in_parts = bool(request.headers.get("HX-Request"))
    form = PasswordsForm(posted(request))
    after = None
    if form.is_bound and form.is_valid():
        try:
            after = actions.read_batch(
                batch=drafts,
                passwords=form.cleaned_data["passwords"],
                after=form.cleaned_data["after"],
                seconds=A_PART if in_parts else AT_ONCE,
                by=request.user,
            )
        except Refused as error:
            form.add_error("passwords", str(error))
    rows = _rows(environment, drafts, request.user)
    if after is None and not in_parts and form.is_bound and not form.errors:
        return redirect(environment.url("batch", drafts[0].batch))
    return _page(request, environment, rows, form, after=after, part=in_parts, status=422 if form.errors else 200)


def _add(request: HttpRequest, environment: Environment, drafts: list[Draft]) -> HttpResponse:
    rows = _rows(environment, drafts, request.user)
    chosen = set(request.POST.getlist("chosen"))
    for row in rows:
        row.chosen = str(row.draft.pk) in chosen
        row.name = request.POST.get(f"name-{row.draft.pk}", row.name)
    error = ""
    wanted = {row.draft: row.name for row in rows if row.chosen and row.version is not None}
    if not wanted:
        error = _("Tick the certificates that are to be added.")
    else:
        try:
            added = actions.add_batch(chosen=wanted, confirmed="confirmed" in request.POST, by=request.user)
        except Refused as refusal:
            for row in rows:
                row.error = str(refusal) if refusal.field == str(row.draft.pk) else ""
            error = _("Nothing was added: %(why)s") % {"why": refusal}
        else:
            return _added(request, environment, drafts, wanted, added)
    confirmed = "confirmed" in request.POST
    form = PasswordsForm()
    return _page(request, environment, rows, form, error=error, confirmed=confirmed, status=422)


def _added(
    request: HttpRequest,
    environment: Environment,
    drafts: list[Draft],
    wanted: dict[Draft, str],
    added: list[ClientCertificate],
) -> HttpResponse:
    words = ngettext(
        "Added %(n)d certificate. Pin it to the services it is meant for.",
        "Added %(n)d certificates. Pin them to the services they are meant for.",
        len(added),
    )
    messages.success(request, words % {"n": len(added)})
    left = [draft for draft in drafts if draft not in wanted]
    if any(draft.choices or actions.is_open_to_more(draft) for draft in left):
        return redirect(environment.url("batch", drafts[0].batch))
    for draft in left:
        actions.drop_draft(draft=draft, by=request.user)
    return redirect(environment.url("network"))


def _rows(environment: Environment, drafts: list[Draft], reader: Any) -> list[Row]:
    """The rows of the page; three queries, for any number of files, and two more in production."""
    names = Names(environment)
    rows = [Row(draft, draft.version() if draft.is_read else None) for draft in drafts]
    versions = [row.version for row in rows if row.version is not None]
    look_up(versions)
    found = [version.sha256 for version in versions]
    here: dict[str, str] = dict(
        environment.certificates.filter(removed_at=None, versions__sha256__in=found).values_list(
            "versions__sha256", "name"
        )
    )
    opened = [row.version for row in rows if row.version is not None and not row.draft.tracked]
    in_tests = shared_keys.also_in_tests(environment, opened, reader)
    seen: dict[str, str] = {}
    for row in rows:
        refusal = actions.refusal_of(row.draft)
        if row.version is not None:
            same = here.get(row.version.sha256) or seen.get(row.version.sha256)
            seen.setdefault(row.version.sha256, row.draft.file_name)
            row.name = names.suggest(row.version, row.draft.file_name)
            row.warnings = warned(row.version)
            if not row.draft.tracked and row.version.sha256 in in_tests:
                row.warnings.append(in_tests[row.version.sha256])
            # A chain that only lacks its root is as most of them are.
            usual = {"chain_incomplete"} if row.version.chain else set()
            noted = [w for w in row.version.warnings if not w.get("confirm", True) and w["code"] not in usual]
            row.notes = [w["sentence"] for w in noted]
            if same:
                row.notes.insert(0, _("The same certificate as %(name)s.") % {"name": same})
            row.chosen = not same and not row.draft.tracked
        elif refusal is not None:
            row.sentence, row.message = str(refusal), advice.message(refusal, row.draft.file_name)
    return rows


def _page(
    request: HttpRequest,
    environment: Environment,
    rows: list[Row],
    form: PasswordsForm,
    *,
    after: int | None = None,
    part: bool = False,
    status: int = 200,
    **more: Any,
) -> HttpResponse:
    context = {
        "environment": environment,
        "batch": rows[0].draft.batch,
        "rows": rows,
        "form": form,
        "after": after,
        "opened": sum(row.state in ("read", "tracked", "several") for row in rows),
        "refused": sum(row.state == "refused" for row in rows),
        "closed": sum(row.state in ("closed", "waiting") for row in rows),
        "ready": any(row.state == "read" for row in rows),
        "addable": any(row.version is not None for row in rows),
        "warned": any(row.warnings for row in rows),
        **more,
    }
    # A part that was asked for by the page is shown whatever stands in it.
    return page(request, "batch_part" if part else "batch", status=200 if part else status, **context)
