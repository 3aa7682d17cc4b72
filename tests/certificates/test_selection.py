"""Which certificate a runtime presents."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certificates.content import Content, PinnedTarget, Slot
from certificates.dialects import DialectError
from certificates.selection import Selector, select
from certificates.targets import TargetError, interpret

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


# --- Laws -------------------------------------------------------------------------------------------------------------

keys = st.sampled_from([f"host-{n}.example.com" for n in range(6)])
pinned = st.dictionaries(keys, st.sampled_from(["a", "b", "gone", None]), max_size=6)


def with_pins(pins: dict[str, str | None], order: list[str] | None = None) -> Content:
    listed = tuple(PinnedTarget("host", key, pins[key]) for key in order or pins)
    return dataclasses.replace(CONTENT, pins=listed)


@given(pinned, st.randoms(), keys)
def test_the_order_in_which_pins_were_made_changes_no_answer(pins, chance, asked) -> None:
    order = list(pins)
    chance.shuffle(order)
    assert select(with_pins(pins, order), asked) == select(with_pins(pins), asked)


@given(pinned, keys, keys, st.sampled_from(["a", None]))
def test_a_pin_of_another_target_changes_no_answer(pins, asked, other, slug) -> None:
    if asked != other:
        assert select(with_pins(pins | {other: slug}), asked) == select(with_pins(pins), asked)


@given(st.text(max_size=60) | st.from_regex(r"(https?://)?[A-Za-z0-9.-]{1,20}\.[a-z]{2,3}(:[0-9]{2,5})?(/.*)?"))
def test_what_was_read_once_is_read_again_as_the_same(text) -> None:
    try:
        once = interpret(text)
    except TargetError:
        return
    assert interpret(once.key, once.kind).key == once.key


def test_one_selector_answers_as_one_question_at_a_time() -> None:
    selector = Selector(CONTENT)
    for key in ("api.example.com", "open.example.com", "Module.WS", "OLD", "other.example.com"):
        assert selector.select(key) == select(CONTENT, key)
