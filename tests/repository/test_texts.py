"""Every text on a page can be translated: no template has words outside of a translate tag."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((PROJECT / "templates").rglob("*.html"))

BLOCKS = re.compile(r"{% (blocktranslate|comment)\b.*?{% end\1 %}", re.S)
# {name}: what a row is filled with (certificates.rows)
TAGS = re.compile(r"{%.*?%}|{{.*?}}|{#.*?#}|{[a-z_]+}", re.S)
MARKUP = re.compile(r"<(script|style|svg)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.S)
# Attributes that people read or hear.
SPOKEN = re.compile(r'\b(?:aria-label|title|placeholder|alt|data-copied)="([^"]*)"')
# Names and abbreviations that are the same in every language.
SAME = {"Countersign", "SHA", "CN", "CSV", "PFX", "PKCS", "v", "d", "SAN", "DNS", "TLS"}


def words(text: str) -> list[str]:
    return [word for word in re.findall(r"[^\W\d_]+", re.sub(r"&\w+;", " ", text)) if word not in SAME]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_template_has_no_words_that_cannot_be_translated(template: Path):
    text = TAGS.sub(" ", BLOCKS.sub(" ", template.read_text()))
    assert words(MARKUP.sub(" ", text)) == []
    assert [word for spoken in SPOKEN.findall(text) for word in words(spoken)] == []


def test_the_check_sees_a_bare_word():
    assert words(MARKUP.sub(" ", TAGS.sub(" ", '<p class="x">{{ name }} expired</p>'))) == ["expired"]


def test_templates_hold_no_script_and_no_style():
    for template in TEMPLATES:
        text = template.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", text), template
