"""What a runtime can be told."""

from __future__ import annotations

import dataclasses

import pytest

from certificates.content import Content, PinnedTarget, Slot
from certificates.dialects import DIALECTS, MENDIX, DialectError, dialect_of, expressible, problems
from certificates.targets import Interpretation, interpret

CONTENT = Content("mendix", "10.12.3", "modern", "/srv/app", (Slot("a", "a" * 64), Slot("b", "b" * 64)))


def pinned(*pins: tuple[str, str, str | None], **changes: object) -> Content:
    targets = tuple(PinnedTarget(kind, key, slug) for kind, key, slug in pins)
    return dataclasses.replace(CONTENT, pins=targets, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["Module.WebService", "api.example.com", "192.0.2.1", "MY_S3", 'a "b" \\ c'])
@pytest.mark.parametrize("never", [False, True])
def test_mendix_can_be_told_about_services_hosts_and_identifiers(text: str, never: bool) -> None:
    kind = "identifier" if " " in text else None
    verdict = expressible(interpret(text, kind), dialect=MENDIX, never=never, runtime_version="10.12.3")
    assert verdict.possible, verdict.reason
    assert verdict.reason == ""


@pytest.mark.parametrize(
    ("kind", "key", "part"),
    [
        ("host", "2001:db8::1", "IPv6"),
        ("host", "api.example.com:8443", "ports"),
        ("host", "*.example.com", "wildcards"),
        ("identifier", "a,b", "commas"),
        ("queue", "x", "kind"),
    ],
)
def test_what_no_document_confirms_is_refused_with_the_reason(kind: str, key: str, part: str) -> None:
    verdict = expressible(Interpretation(kind, key), dialect=MENDIX)
    assert not verdict.possible
    assert part in verdict.reason


def test_a_dialect_that_knows_more_refuses_less() -> None:
    generous = dataclasses.replace(MENDIX, ports=True, wildcards=True, ipv6=True, commas=True)
    for key in ("2001:db8::1", "api.example.com:8443", "*.example.com", "a,b"):
        assert expressible(Interpretation("host", key), dialect=generous).possible


def test_a_dialect_without_never_send_refuses_it() -> None:
    verdict = expressible(interpret("a.example"), dialect=dataclasses.replace(MENDIX, never_send=()), never=True)
    assert "never send for nothing only" in verdict.reason


@pytest.mark.parametrize(
    ("version", "text", "never", "possible"),
    [
        ("7.19.1", "a.example", False, False),
        ("7.20.0", "a.example", False, True),
        ("7.20", "MY_S3", False, False),
        ("8.18.0", "MY_S3", False, True),
        ("8.18.25", "a.example", True, False),
        ("9.0.0", "a.example", True, True),
        ("", "a.example", True, True),
        ("latest", "a.example", True, True),
    ],
)
def test_the_version_decides_what_can_be_told(version: str, text: str, never: bool, possible: bool) -> None:
    verdict = expressible(interpret(text), dialect=MENDIX, never=never, runtime_version=version)
    assert verdict.possible is possible, verdict.reason


def test_content_that_can_be_told_has_no_problems() -> None:
    assert problems(CONTENT) == ()
    assert problems(pinned(("host", "a.example", "a"), ("service", "M.W", "b"), ("identifier", "X", None))) == ()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (dataclasses.replace(CONTENT, runtime="abacus"), "abacus"),
        (dataclasses.replace(CONTENT, profile="vintage"), "vintage"),
        (dataclasses.replace(CONTENT, slots=CONTENT.slots * 2), "listed 2 times"),
        (pinned(("host", "x.example", "a"), ("identifier", "x.example", "b")), "pinned 2 times"),
        (pinned(("host", "x.example", "gone")), "not enabled here"),
        (pinned(("host", "X.example", "a")), "exported as x.example"),
        (pinned(("host", "x.example:443", "a")), "exported as x.example"),
        (pinned(("host", "*.example", "a")), "wildcards"),
        (pinned(("host", "::1", "a")), "IPv6"),
        (pinned(("identifier", "a,b", "a")), "commas"),
        (pinned(("identifier", "a\nb", "a")), "invisible"),
        (pinned(("host", "x.example", None), runtime_version="8.0"), "never send"),
    ],
)
def test_a_problem_is_one_sentence_that_names_it(content: Content, part: str) -> None:
    found = problems(content)
    assert any(part in sentence for sentence in found), found
    assert all(sentence.endswith(".") for sentence in found)


def test_the_same_key_twice_is_one_problem() -> None:
    found = problems(pinned(("host", "x.example", "a"), ("identifier", "x.example", "b")))
    assert found == ("x.example is pinned 2 times; remove all pins but one.",)


@pytest.mark.parametrize(
    ("number", "part"), [(0, "no certificate"), (1, "this certificate"), (2, "these 2"), (5, "these 5")]
)
def test_the_default_rule_counts_the_certificates(number: int, part: str) -> None:
    assert part in MENDIX.words_for_any_other(number)


def test_every_dialect_is_found_by_its_kind() -> None:
    assert all(dialect_of(kind).kind == kind for kind in DIALECTS)
    with pytest.raises(DialectError, match="abacus"):
        dialect_of("abacus")
