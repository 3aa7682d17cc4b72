"""The frozen values between the layers."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from certificates.content import Bundle, Content, File, PinnedTarget, Slot, WrittenPfx, digest_of_files

CONTENT = Content(
    "mendix",
    "10.12.3",
    "modern",
    "D:\\App",
    (Slot("b", "b" * 64, ("c" * 64,)), Slot("a", "a" * 64)),
    (PinnedTarget("host", "b.example", "b"), PinnedTarget("identifier", "Ä", None)),
    ("d" * 64,),
)


def test_the_stored_form_gives_the_same_content_back() -> None:
    again = Content.from_canonical(CONTENT.canonical())
    assert again == dataclasses.replace(CONTENT, pins=again.pins)
    assert set(again.pins) == set(CONTENT.pins)
    assert again.digest == CONTENT.digest


def test_the_order_of_pins_does_not_matter_and_that_of_certificates_does() -> None:
    assert dataclasses.replace(CONTENT, pins=CONTENT.pins[::-1]).digest == CONTENT.digest
    assert dataclasses.replace(CONTENT, slots=CONTENT.slots[::-1]).digest != CONTENT.digest


@pytest.mark.parametrize(
    "change",
    [
        {"runtime": "other"},
        {"runtime_version": "10.12.4"},
        {"profile": "other"},
        {"base_folder": "/srv"},
        {"slots": CONTENT.slots[:1]},
        {"slots": (dataclasses.replace(CONTENT.slots[0], sha256="e" * 64), CONTENT.slots[1])},
        {"slots": (dataclasses.replace(CONTENT.slots[0], chain=()), CONTENT.slots[1])},
        {"pins": ()},
        {"pins": (dataclasses.replace(CONTENT.pins[0], slug=None), CONTENT.pins[1])},
        {"authorities": ()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_is_in_the_digest(change: dict[str, object]) -> None:
    assert dataclasses.replace(CONTENT, **change).digest != CONTENT.digest  # type: ignore[arg-type]


def test_the_digest_is_that_of_the_stored_text() -> None:
    assert CONTENT.digest == hashlib.sha256(CONTENT.canonical().encode()).hexdigest()


def test_a_format_of_another_release_is_refused() -> None:
    stored = json.loads(CONTENT.canonical()) | {"format": 2}
    with pytest.raises(ValueError, match="format 2"):
        Content.from_canonical(json.dumps(stored))


def test_no_secret_shows_in_a_repr() -> None:
    secret = File("a.pfx", b"SECRET")
    shown = repr((WrittenPfx(b"SECRET", "SECRET"), secret, Bundle((secret,))))
    assert "SECRET" not in shown


def test_the_digest_of_a_bundle_is_what_sha256sum_prints_digested() -> None:
    files = (File("b.txt", b"two"), File("a/1.txt", b"one"))
    lines = f"{hashlib.sha256(b'one').hexdigest()}  a/1.txt\n{hashlib.sha256(b'two').hexdigest()}  b.txt\n"
    assert Bundle(files).digest == Bundle(files[::-1]).digest == hashlib.sha256(lines.encode()).hexdigest()


def test_no_files_have_the_digest_of_nothing() -> None:
    assert digest_of_files([]) == hashlib.sha256(b"").hexdigest()
