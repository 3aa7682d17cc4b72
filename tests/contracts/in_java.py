"""What a Java program reads from a file, by one JVM for all questions of a test process."""

from __future__ import annotations

import atexit
import base64
import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

# Debian's libtypesafe-config-java: the library in which HOCON is defined, and which Mendix's distribution uses.
CONFIG = "/usr/share/java/typesafe-config.jar"


def hocon(text: str) -> dict[str, Any]:
    """A HOCON text as JSON, with everything in it resolved."""
    found: dict[str, Any] = json.loads(_ask("hocon", text))
    return found


def properties(text: str) -> dict[str, str]:
    """A text in the form of java.util.Properties."""
    parts = _ask("properties", text).split("\0")[:-1]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@dataclass(frozen=True)
class Entry:
    """One of a keystore: a key with its chain, or a certificate that is trusted."""

    alias: str
    key: bool
    links: int
    certificate: bytes


def keystore(content: bytes, password: str) -> list[Entry]:
    """What java.security.KeyStore finds in a PKCS #12 file."""
    parts = _ask("keystore", content, password).split("\0")[:-1]
    quads = zip(*(parts[n::4] for n in range(4)), strict=True)
    return [Entry(alias, kind == "key", int(links), base64.b64decode(der)) for alias, kind, links, der in quads]


def _ask(kind: str, content: str | bytes, *more: str) -> str:
    encoded = base64.b64encode(content.encode() if isinstance(content, str) else content).decode()
    jvm = _jvm()
    assert jvm.stdin is not None
    assert jvm.stdout is not None
    jvm.stdin.write(" ".join((kind, encoded, *more)) + "\n")
    jvm.stdin.flush()
    answer = jvm.stdout.readline()
    assert answer, f"Java could not read this as {kind}: {content!r}"
    return base64.b64decode(answer).decode()


@cache
def _jvm() -> subprocess.Popen[str]:
    source = Path(__file__).with_name("Reads.java")
    argv = ["java", "-XX:TieredStopAtLevel=1", "-cp", CONFIG, str(source)]
    jvm = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(_end, jvm)
    return jvm


def _end(jvm: subprocess.Popen[str]) -> None:
    assert jvm.stdin is not None
    jvm.stdin.close()
    jvm.wait(10)
