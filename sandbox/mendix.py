"""The Mendix runtime's rules for client certificates: how its settings read, and which target gets which one.

Sources, by path below `content/en/docs/` of mendix/docs: refguide/runtime/custom-settings/_index.md (the settings),
deployment/mendix-cloud-deploy/certificates/use-a-client-certificate.md (shapes and the empty path), the
call-rest-action page (identifiers), and mendix/m2ee-tools:examples/full-documented-m2ee.yaml (no escaping in lists).
Where these are silent the choice is marked *assumed* below; the runtime itself is closed, so those points are not
known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class BrokenConfiguration(Exception):
    """The app cannot start with this configuration. The text is one sentence for the operator, without any secret."""


@dataclass(frozen=True)
class ListedCertificate:
    """One entry of ClientCertificates with the password at the same place. `position` counts from 1, as Mendix does."""

    position: int
    path: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Settings:
    """The settings after reading. In `usages` the value "" means *no client certificate*."""

    certificates: tuple[ListedCertificate, ...] = ()
    usages: Mapping[str, str] = field(default_factory=dict)
    never: tuple[str, ...] = ()
    authorities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """What is being called: `kind` is host, service or identifier; `name` is the text looked up in the settings."""

    kind: str
    name: str


@dataclass(frozen=True)
class Choice:
    """What a call presents and why: `rule` is pinned, never, default or none-configured; `offered` is in order."""

    rule: str
    offered: tuple[ListedCertificate, ...]
    reason: str


def java_split(text: str) -> list[str]:
    """Split at commas as Java's `String.split(",")` does: trailing empty parts vanish, so `p1,` has one part.

    Each part is trimmed, because the documentation's own examples have a blank after the comma (*assumed*).
    """
    if text == "":
        return [""]
    parts = text.split(",")
    while parts and parts[-1] == "":
        parts.pop()
    return [part.strip() for part in parts]


def parse(settings: Mapping[str, object]) -> Settings:
    """Read the custom settings (a JSON object, one text a setting). Raises BrokenConfiguration.

    ClientCertificateUsages may be an object or a text with braces: both occur in official material. A path there that
    ClientCertificates does not list is refused ("the paths you specify here should all appear in ClientCertificates").
    """
    paths = _list(settings, "ClientCertificates")
    passwords = java_split(_text(settings, "ClientCertificatePasswords")) if paths else []
    if len(paths) != len(passwords):
        raise BrokenConfiguration(
            f"ClientCertificates lists {len(paths)} files, but ClientCertificatePasswords {len(passwords)} passwords; "
            "write one password for each file, in the same order, none of them empty and without commas."
        )
    usages = _usages(settings.get("ClientCertificateUsages", ""))
    for key, path in usages.items():
        if path and path not in paths:
            raise BrokenConfiguration(
                f"ClientCertificateUsages pins {key!r} to {path!r}, which ClientCertificates does not list; "
                "use the same path in both."
            )
    return Settings(
        certificates=tuple(
            ListedCertificate(position, path, password)
            for position, (path, password) in enumerate(zip(paths, passwords, strict=True), start=1)
        ),
        usages=usages,
        never=tuple(_list(settings, "NoClientCertificateUsages")),
        authorities=tuple(_list(settings, "CACertificates")),
    )


def choose(settings: Settings, target: Target) -> Choice:
    """Which certificate a call to `target` presents, and why.

    Hosts are compared with the lower-case host that is called; keys are taken as they are written (*assumed*: exact).
    A service is looked up under its own name only, never under its host. NoClientCertificateUsages is documented for
    hosts and services, so it is not looked at for an identifier. If a target stands in both, never wins (*assumed*).
    Without an entry the runtime's default applies: every certificate is on offer, in the order of the setting, and the
    server's requirements decide; `sandbox.calls` says how that is approximated.
    """
    name = target.name.lower() if target.kind == "host" else target.name
    if target.kind in ("host", "service") and name in settings.never:
        return Choice("never", (), f"NoClientCertificateUsages lists {name}, so no client certificate is sent.")
    path = settings.usages.get(name)
    if path == "":
        return Choice(
            "never", (), f"ClientCertificateUsages gives {name} an empty path, so no client certificate is sent."
        )
    if path is not None:
        chosen = next(certificate for certificate in settings.certificates if certificate.path == path)
        return Choice("pinned", (chosen,), f"ClientCertificateUsages pins {name} to certificate {chosen.position}.")
    if not settings.certificates:
        return Choice("none-configured", (), "No client certificate is configured.")
    count = len(settings.certificates)
    offer = "the only certificate is offered" if count == 1 else f"all {count} certificates are on offer in their order"
    return Choice("default", settings.certificates, f"No setting names {name}, so {offer}, and the server decides.")


def _text(settings: Mapping[str, object], name: str) -> str:
    value = settings.get(name, "")
    if not isinstance(value, str):
        raise BrokenConfiguration(f"{name} is not a text; write it as one text with commas between its parts.")
    return value


def _list(settings: Mapping[str, object], name: str) -> list[str]:
    text = _text(settings, name)
    if not text.strip():
        return []
    parts = java_split(text)
    if "" in parts:
        raise BrokenConfiguration(f"{name} has an empty entry between two commas; remove it.")
    return parts


def _usages(value: object) -> dict[str, str]:
    if isinstance(value, str):
        if not value.strip():
            return {}
        try:
            value = json.loads(value, object_pairs_hook=unique_keys)
        except ValueError as error:
            raise BrokenConfiguration(
                "ClientCertificateUsages is not valid: write braces around comma-separated "
                '"identifier": "path to certificate" and double every backslash.'
            ) from error
    if not isinstance(value, dict) or not all(isinstance(path, str) for path in value.values()):
        raise BrokenConfiguration("ClientCertificateUsages must map each identifier to one path.")
    return {str(key): str(path) for key, path in value.items()}


def unique_keys(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """A hook for json.loads that refuses a key written twice: which of the two counts is documented nowhere."""
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise BrokenConfiguration(f"{key!r} is written twice in the configuration; keep one of the two.")
    return dict(pairs)
