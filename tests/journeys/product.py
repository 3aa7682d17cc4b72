"""The whole product, for tests that use it from outside: as `make run` starts it, or in parts as in containers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import ports
from tests.deploy import shape

PROJECT = Path(__file__).resolve().parents[2]


class Product:
    """Countersign with its sandbox, out of a data folder of its own, on ports of its own."""

    def __init__(self, data: Path, variables: Mapping[str, str] | None = None) -> None:
        """`variables`: what else stands in its environment, such as the address of a database."""
        self.data = data
        self.variables = dict(variables or {})
        # The sandbox's neighbours: its two apps, and the partner's own web address.
        self.port, self.sandbox_port = ports.free_port(), ports.together(0, 1, 2, 363)
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
            # Beside the sandbox's partner, whom it always reaches.
            "COUNTERSIGN_TESTS_MAY_REACH": "nothing",
            # What we leave behind there is looked at, too.
            "TMPDIR": str(self.data.parent / "tmp"),
            **self.variables,
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
        self._note_password(self.said)
        return took

    def _note_password(self, said: str) -> None:
        if found := re.search(r"Sign in\s+as (\S+) with (\S+),", said):
            self.password = found[2]

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


class InParts(Product):
    """Each part by the command line that docker-compose.yml or the image has for it: several web servers behind one
    address, several workers, and as many clocks as wanted. Beside them the sandbox of `make run`."""

    def __init__(self, data: Path, variables: Mapping[str, str], *, webs: int = 2, workers: int = 2, clocks: int = 1):
        super().__init__(data, variables)
        self.webs = [ports.free_port() for _ in range(webs)]
        self.workers, self.clocks = workers, clocks
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        self._lots: Lots | None = None

    def start(self) -> float:
        (self.data.parent / "tmp").mkdir(exist_ok=True)
        began = time.monotonic()
        self._note_password(self.manage("prepare"))
        self._lots = Lots(self.port, self.webs)
        for number, port in enumerate(self.webs):
            self.start_part(f"web-{number}", here(shape.image_command(), {"0.0.0.0:8000": f"127.0.0.1:{port}"}))
        for number in range(self.workers):
            self.start_part(f"worker-{number}", here(command_of("worker"), {}))
        for number in range(self.clocks):
            clock = {"/var/lib/countersign/clock": str(self.data / f"clock-{number}")}
            self.start_part(f"clock-{number}", here(command_of("clock"), clock))
        sandbox = self.data / "sandbox"
        sandbox.mkdir(mode=0o700, exist_ok=True)
        partner = f"--folder {sandbox} --port {self.sandbox_port + 363} --http-port {self.sandbox_port}"
        self.start_part("partner", [sys.executable, "-m", "sandbox.partner", *partner.split()])
        for address in (*(f"http://127.0.0.1:{port}/healthz" for port in self.webs), f"{self.desk}/samples.json"):
            self.await_answer(address)
        self.manage("start_apps")
        for number in (1, 2):
            self.await_answer(f"{self.app(number)}/status")
        return time.monotonic() - began

    def start_part(self, name: str, command: list[str]) -> None:
        with self.log(name).open("ab") as log:
            self.parts[name] = subprocess.Popen(
                command, cwd=PROJECT, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def log(self, name: str) -> Path:
        return self.data.parent / f"{name}.log"

    @property
    def said(self) -> str:
        return "\n".join(f"{name}: {self.log(name).read_text(errors='replace')}" for name in self.parts)

    def manage(self, *arguments: str, given: str = "") -> str:
        """What `manage.py` printed; it must have ended well."""
        ran = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=PROJECT, env=self.environ, input=given,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def await_answer(self, address: str) -> None:
        deadline = time.monotonic() + 90
        while True:
            ended = [name for name, part in self.parts.items() if part.poll() is not None]
            assert not ended, f"{ended} ended:\n{self.said}"
            try:
                urllib.request.urlopen(address, timeout=5).close()
                return
            except OSError:
                assert time.monotonic() < deadline, f"{address} does not answer:\n{self.said}"
                time.sleep(0.1)

    def end_part(self, name: str, number: signal.Signals = signal.SIGTERM, patience: float = 60) -> None:
        """What outlives its patience is killed, with everything in its session."""
        part = self.parts.pop(name)
        part.send_signal(number)
        try:
            part.wait(patience)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(part.pid, signal.SIGKILL)
            part.wait()

    def stop(self) -> None:
        if self._lots:
            self._lots.close()
        for name in list(self.parts):
            self.end_part(name)
        # Apps outlive workers on purpose.
        stop = "from django.conf import settings; from rollouts.connectors import local_process; "
        self.manage("shell", "-v", "0", given=stop + "local_process.stop_all(settings.APPS_DIR)\n")


class Lots:
    """Stands before several web servers, as a proxy does: each request goes to one of them by lot. (By turns, a browser
    that opens connections in pairs would always meet the same one.)"""

    def __init__(self, port: int, servers: list[int]) -> None:
        self._servers = servers
        self._door = socket.create_server(("127.0.0.1", port), backlog=100)
        threading.Thread(target=self._open, daemon=True).start()

    def close(self) -> None:
        self._door.close()

    def _open(self) -> None:
        while True:
            try:
                client, _address = self._door.accept()
            except OSError:
                return
            server = random.choice(self._servers)
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, port: int) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=pour, args=(server, client), daemon=True)
            back.start()
            # One request a connection, or one connection would carry the whole journey to the same server.
            server.sendall(client.recv(65536).replace(b"Connection: keep-alive", b"Connection: close", 1))
            pour(client, server)
            back.join()


def pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while some := source.recv(65536):
            target.sendall(some)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def command_of(service: str) -> list[str]:
    """Of docker-compose.yml."""
    return list(shape.compose()["services"][service]["command"])


def here(command: list[str], places: Mapping[str, str]) -> list[str]:
    """The same words with this machine's places in them, run by this Python."""
    program, *words = command
    for there, place in places.items():
        assert any(there in word for word in words), f"{there} is not in {command}"
        words = [word.replace(there, place) for word in words]
    return [sys.executable, "-m", program, *words]
