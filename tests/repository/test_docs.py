"""What the documentation promises of platforms: a page each, with the least rights to grant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rollouts.connectors import CONNECTORS

DOCS = Path(__file__).resolve().parents[2] / "docs"
LABELS = ("run against", "parsed by", "follows ")


@pytest.mark.parametrize("kind", sorted(CONNECTORS))
def test_a_platform_has_a_page_with_the_least_rights_to_grant(kind: str) -> None:
    page = (DOCS / "connectors" / f"{kind}.md").read_text()
    assert page.startswith(f"# `{kind}`\n")
    assert "least rights to grant" in page.lower()
    (row,) = re.findall(
        rf"\| \[`{kind}`\]\(connectors/{kind}\.md\) \|.*\| (.*) \|", (DOCS / "connectors.md").read_text()
    )
    assert any(label in row for label in LABELS)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_a_link_leads_to_something_that_is_here(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert not [target for target in targets if not (page.parent / target).exists()]
