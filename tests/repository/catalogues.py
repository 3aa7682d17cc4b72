"""The texts in other languages (locale/): every text of the partner's page has its translation, and none is left over.

    python -m tests.repository.catalogues            says what is wrong; part of `make check`
    python -m tests.repository.catalogues --write    compiles django.po to django.mo; part of `make format`

Both files are kept in the repository, and the compiler is here: GNU gettext, which Django calls, is not everywhere. The
format of .mo is that of the GNU gettext manual, §10.3.
"""

from __future__ import annotations

import ast
import re
import struct
import sys
from pathlib import Path

from django.utils.translation.template import templatize

PROJECT = Path(__file__).resolve().parents[2]
LOCALE = PROJECT / "locale"
# Where the partner's texts stand; the portal's own pages are in English.
SOURCES = [
    PROJECT / "certificates/partner.py",
    *sorted((PROJECT / "templates/partner").iterdir()),
    PROJECT / "templates/parts/field.html",
]
_CALL = re.compile(r"""\b(?:_|gettext)\((u?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))\)""", re.S)
_PLACES = re.compile(r"%\(\w+\)[sd]|%%")


def texts(source: Path) -> set[str]:
    """Those that the file has translated."""
    text = source.read_text()
    if source.suffix == ".py":
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("_", "gettext")]
        return {str(ast.literal_eval(call.args[0])) for call in named}
    return {ast.literal_eval(found) for found in _CALL.findall(templatize(text))}


def read(po: str) -> dict[str, str]:
    """The entries of a .po file; that of "" is its header. Without plurals and contexts, which we have none of."""
    entries: dict[str, str] = {}
    key = ""
    for number, line in enumerate(po.splitlines(), start=1):
        word, _, quoted = line.partition(" ")
        if word == "msgid":
            key, part = ast.literal_eval(quoted), "msgid"
        elif word == "msgstr":
            if key in entries:
                raise ValueError(f"line {number} translates “{key}” again")
            entries[key], part = ast.literal_eval(quoted), "msgstr"
        elif line.startswith('"') and part == "msgid":
            key += ast.literal_eval(line)
        elif line.startswith('"'):
            entries[key] += ast.literal_eval(line)
        elif line.startswith("#, fuzzy"):
            raise ValueError(f"line {number} is a guess (fuzzy)")
        elif line and not line.startswith("#"):
            raise ValueError(f"line {number} is none that is known here: {line}")
    return entries


def compiled(entries: dict[str, str]) -> bytes:
    """As a .mo file."""
    pairs = sorted((key.encode(), text.encode()) for key, text in entries.items() if text)
    keys, words = 28, 28 + 8 * len(pairs)
    offset, tables, strings = 28 + 16 * len(pairs), [b"", b""], b""
    for column in (0, 1):
        for pair in pairs:
            tables[column] += struct.pack("<II", len(pair[column]), offset + len(strings))
            strings += pair[column] + b"\0"
    return struct.pack("<7I", 0x950412DE, 0, len(pairs), keys, words, 0, offset) + b"".join(tables) + strings


def problems(used: set[str], po: str, mo: bytes) -> list[str]:
    """What is wrong with a catalogue, a sentence each."""
    try:
        entries = read(po)
    except (ValueError, SyntaxError) as error:
        return [f"It cannot be read: {error}."]
    texts = {key: text for key, text in entries.items() if key}
    said = [f"“{key}” is not translated." for key in sorted(used) if not texts.get(key)]
    said += [f"“{key}” is used nowhere." for key in sorted(texts.keys() - used)]
    said += [
        f"“{key}” has other places for values in its translation."
        for key, text in texts.items()
        if text and sorted(set(_PLACES.findall(key))) != sorted(set(_PLACES.findall(text)))
    ]
    return said or ([] if mo == compiled(entries) else ["django.mo is not what django.po says; run `make format`."])


def all_texts() -> set[str]:
    return set().union(*map(texts, SOURCES))


def main(arguments: list[str]) -> int:
    failed = 0
    for po in sorted(LOCALE.glob("*/LC_MESSAGES/django.po")):
        mo = po.with_suffix(".mo")
        if "--write" in arguments:
            mo.write_bytes(compiled(read(po.read_text())))
        for sentence in problems(all_texts(), po.read_text(), mo.read_bytes() if mo.exists() else b""):
            print(f"{po.relative_to(PROJECT)}: {sentence}")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
