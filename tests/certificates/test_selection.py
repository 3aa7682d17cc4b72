"""Which certificate a runtime presents."""

from __future__ import annotations

import dataclasses

import pytest

from certificates.content import Content, PinnedTarget, Slot
from certificates.dialects import DialectError
from certificates.selection import select

CONTENT = Content(
    "mendix",
    "10.12.3",
    "modern",
    "/srv/app",
    (Slot("b", "b" * 64), Slot("a", "a" * 64)),
    (
        PinnedTarget("host", "api.example.com", "a"),
        PinnedTarget("host", "open.example.com", None),
        PinnedTarget("service", "Module.WS", "b"),
        PinnedTarget("identifier", "OLD", "disabled"),
    ),
)


@pytest.mark.parametrize(("key", "slug"), [("api.example.com", "a"), ("Module.WS", "b")])
def test_a_pinned_target_presents_its_certificate(key: str, slug: str) -> None:
    found = select(CONTENT, key)
    assert (found.slug, found.rule, found.candidates) == (slug, "pinned", (slug,))
    assert found.sentence == f"{key} is sent {slug}, because it is pinned to it."


def test_a_never_send_pin_presents_nothing() -> None:
    found = select(CONTENT, "open.example.com")
    assert (found.slug, found.rule, found.candidates) == (None, "never", ())


def test_without_a_pin_the_server_decides_among_all_in_order() -> None:
    found = select(CONTENT, "other.example.com")
    assert (found.slug, found.rule, found.candidates) == (None, "any", ("b", "a"))
    assert "any of these 2 certificates; the server's CA list decides (Mendix default)" in found.sentence


def test_a_single_certificate_is_still_offered_to_every_server_that_asks() -> None:
    found = select(dataclasses.replace(CONTENT, slots=CONTENT.slots[:1]), "other.example.com")
    assert (found.slug, found.rule, found.candidates) == (None, "any", ("b",))


@pytest.mark.parametrize("key", ["API.example.com", "api.example.com:443", "sub.api.example.com", "module.ws", ""])
def test_a_key_is_compared_exactly(key: str) -> None:
    assert select(CONTENT, key).rule == "any"


def test_without_certificates_nothing_is_sent() -> None:
    found = select(dataclasses.replace(CONTENT, slots=()), "api.example.com")
    assert (found.slug, found.rule, found.candidates) == (None, "none", ())
    assert "not enabled here" in found.sentence


def test_a_pin_to_a_certificate_that_is_not_enabled_counts_for_nothing() -> None:
    found = select(CONTENT, "OLD")
    assert (found.rule, found.candidates) == ("any", ("b", "a"))
    assert "disabled, which is not enabled here" in found.sentence


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(DialectError):
        select(dataclasses.replace(CONTENT, runtime="abacus"), "api.example.com")
