"""Every variable that the portal reads stands in .env.example with its default and what it means, and no other."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.deploy import shape

READERS = {"text", "flag", "number", "words"}
# Defaults that are worked out, and how they are written for people.
WORKED_OUT = {
    "str(BASE_DIR / 'data')": "./data",
    "str(DATA_DIR / 'vault-key.json')": "./data/vault-key.json",
    "TLS": "false",
}


def sources() -> list[Path]:
    packages = tomllib.loads((shape.PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    beside = [shape.PROJECT / "manage.py", *shape.PROJECT.glob("gunicorn.conf.py")]
    return [*beside, *(file for package in packages for file in (shape.PROJECT / package).rglob("*.py"))]


def read_by_the_portal() -> dict[str, set[str]]:
    """Variable -> the defaults that the code gives, as written there; found in the code, so that none is forgotten."""
    found: dict[str, set[str]] = {}
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            owner, verb = ast.unparse(node.func.value), node.func.attr
            reads = (owner == "env" and verb in READERS) or (owner, verb) in (("os.environ", "get"), ("os", "getenv"))
            name = node.args[0]
            if reads and isinstance(name, ast.Constant) and re.match(r"COUNTERSIGN_|DATABASE_", str(name.value)):
                found.setdefault(str(name.value), set()).add(written(node.args[1:]))
    return found


def written(default: list[ast.expr]) -> str:
    if not default:
        return ""
    if isinstance(default[0], ast.Constant):
        value = default[0].value
        return str(value).lower() if isinstance(value, bool) else str(value)
    return WORKED_OUT.get(ast.unparse(default[0]), f"unknown: {ast.unparse(default[0])}")


def example() -> dict[str, tuple[str, str]]:
    """Variable -> its default and the comment above it."""
    found, comment = {}, ""
    for line in (shape.PROJECT / ".env.example").read_text().splitlines():
        if assigned := re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=(.*)", line):
            found[assigned[1]] = (assigned[2], comment)
            comment = ""
        else:
            assert not line or line.startswith("#"), f"neither a variable nor a comment: {line}"
            comment = f"{comment} {line[1:]}".strip() if line else ""
    return found


def test_every_variable_that_the_portal_reads_is_in_the_example_and_no_other() -> None:
    assert sorted(example()) == sorted(read_by_the_portal())


def test_the_example_shows_the_default_of_each() -> None:
    for name, defaults in read_by_the_portal().items():
        assert {example()[name][0]} == defaults, name


def test_each_variable_is_explained() -> None:
    for name, (_default, meaning) in example().items():
        assert len(meaning) > 20, f"{name} needs a line above it that says what it means"


def test_the_example_changes_nothing_as_it_stands() -> None:
    """It can be copied to a .env for Compose or an EnvironmentFile for systemd, and edited."""
    assert not re.search(r"^[^#\n]", (shape.PROJECT / ".env.example").read_text(), re.M)


def test_the_search_finds_what_is_read() -> None:
    found = read_by_the_portal()
    assert found["COUNTERSIGN_PORT"] == {"8000"}
    assert found["COUNTERSIGN_TLS"] == {"false"}
    assert found["COUNTERSIGN_DATA"] == {"./data"}


@pytest.mark.parametrize("guide", ["docs/install.md", "README.md", "CHANGELOG.md"])
def test_a_guide_names_no_variable_that_nobody_reads(guide: str) -> None:
    named = set(re.findall(r"\b(?:COUNTERSIGN_[A-Z_]+|DATABASE_URL)\b(?!…)", (shape.PROJECT / guide).read_text()))
    ours = {name.removesuffix("_FILE") for name in named} - {"COUNTERSIGN_UPSTREAM"}  # the proxy's own
    assert ours <= read_by_the_portal().keys()
