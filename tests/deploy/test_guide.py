"""docs/install.md names only what is there: files, units, commands of ours, services and volumes."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from tests.deploy import shape

GUIDE = (shape.PROJECT / "docs" / "install.md").read_text()
BLOCKS = re.findall(r"^ *```sh\n(.*?)^ *```", GUIDE, re.M | re.S)
LINES = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


def test_the_guide_has_commands_for_each_shape() -> None:
    text = "\n".join(LINES)
    for word in ("systemctl enable", "docker compose up", "deploy/one-volume.yml", "generate_vault_key", "logrotate"):
        assert word in text


def test_every_file_that_it_names_is_there() -> None:
    linked = {(shape.PROJECT / "docs" / to.partition("#")[0]).resolve() for to in re.findall(r"\]\(([^)]+)\)", GUIDE)}
    typed = {word for line in LINES for word in words(line) if re.match(r"(deploy|requirements)/|\.env\.example", word)}
    for pattern in typed:
        assert list(shape.PROJECT.glob(pattern)), pattern
    assert all(path.exists() for path in linked), linked


def test_every_part_that_it_links_to_has_its_heading() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", text.lower()).replace(" ", "-") for text in re.findall(r"^#+ (.*)", GUIDE, re.M)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", GUIDE)) <= headings


def test_every_unit_that_it_names_is_there() -> None:
    ours = {path.stem for path in shape.UNITS.iterdir()} | {path.name for path in shape.UNITS.iterdir()}
    named = {word for line in LINES if re.search(r"systemctl|journalctl", line) for word in words(line)}
    asked = {word for word in named if word.startswith("countersign")}
    assert len(asked) > 4
    assert asked <= ours


def test_every_command_of_ours_that_it_names_is_there() -> None:
    from django.core.management import get_commands

    named = set(re.findall(r"manage\.py (\w+)", GUIDE))
    assert named
    assert named <= get_commands().keys()


def test_every_service_that_it_names_is_in_the_compose_file() -> None:
    services = set(shape.compose()["services"])
    named = {
        word
        for line in LINES
        if (found := re.search(r"docker compose (?:logs|run --rm|exec|up --detach --no-deps) (.*?)(?:&&|#|$)", line))
        for word in found[1].split()
        if not word.startswith("-")
    }
    assert named
    assert named <= services


def test_what_it_says_of_sizes_is_what_the_files_say() -> None:
    options = shape.compose()["services"]["web"]["logging"]["options"]
    assert f"{options['max-file']} × {options['max-size'].removesuffix('m')} MB" in GUIDE
    patience = shape.compose()["services"]["worker"]["stop_grace_period"].removesuffix("s")
    assert f"{patience} seconds" in GUIDE
    assert shape.unit("countersign-worker.service")["Service"]["TimeoutStopSec"] == [patience]


def test_making_the_vault_key_leaves_nothing_of_root_behind(tmp_path: Path) -> None:
    """The line of the guide, with the place of the key elsewhere."""
    line = next(line for line in LINES if "generate_vault_key" in line)
    code = shape.build_image(tmp_path / "opt")
    (code / ".venv").symlink_to(shape.BIN.parent)
    line = line.replace("/etc/countersign", str(tmp_path / "etc"))
    ran = subprocess.run(["sh", "-c", line], cwd=code, env=shape.clean_environ(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "etc" / "vault-key.json").exists()
    assert not (code / "data").exists()
