"""The languages of the page behind an upload link. The portal itself speaks English (settings.LANGUAGES)."""

from __future__ import annotations

from typing import Final

from django.utils.translation.trans_real import parse_accept_lang_header

# By the names that their speakers give them.
LANGUAGES: Final = {"en": "English", "nl": "Nederlands", "de": "Deutsch"}


def language_of(wanted: str, accepted: str) -> str:
    """The language of the address, or the first of the browser's (its Accept-Language) that there is, or English."""
    if wanted in LANGUAGES:
        return wanted
    offered = (name.partition("-")[0] for name, _weight in parse_accept_lang_header(accepted.lower()))
    return next((name for name in offered if name in LANGUAGES), "en")
