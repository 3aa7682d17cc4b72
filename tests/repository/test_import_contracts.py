"""Each import contract is broken once on purpose: a rule that cannot fail is no rule."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("portal", "notices", "rollouts", "certificates", "environments", "audit", "vault", "sandbox")

# The contract's name, the module that breaks it, and how.
BREACHES = [
    ("Imports run one way", "audit/trail.py", "import environments.models"),
    ("Imports run one way", "certificates/models.py", "import rollouts.models"),
    ("Inside rollouts", "rollouts/states.py", "import rollouts.moves"),
    ("Inside rollouts", "rollouts/moves.py", "import rollouts.actions"),
    ("What is pure stays pure", "certificates/targets.py", "import django.utils.text"),
    ("Exporters and connectors see values", "rollouts/exporters/buildpack_env.py", "import vault.safe"),
    ("Exporters and connectors see values", "rollouts/connectors/local_process.py", "import certificates.models"),
    ("Few may open the safe", "certificates/current.py", "import vault.safe"),
    ("The sandbox shares nothing", "sandbox/app.py", "import certificates.content"),
]


def broken_contracts(folder: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return "\n".join(line for line in ran.stdout.splitlines() if line.rstrip().endswith("BROKEN"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", folder)
    return folder


def test_no_contract_is_broken_as_it_stands(copy: Path):
    assert broken_contracts(copy) == ""


@pytest.mark.parametrize(("contract", "module", "line"), BREACHES)
def test_a_breach_is_noticed(copy: Path, contract: str, module: str, line: str):
    file = copy / module
    before = file.read_text()
    try:
        file.write_text(before + f"\n{line}\n")
        assert contract in broken_contracts(copy)
    finally:
        file.write_text(before)
