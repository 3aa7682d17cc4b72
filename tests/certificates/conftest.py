from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from certificates import actions
from certificates.intake import Upload
from certificates.models import ClientCertificate, Draft, Pin, Version
from environments.models import Environment, Person
from tests import pki
from vault.models import SealedObject

SESSION = "a session key"


@pytest.fixture
def signed_in(client: Client, owner: Person) -> Client:
    client.force_login(owner)
    return client


@pytest.fixture
def person_with(environment: Environment) -> Callable[[str], Client]:
    """A browser in which somebody with this role in the application is signed in."""
    from environments import actions as environments

    def make(role: str) -> Client:
        person = Person.objects.create_user(f"a-{role}", password="x")
        environments.add_member(application=environment.application, person=person, role=role, by=None)
        client = Client()
        client.force_login(person)
        return client

    return make


@pytest.fixture(scope="session")
def partner() -> pki.Issued:
    return pki.make_authority("Partner CA")


@pytest.fixture
def make_file(partner: pki.Issued) -> Callable[..., bytes]:
    """A .pfx with the password `secret`; keywords are those of tests.pki.issue."""

    def make(cn: str = "client.example.com", **kwargs: Any) -> bytes:
        return pki.pfx(pki.issue(cn, authority=partner, **kwargs), "secret")

    return make


@pytest.fixture
def keep(environment: Environment, owner: Person) -> Callable[..., Draft]:
    """Keeps a file as a draft of the owner's session."""

    def keep(file: bytes, **kwargs: Any) -> Draft:
        given: dict[str, Any] = {
            "environment": environment,
            "certificate": None,
            "files": [Upload("bank.pfx", file)],
            "session_key": SESSION,
            "by": owner,
        }
        return actions.keep_draft(**given | kwargs)

    return keep


@pytest.fixture
def pin(environment: Environment, owner: Person) -> Callable[..., Pin]:
    def pin(text: str, certificate: ClientCertificate | None = None, **kwargs: Any) -> Pin:
        target = actions.read_target(environment=environment, text=text, never=certificate is None)
        return actions.pin(environment=environment, target=target, certificate=certificate, by=owner, **kwargs)

    return pin


def upload(file: bytes, name: str = "bank.pfx") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, file, content_type="application/x-pkcs12")


def stored() -> tuple[int, ...]:
    """How many certificates, versions, pins, drafts and sealed objects there are."""
    return tuple(model.objects.count() for model in (ClientCertificate, Version, Pin, Draft, SealedObject))


def text_of(response: Any) -> str:
    """What a person reads: without tags, entities resolved, blanks folded."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode().replace("<wbr>", ""))).split())


def error_beside(response: Any, field: str) -> str:
    found = re.search(rf'id="id_{field}_error">([^<]*)<', response.content.decode())
    assert found, f"no error beside {field}: {text_of(response)}"
    return html.unescape(found[1])


@pytest.fixture
def at(environment: Environment) -> Callable[..., str]:
    """The address of a page of the environment."""
    return environment.url
