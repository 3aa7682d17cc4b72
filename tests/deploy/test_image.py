"""The Dockerfile, without an engine: linted, and what it copies is enough and no more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.deploy import shape


def test_a_linter_finds_nothing_in_the_dockerfile() -> None:
    found = subprocess.run([shape.BIN / "hadolint", "Dockerfile"], cwd=shape.PROJECT, capture_output=True, text=True)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_the_linter_would_find_something() -> None:
    found = subprocess.run([shape.BIN / "hadolint", "-"], input="FROM python:latest\n", capture_output=True, text=True)
    assert found.returncode == 1
    assert "DL3007" in found.stdout


def test_the_image_runs_as_a_numbered_user_that_is_not_root() -> None:
    users = [rest for name, rest in shape.last_stage() if name == "USER"]
    assert users == ["10001:10001"]


def test_base_and_packages_are_pinned() -> None:
    base = next(rest for name, rest in shape.instructions() if name == "ARG").partition("=")[2]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    installs = [rest for name, rest in shape.instructions() if name == "RUN" and "install" in rest and "pip" in rest]
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shape.build_image(tmp_path_factory.mktemp("image"))


def test_every_package_of_the_project_is_in_the_image_and_nothing_else(image: Path) -> None:
    project = tomllib.loads((shape.PROJECT / "pyproject.toml").read_text())
    packages = set(project["tool"]["importlinter"]["root_packages"])
    beside = {"manage.py", "gunicorn.conf.py", "locale", "static", "templates", "docs"}
    assert {path.name for path in image.iterdir()} == packages | beside
    for package in packages:
        ours = {file.relative_to(shape.PROJECT) for file in (shape.PROJECT / package).rglob("*.py")}
        assert ours <= {file.relative_to(image) for file in image.rglob("*.py")}


@pytest.mark.parametrize(
    "path", ["data/vault-key.json", "secrets/database-url", ".env", ".git/config", "tests/conftest.py", ".venv/x"]
)
def test_nothing_that_is_secret_or_not_needed_gets_to_the_builder(path: str) -> None:
    assert shape.ignored(path)


def test_what_is_in_the_image_passes_the_checks_of_production(image: Path, tmp_path: Path) -> None:
    before = shape.snapshot(image)
    environ = shape.image_environ() | {
        "PATH": shape.clean_environ()["PATH"],
        "COUNTERSIGN_DATA": str(tmp_path / "data"),
        "COUNTERSIGN_SECRET_KEY": os.urandom(40).hex(),
        "COUNTERSIGN_TLS": "true",
        "COUNTERSIGN_HOSTS": "countersign.example",
    }
    for words in (["generate_vault_key"], ["check", "--deploy", "--fail-level", "WARNING"]):
        ran = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=image, env=shape.clean_environ() | environ, capture_output=True, text=True,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert shape.snapshot(image) == before, "the image's own files are never written"


# --- The health check -------------------------------------------------------------------------------------------------


class Portal(BaseHTTPRequestHandler):
    """Answers as the portal does."""

    answer = (200, "{}")

    def do_GET(self) -> None:
        code, text = self.answer if self.path == "/readyz" else (404, "")
        self.send_response(code)
        self.send_header("Location", "/healthz")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def portal() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Portal)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(port: int) -> tuple[int, str]:
    """A proxy that leads nowhere stands in its environment, as an engine may give one to every container."""
    environ = shape.clean_environ() | {"http_proxy": "http://127.0.0.1:1/", "HTTP_PROXY": "http://127.0.0.1:1/"}
    ran = subprocess.run(shape.health_command(port), env=environ, capture_output=True, text=True, timeout=30)
    return ran.returncode, ran.stdout


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, '{"database": "ok"}'), 0),
        ((503, '{"database": "not ok"}'), 1),
        ((301, "elsewhere"), 1),
    ],
)
def test_the_health_check_passes_only_what_is_ready_and_says_what_is_not(
    portal: HTTPServer, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str], expected: int
) -> None:
    monkeypatch.setattr(Portal, "answer", answer)
    assert ask(portal.server_address[1]) == (expected, f"{answer[1]}\n")


def test_the_health_check_fails_where_nobody_answers() -> None:
    assert ask(1)[0] == 1
