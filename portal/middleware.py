"""What holds for every page: its number in the logs, where it is asked from, its content security policy, one-time
passwords, refusals."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import resolve, reverse

from environments.access import NotAllowed
from portal import logs

GetResponse = Callable[[HttpRequest], HttpResponse]

POLICY = "; ".join(" ".join([directive, *sources]) for directive, sources in settings.SECURE_CSP.items())


def request_ids(get_response: GetResponse) -> GetResponse:
    """Every request has a number, which its log lines bear, and which goes back as X-Request-ID.

    Behind our proxy it is the one that the proxy gave, so that its lines and ours can be read together; anybody else's
    would let a client write another's number, or a text of its own, into our log.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        given = request.META.get("HTTP_X_REQUEST_ID", "") if settings.BEHIND_PROXY else ""
        number = given if logs.well_formed(given) else logs.new_request_id()
        request.META[logs.REQUEST_ID] = number
        # Ended by request_finished (portal/apps.py): Django writes its line about a refusal after all middleware.
        logs.begin(request_id=number, path=request.path)
        response = get_response(request)
        response.headers["X-Request-ID"] = number
        return response

    return middleware


def client_address(get_response: GetResponse) -> GetResponse:
    """Behind our proxy: REMOTE_ADDR becomes the address that the proxy saw, once and for everything that follows.

    That is the last element of X-Forwarded-For, which our proxy appended; those before it are whatever the client
    wrote. Where it is no address, the proxy's own stays. Without COUNTERSIGN_PROXY the header is not looked at.
    """
    if not settings.BEHIND_PROXY:
        return get_response

    def middleware(request: HttpRequest) -> HttpResponse:
        appended = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
        with suppress(ValueError):
            request.META["REMOTE_ADDR"] = str(ip_address(appended))
        return get_response(request)

    return middleware


def content_security_policy(get_response: GetResponse) -> GetResponse:
    """Sends SECURE_CSP, by the setting's name in Django 6, whose own middleware replaces this one."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        if getattr(request, "user", None) is not None and request.user.is_authenticated:
            # Pages about keys are not for a browser's cache or its back button after signing out.
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    return middleware


# Where somebody with a one-time password may still go.
FREE = {"change-password", "sign-out"}


def one_time_passwords(get_response: GetResponse) -> GetResponse:
    """Leads a person with a one-time password to a password of their own before anything else."""

    def middleware(request: HttpRequest) -> HttpResponse:
        user = request.user
        if user.is_authenticated:
            user.address = request.META.get("REMOTE_ADDR", "")
            # By number: a name may be a password typed into the wrong field.
            request.META[logs.USER] = str(user.pk)
            logs.also(user=str(user.pk))
            if user.must_change_password and resolve(request.path_info).url_name not in FREE:
                return redirect(f"{reverse('change-password')}")
        return get_response(request)

    return middleware


def refusals(get_response: GetResponse) -> GetResponse:
    """Shows who may, where somebody may not."""

    def middleware(request: HttpRequest) -> HttpResponse:
        return get_response(request)

    def process_exception(request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, NotAllowed):
            return render(request, "403.html", {"sentence": str(error)}, status=403)
        return None

    middleware.process_exception = process_exception  # type: ignore[attr-defined]  # Django's hook on a middleware
    return middleware
