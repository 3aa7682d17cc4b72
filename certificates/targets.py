"""The grammar of targets: what an operator may type, and the exact key that is exported for it.

A target is a `service` (an imported web service, `Module.WebService`), a `host` (`api.example.com`) or an `identifier`
(the free text of *Client certificate identifier* in a call). No Django here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

SERVICE, HOST, IDENTIFIER = "service", "host", "identifier"
KINDS: tuple[str, ...] = (SERVICE, HOST, IDENTIFIER)
WORDS = {SERVICE: "Service", HOST: "Host", IDENTIFIER: "Client certificate identifier"}

LONGEST_KEY = 200
# A pasted address may be long, since its path is dropped; beyond this it is no address.
LONGEST_TEXT = 4096

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_SERVICE = re.compile(rf"{_NAME}\.{_NAME}")
_SCHEME = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
# RFC 1123 §2.1, and the underscore that internal names use.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What passes for an identifier where nobody said that it is one: no blanks, no brackets, no quotation marks.
_PLAIN = re.compile(r"[\w.:/-]+")
# What ends a host name rather than a Mendix service name, when it is in lower case or the whole text is in capitals.
_ENDINGS = frozenset(
    {"com", "net", "org", "edu", "gov", "mil", "int", "info", "biz", "io", "eu", "dev", "app", "cloud"}
    | {"local", "lan", "internal", "intern", "corp", "home", "test", "example"}
)


class TargetError(Exception):
    """One sentence for the operator: why this is no target, and what to type instead."""


@dataclass(frozen=True)
class Interpretation:
    """What a typed text means: its kind, the exact key that is exported, and what was changed to get there."""

    kind: str
    key: str
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """For the page, while typing: *Host api.example.com. Scheme and path removed; this runtime matches …*"""
        return " ".join(f"{part}." for part in (f"{WORDS[self.kind]} {self.key}", *self.notes))


def interpret(text: str, kind: str | None = None) -> Interpretation:
    """Says what `text` means as a target of this kind, or, with None, of the kind that it looks like.

    Interpreting a key again as its own kind gives the same key. Raises TargetError; its sentence never repeats the
    text, which may be an address with a password in it.
    """
    text = text.strip()
    if not text:
        raise TargetError("Type a service, a host or a client certificate identifier.")
    if len(text) > LONGEST_TEXT:
        raise TargetError(f"This is too long for a target; type at most {LONGEST_KEY} characters.")
    if not text.isprintable():
        raise TargetError("A target cannot contain line breaks or invisible characters; type it instead of pasting it.")
    guessed = kind is None
    kind = kind or guess(text)
    if kind == HOST:
        found = _host(text)
    elif kind == SERVICE:
        found = _service(text)
    elif kind == IDENTIFIER:
        found = _identifier(text, guessed=guessed)
    else:
        raise TargetError("Choose service, host or client certificate identifier as the kind of target.")
    if "," in found.key:
        raise TargetError("The runtime separates targets by commas, so a target cannot contain one; pin one at a time.")
    if len(found.key) > LONGEST_KEY:
        raise TargetError(f"A target has at most {LONGEST_KEY} characters; this one has {len(found.key)}.")
    return found


def guess(text: str) -> str:
    """The kind that a trimmed text looks like; what looks like neither service nor host can only be an identifier."""
    if _SCHEME.match(text) or text.lower().startswith(("http:", "https:")):
        return HOST
    if _SERVICE.fullmatch(text) and text != text.lower() and not _ends_like_a_host(text):
        return SERVICE
    return HOST if _looks_like_a_host(text) else IDENTIFIER


def _ends_like_a_host(text: str) -> bool:
    ending = text.rpartition(".")[2]
    if ending.lower() in {"com", "net", "org"}:
        return True
    typed_as_one = ending.islower() or text.isupper()
    return typed_as_one and (ending.lower() in _ENDINGS or (len(ending) == 2 and ending.isalpha()))


def _looks_like_a_host(text: str) -> bool:
    authority = re.split(r"[/?#]", text, maxsplit=1)[0]
    login, at, authority = authority.rpartition("@")
    if at and ":" not in login:
        return False  # ops@example.com is somebody's address
    if _address(authority.strip("[]")) is not None or (authority.startswith("[") and "]" in authority):
        return True
    name, colon, port = authority.rpartition(":")
    if colon and (port.isdigit() or not port):
        authority = name
        if re.fullmatch(r"[a-z0-9-]+", name):
            return True
    if authority.lower() == "localhost" or re.fullmatch(r"\d+(\.\d+){3}", authority):
        return True
    labels = authority.removesuffix(".").split(".")
    if len(labels) < 2 or not all(re.fullmatch(r"[\w*-]+", label) for label in labels):
        return False
    return (len(labels[-1]) > 1 and labels[-1].isalpha()) or labels[-1].lower().startswith("xn--")


def _service(text: str) -> Interpretation:
    if not _SERVICE.fullmatch(text):
        raise TargetError(
            "A service is written Module.WebService, as in the app's model; "
            "for another name choose host or client certificate identifier."
        )
    return Interpretation(SERVICE, text)


def _identifier(text: str, *, guessed: bool) -> Interpretation:
    notes = []
    # A comma has its own sentence.
    if guessed and "," not in text and not _PLAIN.fullmatch(text):
        raise TargetError(
            "This is neither a host nor a service; type a host like api.example.com, "
            "or choose the kind Client certificate identifier."
        )
    if guessed and _LABEL.fullmatch(text):
        notes.append("If this is the name of a server, choose host")
    if "*" in text:
        notes.append("Taken literally; it is not a pattern")
    return Interpretation(IDENTIFIER, text, tuple(notes))


def _host(text: str) -> Interpretation:
    """RFC 3986 §3: `[scheme:]//[user@]host[:port][/path][?query][#fragment]`, of which only the host is a key.

    Taken apart here, not by urllib, which forgives backslashes and drops tabs: the result decides where a key goes.
    """
    if "\\" in text:
        raise TargetError("A host cannot contain a backslash; type it like api.example.com.")
    removed = []
    if scheme := _SCHEME.match(text):
        removed.append("scheme")
        text = text[scheme.end() :]
    authority = re.split(r"[/?#]", text, maxsplit=1)[0]
    before_fragment, fragment, _ = text[len(authority) :].partition("#")
    path, query, _ = before_fragment.partition("?")
    _, at, authority = authority.rpartition("@")
    removed += ["user name"] if at else []
    if authority.startswith("["):
        name, bracket, port = authority[1:].partition("]")
        if not bracket or (port and not port.startswith(":")) or _address(name) is None:
            raise TargetError("This is not an IPv6 address in brackets; type it like [2001:db8::1].")
        colon, port = port[:1], port[1:]
    elif authority.count(":") > 1:
        name, colon, port = authority, "", ""
    else:
        name, colon, port = authority.partition(":")
    if colon:
        if port and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
            raise TargetError("The part after the colon is not a port; type only the host, like api.example.com.")
        removed.append("port")
    removed += [part for part, found in (("path", path), ("query", query), ("fragment", fragment)) if found]
    key, notes = _host_name(name)
    if removed:
        words = " and ".join(filter(None, (", ".join(removed[:-1]), removed[-1]))).capitalize()
        notes = (f"{words} removed; this runtime matches the host only", *notes)
    return Interpretation(HOST, key, notes)


def _host_name(name: str) -> tuple[str, tuple[str, ...]]:
    if "*" in name:
        raise TargetError("No document says that this runtime knows wildcards; pin each host by its exact name.")
    if "," in name:
        raise TargetError("The runtime separates targets by commas, so a target cannot contain one; pin one at a time.")
    if (address := _address(name)) is not None:
        key = str(address)
        return key, ((f"Written as {key}",) if key != name else ())
    notes = []
    if name.endswith("."):
        name = name[:-1]
        notes.append("Trailing dot removed")
    key = name.lower()
    if not name.isascii():
        try:
            key = name.encode("idna").decode("ascii").lower()
        except UnicodeError:
            raise TargetError(
                "This international host name cannot be written in punycode; check its spelling."
            ) from None
        # The codec follows RFC 3490, as java.net.IDN does. RFC 5891 differs for four letters, hence the shown result.
        notes.append(f"{name} is exported in punycode as {key}")
    elif key != name:
        notes.append("Written in lower case")
    labels = key.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise TargetError("This is not a host name; type letters, digits, hyphens and dots, like api.example.com.")
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        raise TargetError("This is not an IPv4 address; type four numbers from 0 to 255, like 192.0.2.10.")
    return key, tuple(notes)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, or None for anything else, among it an IPv6 address with a zone, which means nothing elsewhere."""
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None
