"""The partner's page says the same in every language that it offers."""

from __future__ import annotations

import gettext
import io

import pytest

from certificates.languages import LANGUAGES
from tests.repository import catalogues

ENTRIES = """msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"

msgid "Send %(what)s"
msgstr ""
"Stuur "
"%(what)s"
"""


def test_every_text_is_translated_and_compiled():
    found = {po.parent.parent.name for po in catalogues.LOCALE.glob("*/LC_MESSAGES/django.po")}
    assert found == LANGUAGES.keys() - {"en"}
    assert catalogues.main([]) == 0
    assert len(catalogues.all_texts()) > 40


def test_what_is_compiled_here_is_what_gettext_reads():
    made = gettext.GNUTranslations(io.BytesIO(catalogues.compiled(catalogues.read(ENTRIES))))
    assert made.gettext("Send %(what)s") == "Stuur %(what)s"
    assert made.gettext("another") == "another"


@pytest.mark.parametrize(
    ("po", "used", "words"),
    [
        (ENTRIES, {"Send %(what)s", "Thank you"}, "“Thank you” is not translated."),
        (ENTRIES, set(), "“Send %(what)s” is used nowhere."),
        (ENTRIES.replace('"%(what)s"', '"%(wat)s"'), {"Send %(what)s"}, "other places for values"),
        (ENTRIES + ENTRIES, {"Send %(what)s"}, "again"),
        ("#, fuzzy\n" + ENTRIES, {"Send %(what)s"}, "a guess"),
        (ENTRIES, {"Send %(what)s"}, "is not what django.po says"),
    ],
)
def test_what_is_missing_stale_or_wrong_is_said(po: str, used: set[str], words: str):
    assert words in " ".join(catalogues.problems(used, po, b"old"))
