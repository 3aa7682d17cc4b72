"""Pins: typed, interpreted while typing, saved, removed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from certificates import actions, shared_keys
from certificates.dialects import dialect_of
from certificates.forms import NEVER, PinForm
from certificates.models import Pin
from certificates.targets import IDENTIFIER
from certificates.views.fetching import get_pin, page, posted
from environments.access import Right, get_environment
from environments.forms import refused
from environments.models import Environment
from environments.refusals import Refused

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@get_or_post
def pin_new(request: HttpRequest, app: str, env: str) -> HttpResponse:
    environment = get_environment(request.user, app, env, to=Right.CERTIFICATES)
    asked_for = request.GET.get("certificate", "")
    form = PinForm(
        environment,
        posted(request),
        initial={"certificate": asked_for, "target": request.GET.get("target", "")},
        interpret=environment.url("pin-interpret"),
    )
    back = form.certificates.get(asked_for)
    if not asked_for and len(form.certificates) == 1:
        form.initial["certificate"] = next(iter(form.certificates))
    if form.is_bound and form.is_valid() and (saved := _save(form, environment, None, request.user)):
        messages.success(request, told(saved))
        return redirect(back) if back else redirect("network", app, env)
    context: dict[str, Any] = {"environment": environment, "form": form, "back": back}
    context |= meaning(environment, form.data, None, request.user) if form.is_bound else {}
    return page(request, "pin", status=422 if form.is_bound else 200, **context)


@get_or_post
def pin_edit(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    pin = get_pin(request.user, app, env, pk)
    environment = pin.environment
    initial = {
        "target": pin.key, "kind": pin.kind, "certificate": str(pin.certificate_id or NEVER), "note": pin.note,
        "test_address": pin.test_address,
    }  # fmt: skip
    form = PinForm(
        environment, posted(request), initial=initial, interpret=f"{environment.url('pin-interpret')}?pin={pk}"
    )
    if form.is_bound and form.is_valid() and (saved := _save(form, environment, pin, request.user)):
        messages.success(request, told(saved))
        return redirect("network", app, env)
    # Afresh: a refused action may have changed what it was given.
    stored = get_pin(request.user, app, env, pk)
    context = meaning(environment, form.data if form.is_bound else initial, stored, request.user)
    status = 422 if form.is_bound else 200
    return page(request, "pin", status=status, environment=environment, form=form, pin=stored, **context)


def _save(form: PinForm, environment: Environment, pin: Pin | None, by: Any) -> Pin | None:
    """The pin as it is now; None where it was refused, with the sentence in the form."""
    given, version = form.cleaned_data, form.chosen.in_use if form.chosen else None
    choice: dict[str, Any] = {
        "certificate": form.chosen, "note": given["note"], "test_address": given["test_address"],
        "confirmed": bool(version and given["confirmed"] == version.sha256), "by": by,
    }  # fmt: skip
    try:
        target = actions.read_target(
            environment=environment, text=given["target"], kind=given["kind"], never=form.chosen is None
        )
        if pin is None:
            return actions.pin(environment=environment, target=target, **choice)
        actions.change_pin(pin=pin, target=target, **choice)
    except Refused as error:
        refused(form, error)
        return None
    return pin


def told(pin: Pin) -> str:
    """“Pinned api.example.com to Bank payments. It is not running yet.”"""
    if pin.certificate is None:
        return _("%(key)s is never sent a certificate. It is not running yet.") % {"key": pin.key}
    if not pin.certificate.enabled:
        words = _("Pinned %(key)s to %(name)s, which is disabled; the pin counts once it is enabled.")
    else:
        words = _("Pinned %(key)s to %(name)s. It is not running yet.")
    return words % {"key": pin.key, "name": pin.certificate}


@get_or_post
def pin_interpret(request: HttpRequest, app: str, env: str) -> HttpResponse:
    """A fragment for the editor: what the typed text means to this runtime, and what saving it would change."""
    environment = get_environment(request.user, app, env, to=Right.CERTIFICATES)
    edited = _uuid(request.GET.get("pin", ""))
    pin = environment.pins.filter(pk=edited).select_related("certificate").first() if edited else None
    context = {"environment": environment, **meaning(environment, request.POST or request.GET, pin, request.user)}
    return render(request, "certificates/meaning.html", context)


def meaning(environment: Environment, typed: Any, pin: Pin | None, reader: Any) -> dict[str, Any]:
    """What the editor says below the target: interpretation or refusal, before and after; what has to be confirmed."""
    text, chosen = str(typed.get("target") or ""), str(typed.get("certificate") or "")
    if not text.strip():
        return {}
    never = chosen == NEVER
    try:
        target = actions.read_target(environment=environment, text=text, kind=typed.get("kind") or None, never=never)
    except Refused as error:
        return {"problem": str(error)}
    other = environment.pins.filter(key=target.key).select_related("certificate").first()
    if pin and other and pin.pk == other.pk:
        other = None
    sent = _uuid(chosen)
    found = environment.certificates.filter(removed_at=None, pk=sent).select_related("in_use").first() if sent else None
    new = [found.in_use] if found and found.in_use and not (pin and pin.certificate_id == found.pk) else []
    return {
        "read": target,
        "guessed": target.kind == IDENTIFIER and not typed.get("kind"),
        "other": other,
        "edit": environment.url("pin-edit", other.pk) if other else "",
        "before": pin,
        "same": pin is not None and target.key == pin.key and chosen == str(pin.certificate_id or NEVER),
        "never": never,
        "chosen": found,
        "in_tests": "".join(shared_keys.also_in_tests(environment, new, reader).values()),
        "confirmed": bool(found and found.in_use and typed.get("confirmed") == found.in_use.sha256),
        "any_other": any_other(environment),
    }


def any_other(environment: Environment) -> str:
    """The dialect's words for a server without a pin here."""
    sendable = environment.certificates.filter(removed_at=None, enabled=True, in_use__isnull=False)
    return dialect_of(environment.runtime).words_for_any_other(sendable.count())


def _uuid(text: str) -> UUID | None:
    """None for what is no id: a new pin, or *never send*."""
    try:
        return UUID(text)
    except ValueError:
        return None


@get_or_post
def pin_remove(request: HttpRequest, app: str, env: str, pk: UUID) -> HttpResponse:
    pin = get_pin(request.user, app, env, pk)
    if request.method == "POST":
        key = pin.key
        actions.unpin(pin=pin, by=request.user)
        messages.success(request, _("Removed the pin of %(key)s. It still runs until the next apply.") % {"key": key})
        return redirect("network", app, env)
    environment = pin.environment
    return page(request, "unpin", environment=environment, pin=pin, any_other=any_other(environment))
