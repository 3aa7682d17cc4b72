"""Which servers a change means something to, as diffs and the Settings and Export tabs say it."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.test import Client

from certificates import actions as certificates
from certificates.content import Content, PinnedTarget, Slot
from environments.models import Environment, Person
from rollouts.changes import changed_answers
from tests import pki

A, B = Slot("a", "1" * 64), Slot("b", "2" * 64)
PINS = (PinnedTarget("host", "a.example", "a"), PinnedTarget("host", "b.example", "b"))
BEFORE = Content("mendix", "", "", "/srv", (A, B), PINS)


def text_of(response: Any) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def changed(after: Content) -> list[str]:
    return [one.key for one in changed_answers(BEFORE, after)[1]]


def test_a_change_of_one_certificate_changes_the_answers_of_its_pins() -> None:
    from dataclasses import replace

    assert changed(BEFORE) == []
    assert changed(replace(BEFORE, pins=PINS[::-1])) == []
    assert changed(replace(BEFORE, slots=(replace(A, sha256="3" * 64), B))) == ["a.example", ""]
    assert changed(replace(BEFORE, pins=(PINS[0],))) == ["b.example"]
    assert changed(replace(BEFORE, pins=(*PINS, PinnedTarget("host", "c.example", None)))) == ["c.example"]
    # In another order the server may choose another one.
    assert changed(replace(BEFORE, slots=(B, A))) == [""]


@pytest.fixture
def browser(client: Client, owner: Person) -> Client:
    client.force_login(owner)
    return client


@pytest.fixture
def pin(environment: Environment, owner: Person) -> Any:
    def pin(text: str, certificate: Any = None) -> Any:
        target = certificates.read_target(environment=environment, text=text, never=certificate is None)
        return certificates.pin(environment=environment, target=target, certificate=certificate, by=owner)

    return pin


@pytest.mark.django_db(transaction=True)
def test_the_diff_says_which_servers_see_something_else(
    browser: Client,
    environment: Environment,
    owner: Person,
    running_app: Any,
    apply: Any,
    add_certificate: Any,
    pin: Any,
) -> None:
    bank = add_certificate("Bank")
    pin("a.example", bank)
    pin("b.example", add_certificate("Tax"))
    apply()
    certificates.renew(certificate=bank, identity=pki.issue("new").identity, in_use=True, by=owner)
    page = text_of(browser.get(environment.url("changes")))
    assert "What the servers see of it 1 of 2 pinned targets are sent something else" in page
    assert "a.example Running (1): Bank SHA-256" in page
    assert "any of: Bank, Tax" in page
    done = apply()
    assert "1 of 2 pinned targets are sent something else" in text_of(browser.get(done.get_absolute_url()))


@pytest.mark.django_db(transaction=True)
def test_another_runtime_shows_first_which_pins_it_cannot_be_told(
    browser: Client, environment: Environment, add_certificate: Any, pin: Any
) -> None:
    bank = add_certificate("Bank")
    for text in ("a.example", "Billing.PaymentService", "MY_S3"):
        pin(text, bank)
    address = environment.url("environment-settings")
    typed = {"form": "environment", "name": environment.name, "runtime": "nginx", "runtime_version": ""}
    refused = browser.post(address, typed)
    assert refused.status_code == 422
    page = text_of(refused)
    assert "2 of 3 pins cannot be expressed on nginx" in page
    assert "Billing.PaymentService : nginx, curl and others that read PEM cannot be told about Billing" in page
    environment.refresh_from_db()
    assert environment.runtime == "mendix"
    assert browser.post(address, typed | {"accepted": "on"}).status_code == 302
    environment.refresh_from_db()
    assert environment.runtime == "nginx"
    shown = text_of(browser.get(environment.url("export")))
    assert "2 of 3 pins cannot be expressed in this form" in shown
    assert "Download zip" not in shown


@pytest.mark.django_db(transaction=True)
def test_a_runtime_that_can_be_told_everything_is_simply_saved(
    browser: Client, environment: Environment, add_certificate: Any, pin: Any
) -> None:
    pin("a.example", add_certificate("Bank"))
    typed = {"form": "environment", "name": environment.name, "runtime": "java", "runtime_version": ""}
    assert browser.post(environment.url("environment-settings"), typed).status_code == 302
    page = text_of(browser.get(environment.url("export") + "?folder=/srv/app"))
    assert "a.example=bank" in page
    meant = browser.post(environment.url("pin-interpret"), {"target": "b.example", "certificate": "never"})
    assert "b.example=" in text_of(meant)
