"""Where a connection is tried for a pin: `api.example.com`, `api.example.com:8443/health`, `smtp://mail.example.com`.

No Django here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

LONGEST = 300
# scheme → (port, whether TLS begins only after a word in the clear); `tls` has no usual port
SCHEMES: dict[str, tuple[int, bool]] = {
    "https": (443, False),
    "tls": (0, False),
    "smtp": (25, True),
    "imap": (143, True),
    "ldap": (389, True),
    "smtps": (465, False),
    "imaps": (993, False),
    "ldaps": (636, False),
}
# RFC 1123 §2.1, and the underscore that internal names use.
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")
# RFC 3986 §3.3 and §3.4: what may stand in a path and a query; nothing else may reach a request line.
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")


class AddressError(Exception):
    """One sentence: why this is no address to test, and what to type instead."""


@dataclass(frozen=True)
class TestAddress:
    """`scheme` is one of SCHEMES; `host` in lower case, without brackets; `path` is "" where nothing is asked for."""

    __test__ = False  # it is no test of ours

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        """The shortest text that reads as this address."""
        usual, _clear = SCHEMES[self.scheme]
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == usual else f":{self.port}"
        scheme = "" if self.scheme == "https" else f"{self.scheme}://"
        return f"{scheme}{host}{port}{'' if self.path == '/' else self.path}"

    @property
    def starts_in_the_clear(self) -> bool:
        return SCHEMES[self.scheme][1]


def read(text: str) -> TestAddress:
    """Raises AddressError; its sentence never repeats the text, which may hold a password."""
    text = text.strip()
    if len(text) > LONGEST:
        raise AddressError(f"Use at most {LONGEST} characters.")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise AddressError("An address has no blanks and no letters beyond ASCII; write the name as xn--….")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "https", text
    scheme = scheme.lower()
    if scheme == "http":
        raise AddressError("Over http:// no certificate is sent; give the https:// address.")
    if scheme not in SCHEMES:
        raise AddressError(f"Begin with {', '.join(f'{name}://' for name in SCHEMES)} or with the name of the host.")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        raise AddressError("Leave out the user and password; only the connection is tested.")
    if "?" in authority or "#" in rest:
        raise AddressError("Write the path between host and question mark, and leave out what follows a #.")
    path = f"/{path}" if slash else ""
    if path and scheme != "https":
        if path != "/":
            raise AddressError("Only an https address has a path; leave it out.")
        path = ""
    if path and not _PATH.fullmatch(path):
        raise AddressError("The path holds characters that an address cannot have; write them as %20 and the like.")
    host, port = _host_and_port(authority.lower(), SCHEMES[scheme][0])
    return TestAddress(scheme, host, port, path or ("/" if scheme == "https" else ""))


def _host_and_port(authority: str, usual: int) -> tuple[str, int]:
    bracketed = re.fullmatch(r"\[([0-9a-f:.]+)\](?::(\d*))?", authority)
    if bracketed:
        host, port = bracketed.group(1), bracketed.group(2) or ""
        try:
            host = str(ipaddress.IPv6Address(host))
        except ValueError:
            raise AddressError("What stands in the brackets is no IPv6 address.") from None
    else:
        host, _colon, port = authority.partition(":")
        host = host.removesuffix(".")
        if not host or len(host) > 253 or not _NAME.fullmatch(host):
            raise AddressError("Type a host like api.example.com, with :port where it is not the usual one.")
    if not port and not usual:
        raise AddressError("Say which port, as in tls://host:8443.")
    if port and not (port.isdigit() and 0 < int(port) < 65536):
        raise AddressError("The port is a number from 1 to 65535.")
    return host, int(port) if port else usual
