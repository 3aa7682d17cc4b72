"""What each kind of runtime can express and what it does by default, as data. No Django here.

A new kind of runtime is one Dialect and one line in DIALECTS. What no document confirms counts as unsupported, and
the reason says that it is undocumented rather than impossible.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from certificates.content import Content, PinnedTarget
from certificates.targets import HOST, IDENTIFIER, SERVICE, WORDS, Interpretation, TargetError, interpret


class DialectError(Exception):
    """One sentence for the operator: the environment runs on something that this release does not know."""


@dataclass(frozen=True)
class Profile:
    """One way to write a PFX (certificates.pkcs12.PROFILES), and for which runtimes it is there."""

    kind: str
    title: str
    reason: str = ""


@dataclass(frozen=True)
class Dialect:
    """One kind of runtime. `since` gives the first documented version (major, minor, …) of a feature.

    Features in `since`: `never`, and the kinds of target. `never_send` are the kinds that can be told it.
    `default_rule` are the words for a target without a pin, by the number of certificates that may be sent: none, one,
    several; `offers_any` says whether it is any certificate, or none. `authorities` says whether it can be given
    certificates of its own to trust.
    """

    kind: str
    title: str
    targets: tuple[str, ...]
    never_send: tuple[str, ...]
    ports: bool
    wildcards: bool
    ipv6: bool
    commas: bool
    case: str
    order_matters: bool
    default_rule: tuple[str, str, str]
    offers_any: bool = True
    authorities: bool = True
    profiles: tuple[Profile, ...] = ()
    since: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def words_for_any_other(self, certificates: int) -> str:
        """The permanent last row of the pins: what a server without a pin may be sent."""
        return self.default_rule[min(certificates, 2)].format(certificates)


def _three(words: tuple[str, ...]) -> tuple[str, str, str]:
    none, one, several = words
    return none, one, several


@dataclass(frozen=True)
class Expressible:
    """Whether a runtime can be told about a target; `reason` is a sentence for the operator where it cannot."""

    possible: bool
    reason: str = ""


PROFILES = (
    Profile(
        "modern",
        "AES-256 and SHA-256",
        "Java 8u301, 11.0.12, 17 and newer. Right for nearly everything.",
    ),
    Profile(
        "openssl11",
        "AES-256, checked with SHA-1",
        "OpenSSL 1.0 and 1.1, and appliances built on them, some of which do not know newer integrity checks.",
    ),
    Profile(
        "java8",
        "3DES and SHA-1",
        "Java before 8u301 or 11.0.12, which reads nothing newer. Weak: only while such a runtime is served.",
    ),
)

_ANY = (
    "is sent no certificate, because this environment has none",
    "may be sent this certificate whenever it accepts one ({0})",
    "may be sent any of these {{}} certificates; the server's CA list decides ({0})",
)
_MENDIX_DEFAULT = tuple(words.format("Mendix default") for words in _ANY)
_MENDIX_CASE = "Hosts are exported in lower case; services and identifiers exactly as typed."
_MENDIX_SINCE: Mapping[str, tuple[int, ...]] = {
    # Before, WebServiceClientCertificates knew imported web services only (cf-mendix-buildpack, security.py).
    HOST: (7, 20),
    # "Client certificate identifier" of a call (mendix/docs#2983).
    IDENTIFIER: (8, 18),
    # NoClientCertificateUsages stands in the documents of 9; when it came is not said.
    "never": (9,),
}
_MENDIX_NOTES = (
    "A pin steers the choice for its target; it does not keep the certificate from other servers.",
    "Whether the runtime compares host names without regard to case is not documented.",
    "Ports, wildcards and IPv6 addresses in a pin are not documented, so they are refused here.",
)

MENDIX = Dialect(
    kind="mendix",
    title="Mendix runtime",
    targets=(SERVICE, HOST, IDENTIFIER),
    # Two documented ways: an empty path in ClientCertificateUsages, and NoClientCertificateUsages.
    never_send=(SERVICE, HOST, IDENTIFIER),
    # The key is "the host part of the URL" (IHttpConfiguration.getSslContext). Ports, wildcards and the spelling of an
    # IPv6 address as a key are documented nowhere.
    ports=False,
    wildcards=False,
    ipv6=False,
    # "Do not use a comma in any of the file names or passwords": the lists have no escaping (m2ee-tools).
    commas=False,
    case=_MENDIX_CASE,
    # The AWS connector counts certificates by their position in ClientCertificates.
    order_matters=True,
    default_rule=_three(_MENDIX_DEFAULT),
    profiles=PROFILES,
    since=_MENDIX_SINCE,
    notes=_MENDIX_NOTES,
)

# The buildpack writes the files itself; `pin_to` has no empty path, so *never* goes to NoClientCertificateUsages, which
# is documented for hosts and services (cf-mendix-buildpack, buildpack/core/security.py).
BUILDPACK = replace(
    MENDIX,
    kind="mendix-buildpack",
    title="Mendix buildpack (Cloud Foundry, Docker)",
    never_send=(SERVICE, HOST),
    notes=(*_MENDIX_NOTES, "Never send can be said of hosts and services only."),
)

# MendixApp, spec.runtime.clientCertificates; authorities come with the installation of the operator (custom TLS).
OPERATOR = replace(
    BUILDPACK,
    kind="mendix-operator",
    title="Mendix on Kubernetes",
    authorities=False,
    notes=(*BUILDPACK.notes, "Trusted authorities are set for the whole installation, not for one app."),
)

# proxy_ssl_certificate knows the server that a request goes to, and nothing of its default but none.
NGINX = Dialect(
    kind="nginx",
    title="nginx, curl and others that read PEM",
    targets=(HOST,),
    never_send=(HOST,),
    ports=False,
    wildcards=False,
    ipv6=False,
    commas=True,
    case="Hosts are exported in lower case.",
    order_matters=False,
    default_rule=(
        "is sent no certificate, because this environment has none",
        "is sent no certificate, because only pinned hosts are",
        "is sent no certificate, because only pinned hosts are",
    ),
    offers_any=False,
    profiles=PROFILES,
    notes=("A host without a pin is sent nothing.", "The exported keys are not encrypted."),
)

# The app that reads the Secret decides; the map says what was meant.
KUBERNETES = Dialect(
    kind="kubernetes",
    title="Kubernetes Secret",
    targets=(SERVICE, HOST, IDENTIFIER),
    never_send=(SERVICE, HOST, IDENTIFIER),
    ports=False,
    wildcards=False,
    ipv6=True,
    commas=True,
    case="Hosts are exported in lower case; services and identifiers exactly as typed.",
    order_matters=False,
    default_rule=(
        "is sent no certificate, because this environment has none",
        "is in no map: the app that reads the Secret decides what it sends",
        "is in no map: the app that reads the Secret decides what it sends",
    ),
    profiles=PROFILES,
    notes=("The app has to read targets.json; Kubernetes itself sends nothing.",),
)

# JSSE Reference Guide, "How SunX509 and NewSunX509 X509KeyManager choose": the issuers that the server names decide.
JAVA = Dialect(
    kind="java",
    title="Java keystore",
    targets=(SERVICE, HOST, IDENTIFIER),
    never_send=(SERVICE, HOST, IDENTIFIER),
    ports=False,
    wildcards=False,
    ipv6=True,
    commas=True,
    case="Hosts are exported in lower case; services and identifiers exactly as typed.",
    order_matters=False,
    default_rule=_three(tuple(words.format("Java default") for words in _ANY)),
    profiles=PROFILES,
    notes=("Java itself knows no pins: the app has to read targets.properties and choose the alias.",),
)

DIALECTS: dict[str, Dialect] = {
    dialect.kind: dialect for dialect in (MENDIX, BUILDPACK, OPERATOR, NGINX, KUBERNETES, JAVA)
}


def dialect_of(kind: str) -> Dialect:
    """The dialect of `Content.runtime`. Raises DialectError."""
    try:
        return DIALECTS[kind]
    except KeyError:
        raise DialectError(f"This release does not know the runtime “{kind}”; choose another under Settings.") from None


def expressible(
    target: Interpretation, *, dialect: Dialect, never: bool = False, runtime_version: str = ""
) -> Expressible:
    """Says whether this runtime can be told to present a certificate to the target, or, with `never`, none.

    `runtime_version` is dotted numbers ("10.12.3"); where it is empty or unreadable, the newest is assumed.
    """
    reason = _reason_against(target, dialect, never=never, version=numbers(runtime_version))
    return Expressible(not reason, reason)


def inexpressible(content: Content, runtime: str) -> tuple[tuple[PinnedTarget, str], ...]:
    """The pins that a runtime of this kind cannot be told about, by key, each with the sentence that says why.

    Raises DialectError."""
    dialect, found = dialect_of(runtime), []
    for pin in sorted(content.pins, key=lambda pin: pin.key):
        target = Interpretation(pin.kind, pin.key)
        verdict = expressible(target, dialect=dialect, never=pin.slug is None, runtime_version=content.runtime_version)
        if not verdict.possible:
            found.append((pin, verdict.reason))
    return tuple(found)


def problems(content: Content) -> tuple[str, ...]:
    """Why this content cannot be told to its runtime, one sentence each; empty where it can."""
    try:
        dialect = dialect_of(content.runtime)
    except DialectError as unknown:
        return (str(unknown),)
    found = []
    if content.profile and content.profile not in {profile.kind for profile in dialect.profiles}:
        found.append(f"{dialect.title} has no profile “{content.profile}”; choose another under Settings.")
    if content.authorities and not dialect.authorities:
        found.append(f"{dialect.title} takes no trusted authorities from an environment; remove them here.")
    slugs = Counter(slot.slug for slot in content.slots)
    found += [
        f"Client certificate {slug} is listed {n} times; remove all but one." for slug, n in slugs.items() if n > 1
    ]
    keys = Counter(pin.key for pin in content.pins)
    found += [f"{key} is pinned {n} times; remove all pins but one." for key, n in sorted(keys.items()) if n > 1]
    for pin in sorted(content.pins, key=lambda pin: pin.key):
        try:
            target = interpret(pin.key, pin.kind)
        except TargetError as wrong:
            found.append(f"The pin “{pin.key}” cannot be exported: {wrong}")
            continue
        if target.key != pin.key:
            found.append(f"The pin “{pin.key}” would be exported as {target.key}; remove it and pin {target.key}.")
            continue
        verdict = expressible(target, dialect=dialect, never=pin.slug is None, runtime_version=content.runtime_version)
        if not verdict.possible:
            found.append(verdict.reason)
        if pin.slug is not None and pin.slug not in slugs:
            found.append(f"{pin.key} is pinned to {pin.slug}, which is not enabled here; enable it or remove the pin.")
    return tuple(found)


def _reason_against(target: Interpretation, dialect: Dialect, *, never: bool, version: tuple[int, ...]) -> str:
    kind, key = target.kind, target.key
    if kind not in dialect.targets:
        return f"{dialect.title} cannot be told about {key}, which is of the kind {WORDS.get(kind, kind).lower()}."
    if never and kind not in dialect.never_send:
        known = " and ".join(f"{WORDS[one].lower()}s" for one in dialect.never_send) or "nothing"
        return f"{dialect.title} can be told never send for {known} only; remove the pin of {key}, or pin its host."
    if "," in key and not dialect.commas:
        return f"{dialect.title} separates targets by commas, so {key} cannot be one."
    if kind == HOST and not dialect.ipv6 and _is_ipv6(key):
        return f"No document says how {dialect.title} spells the IPv6 address {key} in a pin; pin the host's name."
    if kind == HOST and not dialect.ports and re.search(r":[0-9]*$", key) and not _is_ipv6(key):
        return f"No document says that {dialect.title} knows ports in a pin; pin the host without its port."
    if kind == HOST and not dialect.wildcards and "*" in key:
        return f"No document says that {dialect.title} knows wildcards; pin each host by its exact name."
    for feature, words in ((kind, f"pins for a {WORDS[kind].lower()}"), ("never", "never send")):
        first = dialect.since.get(feature, ())
        if version and version < first and (feature != "never" or never):
            at_least, runs = (".".join(map(str, numbers)) for numbers in (first, version))
            return f"{dialect.title} {runs} is not documented to know {words}, needed for {key}; it needs {at_least}."
    return ""


def _is_ipv6(key: str) -> bool:
    try:
        return ipaddress.ip_address(key.strip("[]")).version == 6
    except ValueError:
        return False


def numbers(version: str) -> tuple[int, ...]:
    """`10.12.3` as numbers; () for what is no version."""
    return tuple(map(int, version.split("."))) if re.fullmatch(r"[0-9]+(\.[0-9]+)*", version, re.ASCII) else ()
