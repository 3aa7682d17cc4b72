"""The whole product, started as `make run` starts it, for tests that use it from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]


class Product:
    """Countersign with its sandbox, out of a data folder of its own, on ports of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port, self.sandbox_port = _free_ports()
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self.password = ""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def desk(self) -> str:
        """The sandbox partner's page with the sample files."""
        return f"http://127.0.0.1:{self.sandbox_port}"

    def app(self, number: int = 1) -> str:
        return f"http://127.0.0.1:{self.sandbox_port + number}"

    @property
    def environ(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("COUNTERSIGN_", "DJANGO_", "DATABASE_"))}
        return inherited | {
            "COUNTERSIGN_DATA": str(self.data),
            "COUNTERSIGN_PORT": str(self.port),
            "COUNTERSIGN_SANDBOX_PORT": str(self.sandbox_port),
            "COUNTERSIGN_SANDBOX": "true",
            # What we leave behind there is looked at, too.
            "TMPDIR": str(self.data.parent / "tmp"),
        }

    def start(self) -> float:
        """Returns after how many seconds it said that it is ready."""
        (self.data.parent / "tmp").mkdir(exist_ok=True)
        began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "set_up.py", "run"],
            cwd=PROJECT,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines = []
        threading.Thread(target=self._listen, args=(self.process,), daemon=True).start()
        self._wait_for(lambda: any("Ctrl-C stops everything" in line for line in self.lines), 90)
        took = time.monotonic() - began
        if said := re.search(r"Sign in\s+as (\S+) with (\S+),", self.said):
            self.password = said[2]
        return took

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.rstrip())

    def _wait_for(self, true: Any, seconds: float) -> None:
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while not true():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.said}"
            assert time.monotonic() < deadline, f"it did not get ready:\n{self.said}"
            time.sleep(0.05)

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise

    def processes(self) -> list[int]:
        """Every process on this machine that was started with this data folder in its environment or command line."""
        found = []
        mark = str(self.data).encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes() or mark in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def pids_of(self, *words: str) -> list[int]:
        """The processes of this product whose command line has all these words."""
        return [
            pid
            for pid in self.processes()
            if all(word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes() for word in words)
        ]

    def get(self, url: str) -> Any:
        """JSON from one of the sandbox's own end points."""
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)


def _free_ports() -> tuple[int, int]:
    """A port for the portal, and one for the sandbox whose neighbours (+1, +2, +363) are free too."""
    for base in range(20000 + os.getpid() % 500 * 40, 60000, 400):
        wanted = [base, base + 10, base + 11, base + 12, base + 10 + 363]
        if all(_is_free(port) for port in wanted):
            return base, base + 10
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
