"""What every exporter keeps, proved by reading its files back as the published documents say.

A new exporter joins by its line in the registry and one entry in READERS, the published way to read its form.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certificates.content import Bundle, Content, PinnedTarget, Slot, WrittenPfx
from certificates.dialects import dialect_of, inexpressible
from certificates.selection import Selector, select
from certificates.targets import TargetError, interpret
from rollouts.exporters import EXPORTERS, Exporter, ExportError, export, exporter
from sandbox import mendix
from tests.contracts.readers import READERS, Runtime
from tests.contracts.written import seen_as, trusted, written

pytestmark = pytest.mark.contract

every_exporter = pytest.mark.parametrize("kind", EXPORTERS)

SLOTS = tuple(Slot(slug, f"{number:064x}") for number, slug in enumerate(("partner-b", "partner-a", "bank"), start=1))
PINS = (
    PinnedTarget("host", "api.example.com", "partner-a"),
    PinnedTarget("service", "Billing.PaymentService", "bank"),
    PinnedTarget("identifier", "MY_S3", "bank"),
    PinnedTarget("host", "open.example.com", None),
    PinnedTarget("service", "Billing.OpenService", None),
)
CONTENT = Content("mendix", "10.12.3", "modern", "/srv/app", SLOTS, PINS)
NOTHING = Content("mendix", "10.12.3", "modern", "/srv/app")
# What may break out of its place in JSON, YAML, HOCON, a shell, properties, nginx or a list.
HOSTILE = [
    *("'", '"', "\\", "\\'", '\\"', "$(id)", "${A}", "${?HOME}", "%PATH%", "{}", "𝔘", "\\u0041", "a=b #c", "# a"),
    *(": {}", "{a: b}", "- x", "? y", "!!python/object", "&a", "*a", "| |", "> >", "yes", "null", "~", "0x1F", "1e3"),
    *(
        "a:b",
        "=x",
        "!x",
        "a//b",
        "[x]",
        "`id`",
        "«ü»",
        "שלום",
        "\u05d0\u05d1 x",
        "😀",
        "y" * 200,
        "\\" * 200,
        "𝔘" * 200,
    ),
]


def exported(kind: str, content: Content) -> tuple[Bundle, Runtime]:
    bundle = export(kind, content, written(content, kind), trusted())
    return bundle, READERS[kind](bundle, content.base_folder)


def as_it_can(kind: str, content: Content) -> Content:
    """The content without the pins that the reader of this form cannot be told; nothing else is left out."""
    told = {pin.key for pin, _why in inexpressible(content, exporter(kind).dialect)}
    return dataclasses.replace(content, pins=tuple(pin for pin in content.pins if pin.key not in told))


def assert_it_says_the_content(kind: str, content: Content, *more_keys: str) -> None:
    """Every slot once and in order, for each key the same answer as `selection.select`, and every authority."""
    content = as_it_can(kind, content)
    _, runtime = exported(kind, content)
    files = written(content, kind)
    found = [(file, password) for _, file, password in runtime.certificates]
    listed = [seen_as(kind, files[slot.slug]) for slot in content.slots]
    there = dialect_of(exporter(kind).dialect)
    assert found == listed if there.order_matters else sorted(found) == sorted(listed)
    selector = Selector(dataclasses.replace(content, runtime=there.kind))
    for key in (*(pin.key for pin in content.pins), *more_keys):
        selection = selector.select(key)
        expected = selection.rule if selection.slug is None else seen_as(kind, files[selection.slug])[0]
        assert runtime.presents(key) == expected, key
    assert sorted(runtime.authorities) == sorted(trusted()[one] for one in content.authorities)


def mine(kind: str) -> Content:
    """CONTENT, with an authority where it can be told one, and without the pins that it cannot be told."""
    authorities = tuple(trusted()) if dialect_of(exporter(kind).dialect).authorities else ()
    return as_it_can(kind, dataclasses.replace(CONTENT, authorities=authorities))


def test_every_exporter_has_its_published_reader() -> None:
    assert READERS.keys() == EXPORTERS.keys()


@every_exporter
def test_it_introduces_itself_to_the_page(kind: str) -> None:
    found: Exporter = exporter(kind)
    assert found.kind == kind
    assert found.title
    assert found.description.endswith(".")
    assert dialect_of(found.dialect).kind == found.dialect


@every_exporter
def test_the_files_say_what_selection_says(kind: str) -> None:
    assert_it_says_the_content(kind, mine(kind), "other.example.com", "", "API.EXAMPLE.COM")


@every_exporter
@pytest.mark.parametrize("number", [1, 2, 200])
def test_any_number_of_certificates_keeps_its_order(kind: str, number: int) -> None:
    slots = tuple(Slot(f"s-{n}", "0" * 64) for n in range(number, 0, -1))
    pins = tuple(PinnedTarget("host", f"h{n}.example", f"s-{n}") for n in range(1, number + 1))
    content = dataclasses.replace(CONTENT, slots=slots, pins=pins)
    if (kind, number) == ("buildpack-env", 200):
        with pytest.raises(ExportError, match="Linux starts no app with a variable above 131,072"):
            exported(kind, content)
    else:
        assert_it_says_the_content(kind, content, "x.example")


@every_exporter
def test_nothing_to_send_is_exported_as_nothing(kind: str) -> None:
    bundle, runtime = exported(kind, NOTHING)
    assert (runtime.certificates, runtime.usages, runtime.never) == ((), {}, frozenset())
    assert not [file.path for file in bundle.files if file.path.endswith((".pfx", ".p12", ".pem"))]


@every_exporter
def test_never_send_is_exported_even_without_certificates(kind: str) -> None:
    never = tuple(pin for pin in PINS if pin.slug is None)
    assert_it_says_the_content(kind, dataclasses.replace(NOTHING, pins=never), "x.example")


@every_exporter
@pytest.mark.parametrize("profile", ["", "modern", "openssl11", "java8"])
def test_each_profile_is_exported(kind: str, profile: str) -> None:
    assert_it_says_the_content(kind, dataclasses.replace(CONTENT, profile=profile))


@every_exporter
def test_the_same_content_gives_the_same_bytes(kind: str) -> None:
    # A truststore is salted by the library; its certificates are public.
    content = dataclasses.replace(mine(kind), authorities=()) if kind == "java-keystore" else mine(kind)
    shuffled = dataclasses.replace(content, pins=content.pins[::-1])
    reversed_pfx = dict(reversed(written(content, kind).items()))
    first, second = (
        export(kind, content, written(content, kind), trusted()),
        export(kind, shuffled, reversed_pfx, trusted()),
    )
    assert first.files == second.files
    assert first.preview == second.preview
    assert first.digest == second.digest


def secrets_of(one: WrittenPfx) -> list[bytes]:
    """The password, the PFX and the key, as they are and in base64, of which a part is enough."""
    assert one.identity is not None
    found = [one.password.encode(), base64.b64encode(one.password.encode())]
    for secret in (one.pfx, one.identity.key):
        found += [secret[20:60], base64.b64encode(secret)[30:60]]
    return found


@every_exporter
def test_no_secret_is_in_the_preview_and_every_file_has_one(kind: str) -> None:
    bundle = export(kind, mine(kind), written(CONTENT, kind), trusted())
    shown = ("\n".join(bundle.preview.values()) + repr(bundle)).encode()
    for one in written(CONTENT, kind).values():
        assert not [secret for secret in secrets_of(one) if secret in shown]
    assert set(bundle.preview) == {file.path for file in bundle.files}
    assert "••••••".encode() in shown


@every_exporter
def test_the_preview_that_opens_no_key_is_that_of_the_export(kind: str) -> None:
    """The page shows it; only the sizes of files that are not written yet differ."""
    slots = tuple(Slot(f"s-{n}", "0" * 64, ("1" * 64,) * (n % 3)) for n in range(3))
    content = dataclasses.replace(CONTENT, slots=slots, pins=())
    unwritten = {slot.slug: WrittenPfx(b"\0" * len(written(content, kind)[slot.slug].pfx), "masked") for slot in slots}
    assert export(kind, content, unwritten).preview == export(kind, content, written(content, kind)).preview


@every_exporter
def test_a_file_with_a_secret_is_marked(kind: str) -> None:
    for file in export(kind, mine(kind), written(CONTENT, kind), trusted()).files:
        holds = any(secret in file.content for one in written(CONTENT, kind).values() for secret in secrets_of(one))
        assert file.secret or not holds, file.path


@every_exporter
def test_the_paths_are_relative_and_stay_inside(kind: str) -> None:
    hostile = (
        "../../etc/passwd",
        "a/b",
        "a\\b",
        "c:d",
        "ünï",
        "a,b",
        "x'y\"z",
        "..",
        "-",
        "𝔘" * 200,
        "a_b",
        "a-b",
        "A-b",
    )
    slots = tuple(Slot(slug, "0" * 64) for slug in hostile)
    pins = tuple(PinnedTarget("host", f"h{number}.example", slug) for number, slug in enumerate(hostile))
    content = dataclasses.replace(CONTENT, slots=slots, pins=pins)
    bundle, _ = exported(kind, content)
    for file in bundle.files:
        path = PurePosixPath(file.path)
        assert file.path.isascii()
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert not set(file.path) & set("\\,:'\"\n")
        assert all(len(part) < 128 for part in path.parts)
    assert len({file.path for file in bundle.files}) == len(bundle.files)
    assert_it_says_the_content(kind, content)


@every_exporter
@settings(deadline=None, max_examples=50)
@given(
    keys=st.sets(
        st.one_of(
            st.text(min_size=1, max_size=30),
            st.text(alphabet="aä\\\"'${}`%u0:#= ", min_size=1, max_size=20),
            st.sampled_from(HOSTILE),
        ),
        max_size=6,
    )
)
def test_strange_identifiers_come_back_unharmed(kind: str, keys: set[str]) -> None:
    assert_it_says_the_content(kind, with_identifiers(keys))


@every_exporter
def test_hostile_identifiers_come_back_unharmed(kind: str) -> None:
    assert_it_says_the_content(kind, with_identifiers(HOSTILE))


def with_identifiers(keys: Any) -> Content:
    """CONTENT with every one of them that is an identifier pinned."""
    pins = []
    for key in keys:
        try:
            target = interpret(key, "identifier")
        except TargetError:
            continue
        pins.append(PinnedTarget("identifier", target.key, "bank"))
    return dataclasses.replace(CONTENT, pins=tuple({pin.key: pin for pin in pins}.values()))


@every_exporter
@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"runtime": "abacus"}, "abacus"),
        ({"pins": (PinnedTarget("identifier", "a,b", "bank"),)}, "comma|kind"),
        ({"pins": (PinnedTarget("identifier", "a\nb", "bank"),)}, "invisible"),
        ({"pins": (PinnedTarget("host", "*.example", "bank"),)}, "wildcards"),
        ({"pins": (PinnedTarget("host", "a.example", "gone"),)}, "not enabled here"),
        ({"pins": (PINS[0], dataclasses.replace(PINS[0], slug="bank"))}, "2 times"),
        ({"slots": (*SLOTS, SLOTS[0])}, "2 times"),
        ({"authorities": ("0" * 64,)}, "authorit"),
    ],
)
def test_what_cannot_be_expressed_is_refused_in_one_sentence(kind: str, change: dict[str, Any], part: str) -> None:
    content = dataclasses.replace(as_it_can(kind, CONTENT), **change)
    with pytest.raises(ExportError, match=part) as refused:
        export(kind, content, written(content, kind))
    assert str(refused.value).endswith(".")


@every_exporter
def test_what_its_reader_cannot_be_told_is_refused(kind: str) -> None:
    """One pin at a time: either it comes back, or the refusal names it."""
    for pin in (*PINS, PinnedTarget("identifier", "MY_S3", None)):
        content = dataclasses.replace(CONTENT, pins=(pin,))
        if as_it_can(kind, content).pins:
            assert_it_says_the_content(kind, content)
        else:
            with pytest.raises(ExportError, match=r"cannot be told|only") as refused:
                export(kind, content, written(content, kind))
            assert "kind" in str(refused.value) or pin.key in str(refused.value)


@every_exporter
@pytest.mark.parametrize("password", ["", "a,b", " a", "pässword", "a\nb", "a'b"])
def test_a_password_that_a_list_cannot_carry_is_refused_and_not_repeated(kind: str, password: str) -> None:
    pfx = written(CONTENT, kind) | {"bank": WrittenPfx(b"pfx", password)}
    with pytest.raises(ExportError, match="export password of bank is not made of ASCII letters") as refused:
        export(kind, as_it_can(kind, CONTENT), pfx)
    assert str(refused.value) == ("The export password of bank is not made of ASCII letters and digits; export again.")


@every_exporter
def test_the_written_files_must_be_those_of_the_slots(kind: str) -> None:
    content = as_it_can(kind, CONTENT)
    pfx = dict(written(content, kind))
    with pytest.raises(ExportError, match="extra is not part"):
        export(kind, content, pfx | {"extra": WrittenPfx(b"pfx", "abc")})
    with pytest.raises(ExportError, match="bank is empty"):
        export(kind, content, pfx | {"bank": WrittenPfx(b"", "abc")})
    del pfx["bank"]
    with pytest.raises(ExportError, match="bank was not opened"):
        export(kind, content, pfx)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ExportError, match="abacus"):
        export("abacus", NOTHING, {})


# --- mendix-settings ---


def settings_of(folder: str, content: Content = CONTENT) -> dict[str, str]:
    content = dataclasses.replace(content, base_folder=folder)
    files = {
        file.path: file.content
        for file in export("mendix-settings", content, written(content, "mendix-settings")).files
    }
    values: dict[str, str] = json.loads(files["custom-settings.json"])
    return values


def test_mendix_settings_are_those_of_the_documents_example() -> None:
    content = Content(
        "mendix",
        "10.12.3",
        "modern",
        "D:\\App",
        (Slot("mx1", "1" * 64), Slot("mx2", "2" * 64)),
        (
            PinnedTarget("service", "Module.WebService1", "mx1"),
            PinnedTarget("service", "Module.WebService2", None),
            PinnedTarget("host", "www.server-to-contact.com", "mx2"),
        ),
    )
    assert settings_of("D:\\App", content) == {
        "CACertificates": "",
        "ClientCertificates": r"D:\App\certificates\mx1.pfx,D:\App\certificates\mx2.pfx",
        "ClientCertificatePasswords": "Password000x,Password001x",
        "ClientCertificateUsages": (
            r'{"Module.WebService1": "D:\\App\\certificates\\mx1.pfx", "Module.WebService2": "", '
            r'"www.server-to-contact.com": "D:\\App\\certificates\\mx2.pfx"}'
        ),
        "NoClientCertificateUsages": "Module.WebService2",
    }


def test_mendix_settings_for_no_certificates_are_empty_texts_and_braces() -> None:
    assert settings_of("/srv", NOTHING) == {
        "CACertificates": "",
        "ClientCertificates": "",
        "ClientCertificatePasswords": "",
        "ClientCertificateUsages": "{}",
        "NoClientCertificateUsages": "",
    }


def test_the_text_for_people_holds_the_same_values() -> None:
    content = dataclasses.replace(CONTENT, base_folder="D:\\App")
    bundle = export("mendix-settings", content, written(content, "mendix-settings"))
    files = {file.path: file.content.decode() for file in bundle.files if not file.path.endswith(".pfx")}
    blocks = dict(block.split("\n", 1) for block in files["custom-settings.txt"].strip().split("\n\n"))
    values = {name: "" if value == "(leave empty)" else value for name, value in blocks.items()}
    assert values == json.loads(files["custom-settings.json"])
    assert "D:\\App" in files["README.txt"]


def test_an_identifier_can_be_sent_no_certificate_by_settings() -> None:
    content = dataclasses.replace(CONTENT, pins=(PinnedTarget("identifier", "MY S3", None),))
    assert_it_says_the_content("mendix-settings", content)
    assert settings_of("/srv/app", content)["NoClientCertificateUsages"] == ""


def test_the_sandbox_presents_what_selection_says() -> None:
    content = dataclasses.replace(CONTENT, pins=(*PINS, PinnedTarget("identifier", 'it\'s "my" \\ S3', None)))
    settings = mendix.parse(settings_of("/srv/app", content))
    other = PinnedTarget("host", "other.example.com", None)
    for pin in (*content.pins, other):
        selection = select(content, pin.key)
        choice = mendix.choose(settings, mendix.Target(pin.kind, pin.key))
        assert choice.rule == {"any": "default"}.get(selection.rule, selection.rule)
        passwords = [written(content, "mendix-settings")[slug].password for slug in selection.candidates]
        assert [certificate.password for certificate in choice.offered] == passwords


@pytest.mark.parametrize(
    ("folder", "first"),
    [
        ("/srv/app", "/srv/app/certificates/partner-b.pfx"),
        ("/srv/app/", "/srv/app/certificates/partner-b.pfx"),
        ("/", "/certificates/partner-b.pfx"),
        ("/srv/my app/ü", "/srv/my app/ü/certificates/partner-b.pfx"),
        ("D:\\App", r"D:\App\certificates\partner-b.pfx"),
        ("D:\\App\\", r"D:\App\certificates\partner-b.pfx"),
        ("D:/App", r"D:\App\certificates\partner-b.pfx"),
        ("D:\\", r"D:\certificates\partner-b.pfx"),
        ("\\\\server\\share", r"\\server\share\certificates\partner-b.pfx"),
    ],
)
def test_the_folder_decides_how_paths_are_spelled(folder: str, first: str) -> None:
    assert settings_of(folder)["ClientCertificates"].split(",")[0] == first


@pytest.mark.parametrize(
    ("folder", "part"),
    [
        ("", "need the folder"),
        ("srv/app", "relative"),
        ("App\\x", "relative"),
        ("D:", "relative"),
        ("D:App", "relative"),
        ("\\App", "relative"),
        ("/srv/we\\ird", "relative"),
        ("/srv/a,b", "comma"),
        ("D:\\a,b", "comma"),
        ("/srv/a\nb", "line breaks"),
        ("/srv/a\x00", "invisible"),
        ("/srv/a ", "blanks"),
        ("D:\\a|b", "Windows"),
        ("D:\\a:b", "Windows"),
    ],
)
def test_a_folder_that_the_settings_cannot_carry_is_refused(folder: str, part: str) -> None:
    with pytest.raises(ExportError, match=part):
        settings_of(folder)


names = st.text(
    alphabet=st.characters(exclude_characters=',/\\<>:"|?*', exclude_categories=["C", "Z"]), min_size=1, max_size=12
)


@given(st.sampled_from("CDz"), st.lists(names, max_size=4), st.sampled_from(["", "\\"]))
def test_backslashes_are_single_in_the_list_and_doubled_in_the_usages(drive: str, parts: list[str], end: str) -> None:
    folder = "\\".join([f"{drive}:", *parts]) + (end if parts else "\\")
    values = settings_of(folder)
    paths = values["ClientCertificates"].split(",")
    assert [PureWindowsPath(path).parent.parent for path in paths] == [PureWindowsPath(folder)] * len(SLOTS)
    assert all("\\\\" not in path and "/" not in path for path in paths)
    assert f'"MY_S3": "{paths[2]}"'.replace("\\", "\\\\") in values["ClientCertificateUsages"]
    assert json.loads(values["ClientCertificateUsages"])["MY_S3"] == paths[2]


@given(st.lists(st.one_of(names, st.just('a "b" <c>:|?*')), max_size=4), st.sampled_from(["", "/"]))
def test_a_posix_folder_comes_back_as_it_was(parts: list[str], end: str) -> None:
    folder = "/" + "/".join(parts) + (end if parts else "")
    values = settings_of(folder)
    paths = values["ClientCertificates"].split(",")
    assert [PurePosixPath(path).parent.parent for path in paths] == [PurePosixPath(folder)] * len(SLOTS)
    assert json.loads(values["ClientCertificateUsages"])["MY_S3"] == paths[2]


# --- buildpack-env ---


def test_the_buildpack_is_never_given_an_empty_text() -> None:
    bundle = export("buildpack-env", NOTHING, {})
    files = {file.path: file.content for file in bundle.files}
    assert files["CLIENT_CERTIFICATES.json"] == b"[]\n"
    assert files["environment.env"] == b"CLIENT_CERTIFICATES='[]'\n"


def test_a_real_shell_reads_the_variables_unharmed(tmp_path: Path) -> None:
    identifier = 'it\'s a "key" \\ $(id) ${HOME} `x` ü 𝔘 \\u0041'
    content = dataclasses.replace(CONTENT, pins=(*PINS, PinnedTarget("identifier", identifier, "bank")))
    for file in export("buildpack-env", content, written(content, "buildpack-env")).files:
        (tmp_path / file.path).write_bytes(file.content)
    script = (
        'set -a; . ./environment.env; printf "%s\\0%s" "$CLIENT_CERTIFICATES" "$MXRUNTIME_NoClientCertificateUsages"'
    )
    run = subprocess.run(["sh", "-eu", "-c", script], cwd=tmp_path, capture_output=True, check=True, timeout=10)
    value, never = run.stdout.decode().split("\0")
    assert json.loads(value) == json.loads((tmp_path / "CLIENT_CERTIFICATES.json").read_text())
    assert identifier in json.loads(value)[2]["pin_to"]
    assert never == "Billing.OpenService,open.example.com"


def test_what_is_never_sent_one_is_in_no_pin_to() -> None:
    bundle = export("buildpack-env", CONTENT, written(CONTENT, "buildpack-env"))
    entries = json.loads(bundle.files[0].content)
    assert [entry["pin_to"] for entry in entries] == [[], ["api.example.com"], ["Billing.PaymentService", "MY_S3"]]


def test_the_buildpack_cannot_be_told_to_send_none_to_an_identifier() -> None:
    content = dataclasses.replace(CONTENT, pins=(PinnedTarget("identifier", "MY_S3", None),))
    with pytest.raises(ExportError, match="services and hosts only"):
        export("buildpack-env", content, written(content, "buildpack-env"))


def test_a_variable_that_linux_would_not_start_an_app_with_is_refused() -> None:
    content = dataclasses.replace(CONTENT, slots=SLOTS[:1], pins=())

    def sized(size: int) -> Bundle:
        return export("buildpack-env", content, {"partner-b": WrittenPfx(b"x" * size, "abc")})

    # 49 KiB in base64 and the JSON around it; the kernel itself says where the limit is.
    fits = next(size for size in range(98_304, 98_000, -3) if not refused(sized, size))
    largest = sized(fits).files[0].content.decode().strip()
    subprocess.run(["true"], env={"CLIENT_CERTIFICATES": largest}, check=True, timeout=10)
    with pytest.raises(ExportError, match="Linux starts no app"):
        sized(fits + 3)
    if sys.platform != "linux" or os.sysconf("SC_PAGE_SIZE") != 4096:
        return  # elsewhere the kernel allows more, and the image may still run where it does not
    with pytest.raises(OSError, match="too long"):
        subprocess.run(["true"], env={"CLIENT_CERTIFICATES": largest + "xxxx"}, check=True, timeout=10)


def refused(make: Callable[[int], Bundle], size: int) -> bool:
    try:
        make(size)
    except ExportError:
        return True
    return False


def test_the_document_says_of_each_exporter_how_sure_it_is() -> None:
    text = (Path(__file__).parents[2] / "docs" / "exports.md").read_text()
    rows = {row.split("|")[1].strip(" `"): row for row in text.splitlines() if row.startswith("| `")}
    assert list(rows) == list(EXPORTERS)
    for kind, row in rows.items():
        standing = row.split("|")[3]
        assert "**run**" in standing or "**parsed**" in standing, kind
        assert "follows" in standing or "**run** with" in standing, kind
