"""The search at the top of every page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from environments.access import Right, environments_to
from rollouts.searching import search


@require_http_methods(["GET", "HEAD", "POST"])
def search_page(request: HttpRequest) -> HttpResponse:
    """By POST, although it changes nothing: what is pasted may carry a password, and addresses are written to logs."""
    asked = request.POST.get("text", "").strip()
    context: dict[str, Any] = {"section": "search", "asked": asked}
    if asked:
        context["found"] = search(asked, request.user)
        context["may_apply"] = set(environments_to(Right.APPLY, request.user).values_list("pk", flat=True))
    return render(request, "rollouts/search.html", context)
