"""Whose address stands in the audit log and is paused: the client's, as far as somebody we trust has said it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from audit.models import Event
from environments.models import Person
from tests.conftest import PASSWORD

ROOT = Path(__file__).resolve().parent.parent.parent
PROXY = "10.0.0.1"


def sign_in(forwarded: str, password: str = "no") -> Any:
    client = Client(REMOTE_ADDR=PROXY, headers={"X-Forwarded-For": forwarded})
    return client.post("/sign-in/", {"name": "grace", "password": password})


@pytest.mark.django_db
def test_behind_our_proxy_one_client_cannot_lock_another_out(owner: Person, settings: Any) -> None:
    settings.BEHIND_PROXY = True
    for _attempt in range(10):
        assert sign_in("203.0.113.9").status_code == 422
    assert sign_in("203.0.113.9", PASSWORD).status_code == 429
    assert sign_in("198.51.100.7", PASSWORD).status_code == 302


@pytest.mark.django_db
def test_what_a_client_writes_into_the_header_itself_does_not_end_its_pause(owner: Person, settings: Any) -> None:
    settings.BEHIND_PROXY = True
    for number in range(10):
        sign_in(f"198.51.100.{number}, 203.0.113.9")
    assert sign_in("192.0.2.1, 203.0.113.9", PASSWORD).status_code == 429


@pytest.mark.django_db
def test_without_a_proxy_the_header_changes_nothing(owner: Person, settings: Any) -> None:
    settings.BEHIND_PROXY = False
    for number in range(10):
        sign_in(f"198.51.100.{number}")
    assert sign_in("192.0.2.1", PASSWORD).status_code == 429
    assert Event.objects.filter(body__contains=f'"address":"{PROXY}"').count() == 10


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.7,  2001:DB8::7 ", "2001:db8::7"),
        ("198.51.100.7, not an address", PROXY),
        ("198.51.100.7,", PROXY),
        ("", PROXY),
    ],
)
def test_the_audit_log_says_where_a_person_behind_the_proxy_is(
    owner: Person, settings: Any, forwarded: str, address: str
) -> None:
    settings.BEHIND_PROXY = True
    client = Client(REMOTE_ADDR=PROXY, headers={"X-Forwarded-For": forwarded})
    client.post("/sign-in/", {"name": "grace", "password": PASSWORD})
    client.post("/apps/new/", {"name": "Customs"})
    said = Event.objects.filter(action__in=("person.signed-in", "application.created"))
    assert [f'"address":"{address}"' in event.body for event in said] == [True, True]


@pytest.mark.parametrize(
    ("variables", "behind"),
    [
        ({}, False),
        ({"COUNTERSIGN_PROXY": "true"}, True),
        ({"COUNTERSIGN_TLS": "true"}, True),
        ({"COUNTERSIGN_TLS": "true", "COUNTERSIGN_PROXY": "false"}, False),
    ],
)
def test_only_the_setting_makes_the_portal_believe_a_proxy(
    variables: dict[str, str], behind: bool, tmp_path: Path
) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
    source = "from portal import settings as s; print(s.BEHIND_PROXY, hasattr(s, 'SECURE_PROXY_SSL_HEADER'))"
    said = subprocess.run(
        [sys.executable, "-c", source],
        env=kept | {"COUNTERSIGN_DATA": str(tmp_path)} | variables,
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert said.stdout.split() == [str(behind)] * 2
