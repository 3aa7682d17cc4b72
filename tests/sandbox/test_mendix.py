"""The runtime's rules as the documentation gives them."""

import pytest

from sandbox.mendix import BrokenConfiguration, Settings, Target, choose, java_split, parse

TWO = {"ClientCertificates": "/c/a.pfx,/c/b.pfx", "ClientCertificatePasswords": "pwa,pwb"}


def chosen(settings: dict, kind: str, name: str) -> tuple[str, list[int]]:
    choice = choose(parse(settings), Target(kind, name))
    assert choice.reason.endswith(".")
    return choice.rule, [certificate.position for certificate in choice.offered]


def test_no_settings_mean_no_certificates():
    assert parse({}) == Settings()
    assert chosen({}, "host", "a.example") == ("none-configured", [])


def test_lists_keep_their_order_with_or_without_blanks():
    spaced = parse({"ClientCertificates": "/c/a.pfx, /c/b.pfx", "ClientCertificatePasswords": "pwa, pwb"})
    assert spaced == parse(TWO)
    assert [(c.position, c.path, c.password) for c in spaced.certificates] == [
        (1, "/c/a.pfx", "pwa"),
        (2, "/c/b.pfx", "pwb"),
    ]


def test_passwords_stay_out_of_the_repr():
    assert "pwa" not in repr(parse(TWO))


@pytest.mark.parametrize(
    "usages",
    [
        '{"api.example.com": "/c/b.pfx", "Module.Service": "/c/a.pfx", "quiet.example.com": ""}',
        {"api.example.com": "/c/b.pfx", "Module.Service": "/c/a.pfx", "quiet.example.com": ""},
    ],
    ids=["text", "object"],
)
def test_usages_may_be_a_text_or_an_object(usages):
    settings = {**TWO, "ClientCertificateUsages": usages}
    assert chosen(settings, "host", "api.example.com") == ("pinned", [2])
    assert chosen(settings, "service", "Module.Service") == ("pinned", [1])
    assert chosen(settings, "host", "quiet.example.com") == ("never", [])
    assert chosen(settings, "host", "other.example.com") == ("default", [1, 2])


def test_a_windows_path_has_its_backslashes_doubled_in_usages_only():
    settings = {
        "ClientCertificates": "D:\\App\\Mx1.pfx",
        "ClientCertificatePasswords": "pwd1",
        "ClientCertificateUsages": '{"Module.WebService1": "D:\\\\App\\\\Mx1.pfx"}',
    }
    assert chosen(settings, "service", "Module.WebService1") == ("pinned", [1])


def test_never_wins_over_a_pin_and_is_for_hosts_and_services():
    settings = {
        **TWO,
        "ClientCertificateUsages": {"api.example.com": "/c/a.pfx"},
        "NoClientCertificateUsages": "api.example.com, Module.Service,MY_ID",
    }
    assert chosen(settings, "host", "api.example.com") == ("never", [])
    assert chosen(settings, "service", "Module.Service") == ("never", [])
    assert chosen(settings, "identifier", "MY_ID") == ("default", [1, 2])


def test_hosts_match_whole_and_lower_case_without_wildcards():
    settings = {**TWO, "ClientCertificateUsages": {"*.example.com": "/c/a.pfx", "api.example.com": "/c/b.pfx"}}
    assert chosen(settings, "host", "API.example.com") == ("pinned", [2])
    assert chosen(settings, "host", "www.example.com") == ("default", [1, 2])
    assert chosen(settings, "service", "Api.Example.com") == ("default", [1, 2])


def test_an_identifier_is_a_key_like_any_other():
    settings = {**TWO, "ClientCertificateUsages": {"MY_ID": "/c/b.pfx"}}
    assert chosen(settings, "identifier", "MY_ID") == ("pinned", [2])
    assert chosen(settings, "identifier", "ANOTHER") == ("default", [1, 2])


@pytest.mark.parametrize(
    ("text", "parts"), [("", [""]), ("p1,", ["p1"]), (",p2", ["", "p2"]), ("a, b", ["a", "b"]), (",", [])]
)
def test_lists_are_split_as_java_splits_them(text, parts):
    assert java_split(text) == parts


def test_one_certificate_may_have_an_empty_password():
    assert parse({"ClientCertificates": "/c/a.pfx"}).certificates[0].password == ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({**TWO, "ClientCertificatePasswords": "pwa"}, "2 files"),
        ({**TWO, "ClientCertificatePasswords": "pwa,"}, "2 files"),
        ({**TWO, "ClientCertificatePasswords": "pw,a,pwb"}, "3 passwords"),
        ({**TWO, "ClientCertificates": "/c/a.pfx,,/c/b.pfx"}, "empty entry"),
        ({**TWO, "ClientCertificates": ["/c/a.pfx", "/c/b.pfx"]}, "not a text"),
        ({**TWO, "ClientCertificateUsages": "api: /c/a.pfx"}, "not valid"),
        ({**TWO, "ClientCertificateUsages": '{"a": "/c/a.pfx", "a": "/c/b.pfx"}'}, "written twice"),
        ({**TWO, "ClientCertificateUsages": {"api.example.com": "/c/x.pfx"}}, "does not list"),
        ({**TWO, "ClientCertificateUsages": {"api.example.com": None}}, "one path"),
        ({**TWO, "ClientCertificateUsages": "[]"}, "one path"),
    ],
)
def test_broken_settings_are_refused_in_one_sentence_without_secrets(settings, words):
    with pytest.raises(BrokenConfiguration, match=words) as refused:
        parse(settings)
    assert "pwa" not in str(refused.value)
    assert "\n" not in str(refused.value)
