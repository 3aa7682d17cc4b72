"""Ports of this machine for servers that the tests stop and start again.

They are below those that the kernel gives to connections (from 32,768 on), because a server that was stopped must find
its own port free again; and each belongs to one process of the tests until that ends, because others run beside it.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

_FIRST, _LAST = 10_000, 32_000
_held: dict[int, int] = {}


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(number: int) -> list[int]:
    return [together(0) for _ in range(number)]


def together(*distances: int) -> int:
    """A port that is free together with those at these distances from it."""
    for _attempt in range(1000):
        base = random.randrange(_FIRST, _LAST - max(distances))
        taken = [base + distance for distance in distances]
        if all(_take(port) for port in taken):
            return base
        for port in taken:
            if port in _held:
                os.close(_held.pop(port))
    raise RuntimeError("no port is free")


def _take(port: int) -> bool:
    """Locks the port's file for as long as this process lives, if nobody else has it."""
    if port in _held:
        return False
    folder = Path(tempfile.gettempdir()) / f"countersign-test-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
        _held[port] = lock
        return True
    os.close(lock)
    return False
