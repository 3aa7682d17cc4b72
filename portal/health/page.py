"""The owners' page about this installation, and what to do when one of its parts dies. Nobody else is told of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import slugify
from django.views.decorators.http import require_safe

from portal.health import parts as looking
from portal.health.parts import GOOD, NOT_READY

# A page left open asks this often, in seconds, and stops asking after ten minutes.
EVERY, TIMES = 5, 120
OPERATIONS = settings.BASE_DIR / "docs" / "operations.md"

View = Callable[..., HttpResponse]


def for_owners(view: View) -> View:
    """To everybody but installation owners there is nothing here."""

    @wraps(view)
    def only_for_them(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_superuser:
            raise Http404
        return view(request, *args, **kwargs)

    return only_for_them


def _told(left: int) -> dict[str, Any]:
    found = looking.parts(started=looking.STARTED)
    return {
        "section": "health",
        "parts": found,
        "not_ready": sum(part.rank == NOT_READY for part in found),
        "wrong": sum(part.rank < GOOD for part in found),
        "at": timezone.now(),
        "left": left,
        "every": EVERY,
        "operations": bool(_sections()),
    }


@require_safe
@for_owners
def health(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/health.html", _told(TIMES))


@require_safe
@for_owners
def health_parts(request: HttpRequest) -> HttpResponse:
    """Polled, and told how many times are left; the answer to the last one asks for no further one."""
    text = request.GET.get("left", "")
    left = min(int(text), TIMES) - 1 if text.isascii() and text.isdigit() and len(text) < 5 else 0
    return render(request, "portal/health_parts.html", _told(max(left, 0)), status=200 if left > 0 else 286)


@dataclass(frozen=True)
class Block:
    """A table (rows of cells), a list (one row) or a text (one row of one cell). Cells are HTML, escaped."""

    kind: str
    rows: list[list[SafeString]]


@dataclass(frozen=True)
class Section:
    title: str
    anchor: str
    blocks: list[Block]


_INLINE = re.compile(r"`([^`]+)`|\*([^*]+)\*")


def _inline(text: str) -> SafeString:
    """Code and emphasis, the two marks that the file uses inside a line."""
    pieces, at = [], 0
    for mark in _INLINE.finditer(text):
        pieces.append(escape(text[at : mark.start()]))
        pieces.append(format_html("<code>{}</code>", mark[1]) if mark[1] else format_html("<em>{}</em>", mark[2]))
        at = mark.end()
    return format_html_join("", "{}", ((piece,) for piece in (*pieces, escape(text[at:]))))


def blocks(text: str) -> list[Block]:
    """The blocks of Markdown that docs/operations.md is made of: tables, lists and texts, an empty line apart."""
    found = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            rows = [
                [_inline(cell.strip()) for cell in line.strip("| ").split(" | ")] for line in lines if "---" not in line
            ]
            found.append(Block("table", rows))
        elif lines[0].startswith("- "):
            items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
            found.append(Block("list", [[_inline(" ".join(item.split())) for item in items]]))
        else:
            found.append(Block("text", [[_inline(" ".join(lines))]]))
    return found


@cache
def _sections() -> list[Section]:
    """docs/operations.md by its headings; nothing where the file was not installed."""
    try:
        text = OPERATIONS.read_text()
    except OSError:
        return []
    pieces = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return [
        Section(title, slugify(title), blocks(piece)) for title, piece in zip(pieces[::2], pieces[1::2], strict=True)
    ]


@require_safe
@for_owners
def operations(request: HttpRequest) -> HttpResponse:
    if not _sections():
        raise Http404
    return render(request, "portal/operations.html", {"section": "health", "sections": _sections()})
