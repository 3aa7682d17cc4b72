"""A person at the pages without a browser: follows links, fills in the forms that a page shows, sends them.

What a form holds (hidden values, what is chosen already) goes along, as a browser would send it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

File = tuple[str, bytes, str]
"""Name, contents, type."""


@dataclass
class Form:
    action: str
    values: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    """Of every control, also of those that send nothing unless they are filled in."""


@dataclass
class Page:
    """An answer: `address` is where it came from after redirects."""

    address: str
    status: int
    text: str

    @property
    def path(self) -> str:
        return urlsplit(self.address).path

    @property
    def forms(self) -> list[Form]:
        reader = _Forms(self.address)
        reader.feed(self.text)
        return reader.forms

    def form(self, *names: str, action: str = "") -> Form:
        """The first form that has controls with these names, and whose address ends in `action`."""
        for form in self.forms:
            if set(names) <= form.names and urlsplit(form.action).path.endswith(action):
                return form
        raise LookupError(f"{self.path} ({self.status}) has no form with {names}, to …{action}: {self.said}")

    def links(self, pattern: str) -> list[str]:
        """The addresses on the page that match, each once, in their order."""
        return list(dict.fromkeys(re.findall(rf'href="({pattern})"', self.text)))

    @property
    def said(self) -> str:
        """What a reader sees of the main part, on one line."""
        main = re.sub(r"(?s)^.*?<main\b[^>]*>|</main>.*$", "", self.text)
        return " ".join(re.sub(r"(?s)<(script|style)\b.*?</\1>|<[^>]+>", " ", main).split())


class Person:
    """`session` is one of requests, or of Locust, which counts what it sends."""

    def __init__(self, address: str, session: Any = None) -> None:
        self.address = address
        self.session = session or requests.Session()

    def look(self, path: str, name: str | None = None) -> Page:
        """`name`: under which Locust counts it."""
        return self._page("GET", urljoin(self.address, path), name)

    def send(
        self,
        page: Page,
        form: Form,
        values: Mapping[str, str] | None = None,
        *,
        files: Mapping[str, File] | None = None,
        name: str | None = None,
    ) -> Page:
        """The page that this form leads to, with what is typed in laid over what it holds."""
        sent = form.values | dict(values or {})
        return self._page("POST", form.action, name, data=sent, files=files, headers={"Referer": page.address})

    def sign_in(self, who: str, password: str) -> Page:
        page = self.look("/sign-in/", "/sign-in/")
        return self.send(page, page.form("name", "password"), {"name": who, "password": password}, name="sign in")

    def change_password(self, page: Page, current: str, new: str) -> Page:
        typed = {"current": current, "new": new, "again": new}
        return self.send(page, page.form("current"), typed, name="change password")

    def _page(self, method: str, address: str, name: str | None, **more: Any) -> Page:
        # Locust's sessions take a name to count under; those of requests know none.
        counted = {"name": name} if name and hasattr(self.session, "base_url") else {}
        answer = self.session.request(method, address, timeout=60, **counted, **more)
        return Page(answer.url or address, answer.status_code, answer.text)


class _Forms(HTMLParser):
    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self.forms: list[Form] = []
        self._open: Form | None = None
        self._select = ""
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        named = {key for key, _value in attrs}
        if tag == "form":
            self._open = Form(urljoin(self.address, given.get("action", "")))
            if given.get("method", "").lower() == "post":
                self.forms.append(self._open)
        elif self._open is None or "disabled" in named:
            return
        elif tag == "input" and given.get("name"):
            self._control(given, named)
        elif tag == "select":
            self._select = given.get("name", "")
            self._open.names.add(self._select)
        elif tag == "option" and self._select:
            if "selected" in named or self._select not in self._open.values:
                self._open.values[self._select] = given.get("value", "")
        elif tag == "textarea" and given.get("name"):
            self._text = given["name"]
            self._open.names.add(self._text)
            self._open.values[self._text] = ""
        elif tag == "button" and given.get("name"):
            self._open.names.add(given["name"])

    def _control(self, given: dict[str, str], named: set[str]) -> None:
        assert self._open is not None
        kind, name = given.get("type", "text"), given["name"]
        self._open.names.add(name)
        if kind in ("file", "submit", "button", "image") or (kind in ("radio", "checkbox") and "checked" not in named):
            return
        self._open.values[name] = given.get("value", "on" if kind == "checkbox" else "")

    def handle_data(self, data: str) -> None:
        if self._text and self._open is not None:
            self._open.values[self._text] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._text = ""
