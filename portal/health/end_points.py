"""`/healthz` and `/readyz`, for those who watch the portal or send requests to it.

They are answered before anything else looks at the request: whatever name it was sent to (a health check asks
127.0.0.1), without TLS, session or sign-in. Nothing of a request but its path and method is read, so ALLOWED_HOSTS goes
on protecting everything that does read more.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse

from portal.health import readiness
from portal.middleware import GetResponse


def end_points(get_response: GetResponse) -> GetResponse:
    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path_info not in ANSWERS:
            return get_response(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        response = ANSWERS[request.path_info]()
        response.headers["Cache-Control"] = "no-store"
        response.headers["Content-Length"] = str(len(response.content))
        return response

    return middleware


def healthz() -> HttpResponse:
    """The process answers; nothing is said about what it depends on."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz() -> HttpResponse:
    """200 or 503, and each part's name with “ok” or “not ok”: strangers learn no more than that."""
    found = readiness.readiness()
    readiness.CHANGES.note(found)
    told = {name: "ok" if ok else "not ok" for name, ok in found.parts.items()}
    response = JsonResponse(told, status=200 if found.ready else 503)
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django's mark; a change is, and not each answer
    return response


ANSWERS = {"/healthz": healthz, "/readyz": readyz}
