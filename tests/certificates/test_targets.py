"""The grammar of targets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certificates.targets import KINDS, TargetError, guess, interpret


@pytest.mark.parametrize(
    ("text", "kind", "key"),
    [
        ("Billing.PaymentService", "service", "Billing.PaymentService"),
        ("Module.WS", "service", "Module.WS"),
        ("Module.WS1", "service", "Module.WS1"),
        ("Module.Info", "service", "Module.Info"),
        ("my_module.Web_Service", "service", "my_module.Web_Service"),
        ("api.example.com", "host", "api.example.com"),
        ("Example.COM", "host", "example.com"),
        ("EXAMPLE.NL", "host", "example.nl"),
        ("Example.nl", "host", "example.nl"),
        ("Partner.local", "host", "partner.local"),
        ("https://api.example.com/v1", "host", "api.example.com"),
        ("intranet:8443", "host", "intranet"),
        ("api.example.com:", "host", "api.example.com"),
        ("localhost", "host", "localhost"),
        ("192.0.2.10", "host", "192.0.2.10"),
        ("[2001:DB8::1]:443", "host", "2001:db8::1"),
        ("2001:db8:0:0::1", "host", "2001:db8::1"),
        ("bücher.example", "host", "xn--bcher-kva.example"),
        ("MY_S3", "identifier", "MY_S3"),
        ("/bla/bla", "identifier", "/bla/bla"),
        ("intranet", "identifier", "intranet"),
        ("Prod/partner-a:2", "identifier", "Prod/partner-a:2"),
        ("v1.2", "identifier", "v1.2"),
        ("  MY_S3\n", "identifier", "MY_S3"),
    ],
)
def test_what_is_typed_is_recognised(text: str, kind: str, key: str) -> None:
    found = interpret(text)
    assert (found.kind, found.key) == (kind, key)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "https://api.example.com/v1",
            "Host api.example.com. Scheme and path removed; this runtime matches the host only.",
        ),
        ("api.example.com", "Host api.example.com."),
        (
            "https://me:secret@API.example.com.:8443/a,b?c#d",
            (
                "Host api.example.com. Scheme, user name, port, path, query and fragment removed; "
                "this runtime matches the host only. Trailing dot removed. Written in lower case."
            ),
        ),
        (
            "Bücher.example",
            "Host xn--bcher-kva.example. Bücher.example is exported in punycode as xn--bcher-kva.example.",
        ),
        ("MY_S3", "Client certificate identifier MY_S3."),
        ("intranet", "Client certificate identifier intranet. If this is the name of a server, choose host."),
        ("Billing.PaymentService", "Service Billing.PaymentService."),
        ("h.example#a?b", "Host h.example. Fragment removed; this runtime matches the host only."),
    ],
)
def test_the_page_says_what_it_understood(text: str, sentence: str) -> None:
    assert interpret(text).sentence == sentence


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        ("", None, "Type a service"),
        (" \t\n", None, "Type a service"),
        ("x" * 201, None, "at most 200"),
        ("x" * 5000, None, "too long"),
        ("a\x00b", None, "invisible"),
        ("one\ntwo", "identifier", "invisible"),
        ("zero\u200bwidth", "identifier", "invisible"),
        ("lone\ud800", "identifier", "invisible"),
        ("*.example.com", None, "wildcards"),
        ("api.*.com", "host", "wildcards"),
        ("a.example,b.example", None, "one at a time"),
        ("a.example,b.example", "host", "one at a time"),
        ("MY,S3", "identifier", "one at a time"),
        ("https://", None, "not a host name"),
        ("api..example.com", "host", "not a host name"),
        ("-a.example", "host", "not a host name"),
        ("a b.example", "host", "not a host name"),
        ("a" * 64 + ".example", "host", "not a host name"),
        ("https://good.example\\@evil.example/", None, "backslash"),
        ("host.example:http", "host", "not a port"),
        ("https:api.example.com", None, "not a port"),
        ("host.example:99999", "host", "not a port"),
        ("256.1.1.1", None, "not an IPv4 address"),
        ("127.1", "host", "not an IPv4 address"),
        ("0x7f.0x1", "host", "not an IPv4 address"),
        ("[fe80::1%eth0]", None, "IPv6"),
        ("[::1", None, "IPv6"),
        ("ü" * 64 + ".example", "host", "punycode"),
        ("a\uff0cb.example", "host", "not a host name"),
        ("Module", "service", "Module.WebService"),
        ("A.B.C", "service", "Module.WebService"),
        ("1a.B", "service", "Module.WebService"),
        ("x", "queue", "Choose"),
        ("Partner A (old)", None, "choose the kind Client certificate identifier"),
        ("ops@example.com", None, "type a host like api.example.com"),
        ("<script>", None, "type a host like api.example.com"),
        ("it's", None, "type a host like api.example.com"),
        ('"quoted"', None, "type a host like api.example.com"),
    ],
)
def test_what_is_no_target_is_refused_with_what_to_do(text: str, kind: str | None, part: str) -> None:
    with pytest.raises(TargetError, match=part) as refused:
        interpret(text, kind)
    assert str(refused.value).endswith(".")


def test_an_empty_port_and_the_longest_ones_are_dropped() -> None:
    assert {interpret(f"a.example:{port}", "host").key for port in ("", "1", "443", "65535")} == {"a.example"}


def test_a_refusal_never_repeats_the_password_in_an_address() -> None:
    for text in ("https://me:hunter2@bad host/", "https://me:hunter2@h.example:x", "https://me:hunter2@a,b"):
        with pytest.raises(TargetError) as refused:
            interpret(text)
        assert "hunter2" not in str(refused.value)


def test_the_password_of_an_address_is_in_no_interpretation() -> None:
    assert "hunter2" not in repr(interpret("me:hunter2@api.example.com"))


@pytest.mark.parametrize("text", ["Partner A (old)", "ops@example.com", "<b>", 'a "name"', "api.example.com"])
def test_whoever_chooses_identifier_may_type_any_visible_text(text: str) -> None:
    found = interpret(text, "identifier")
    assert (found.kind, found.key) == ("identifier", text)


def test_an_identifier_with_an_asterisk_is_taken_literally() -> None:
    found = interpret("*.example.com", "identifier")
    assert found.key == "*.example.com"
    assert found.notes == ("Taken literally; it is not a pattern",)


texts = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="aZ09.-_:/@*[]?#,% üß。", max_size=30),
    st.from_regex(r"(https?://)?([A-Za-z0-9ü-]{1,8}\.){1,4}[A-Za-z]{2,5}\.?(:[0-9]{0,5})?(/.{0,5})?", fullmatch=True),
)


@given(texts, st.sampled_from([None, *KINDS]))
def test_a_key_interpreted_again_is_the_same_key(text: str, kind: str | None) -> None:
    try:
        first = interpret(text, kind)
    except TargetError:
        return
    assert first.kind in KINDS
    assert 1 <= len(first.key) <= 200
    assert first.key.isprintable()
    assert "," not in first.key
    again = interpret(first.key, first.kind)
    assert (again.kind, again.key) == (first.kind, first.key)


@given(texts)
def test_guessing_gives_one_of_the_kinds(text: str) -> None:
    assert guess(text.strip()) in KINDS
