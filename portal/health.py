from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse


@login_not_required
def healthz(_request: HttpRequest) -> HttpResponse:
    """The process answers; nothing is said about what it depends on."""
    return HttpResponse("ok\n", content_type="text/plain")
