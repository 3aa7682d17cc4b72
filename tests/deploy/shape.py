"""What Dockerfile, docker-compose.yml and the systemd units say, read as their engines read them; and programs."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
UNITS = PROJECT / "deploy" / "systemd"


# --- Dockerfile -------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of each line of the Dockerfile, continuation lines joined, comments left out."""
    lines = [line for line in (PROJECT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined) if word]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(n for n, (word, _) in enumerate(found) if word == "FROM") :]


def image_environ() -> dict[str, str]:
    """ENV of the last stage."""
    words = [word for name, rest in last_stage() if name == "ENV" for word in shlex.split(rest)]
    return dict(word.split("=", 1) for word in words)


def image_command() -> list[str]:
    return json.loads(next(rest for name, rest in last_stage() if name == "CMD"))


def health_command(port: int) -> list[str]:
    """HEALTHCHECK, for a web server that listens elsewhere."""
    words = json.loads(next(rest for name, rest in last_stage() if name == "HEALTHCHECK").partition("CMD ")[2])
    assert any("8000" in word for word in words)
    return [word.replace("8000", str(port)) for word in words]


def build_image(folder: Path) -> Path:
    """Copies into `folder` what the last stage copies from the project, as .dockerignore lets it through."""
    for name, rest in last_stage():
        if name != "COPY" or rest.startswith("--from"):
            continue
        *sources, target = rest.split()
        for source in sources:
            to = folder / target / (source if target.endswith("/") else "")
            for file in files_below(PROJECT / source):
                if not ignored(file.relative_to(PROJECT).as_posix()):
                    place = to if (PROJECT / source).is_file() else to / file.relative_to(PROJECT / source)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, place)
    return folder


def files_below(place: Path) -> list[Path]:
    return [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]


def ignored(path: str) -> bool:
    """By .dockerignore: the last line that matches the path or a folder above it decides."""
    decided = False
    for line in (PROJECT / ".dockerignore").read_text().split("\n"):
        pattern = line.strip().removeprefix("!").rstrip("/")
        if not pattern or line.startswith("#"):
            continue
        parts = path.split("/")
        above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        deep = pattern.removeprefix("**/")
        if any(fnmatch.fnmatchcase(name, pattern) for name in above) or (
            deep != pattern and any(fnmatch.fnmatchcase(part, deep) for part in parts)
        ):
            decided = not line.strip().startswith("!")
    return decided


# --- docker-compose.yml -----------------------------------------------------------------------------------------------


def compose(file: str = "docker-compose.yml") -> dict[str, Any]:
    return YAML(typ="safe").load((PROJECT / file).read_text())


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}` and `${NAME:?refusal}` as Compose reads them; `$$` is a dollar sign."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if found["name"] in variables:
            return variables[found["name"]]
        assert found["how"] == ":-", f"{found['name']} must be set"
        return found["default"]

    return re.sub(r"\$\$|\$\{(?P<name>\w+)(?:(?P<how>:[-?])(?P<default>[^}]*))?\}", value, text)


# --- systemd ----------------------------------------------------------------------------------------------------------

Unit = dict[str, dict[str, list[str]]]


def unit(name: str) -> Unit:
    """section -> key -> values, an assignment that is empty forgets those before (systemd.syntax(7))."""
    sections: Unit = {}
    for line in (UNITS / name).read_text().replace("\\\n", " ").splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
            continue
        key, _, value = line.partition("=")
        section.setdefault(key.strip(), []).append(value.strip())
    return sections


def unit_environ(service: dict[str, list[str]], credentials: Path) -> dict[str, str]:
    words = [word for line in service.get("Environment", []) for word in shlex.split(line)]
    values = dict(word.split("=", 1) for word in words)
    return {name: value.replace("%d", str(credentials)) for name, value in values.items()}


def unit_command(service: dict[str, list[str]]) -> list[str]:
    return [word.replace("%%", "%") for word in shlex.split(service["ExecStart"][0])]


def parts(health: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What /readyz said, by part."""
    try:
        return json.loads(health.stdout)
    except ValueError:
        return {}


# --- Programs ---------------------------------------------------------------------------------------------------------


def clean_environ() -> dict[str, str]:
    """What is left of this process's variables when none is the portal's, and our programs come first in PATH."""
    ours = ("COUNTERSIGN_", "DATABASE_", "DJANGO_", "AWS_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return inherited | {"PATH": f"{BIN}:{os.environ['PATH']}"}


class Program:
    """A program in a process group of its own, with its output in a file."""

    def __init__(self, argv: list[str], *, environ: Mapping[str, str], folder: Path, log: Path, **more: Any) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                argv,
                cwd=folder,
                env={**clean_environ(), **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **more,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def lives(self) -> bool:
        return self.process.poll() is None

    def end(self, seconds: float = 60) -> int:
        """SIGTERM to this one process, and wait; what is left of its group is killed afterwards."""
        if self.lives():
            self.process.terminate()
        try:
            return self.process.wait(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def running(argv: list[str], **how: Any) -> Iterator[Program]:
    program = Program(argv, **how)
    try:
        yield program
    finally:
        program.end()


def until(true: Callable[[], object], program: Program | None = None, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        said = program.said()[-4000:] if program else ""
        assert program is None or program.lives(), f"it ended with {program.process.returncode}:\n{said}"
        assert time.monotonic() < deadline, f"it did not come to that in time:\n{said}"
        time.sleep(0.1)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Each file below with its size and time of change, to see that nobody wrote there.

    The sandbox's apps are not ours: as any app they keep their bytecode where they may.
    """
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.parent != folder / "sandbox" / "__pycache__"
    }
