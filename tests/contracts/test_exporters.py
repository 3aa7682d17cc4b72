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
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certificates.content import Bundle, Content, PinnedTarget, Slot, WrittenPfx
from certificates.selection import select
from certificates.targets import TargetError, interpret
from rollouts.exporters import EXPORTERS, Exporter, ExportError, export, exporter
from sandbox import mendix

pytestmark = pytest.mark.contract


@dataclass(frozen=True)
class Runtime:
    """What a runtime knows after it has read a bundle: its certificates in order, and a path or "" for each key."""

    certificates: tuple[tuple[str, bytes, str], ...]
    usages: dict[str, str]
    never: frozenset[str]

    def presents(self, key: str) -> bytes | str:
        """The PFX for a key, or `never`, `any`, `none`: the rules of mendix/docs, use-a-client-certificate.md."""
        if key in self.never or self.usages.get(key) == "":
            return "never"
        by_path = {path: pfx for path, pfx, _ in self.certificates}
        if key in self.usages:
            return by_path[self.usages[key]]
        return "any" if by_path else "none"


def from_settings(settings: dict[str, Any], read: Callable[[str], bytes]) -> Runtime:
    """mendix/docs, refguide/runtime/custom-settings: comma lists in the same order; usages in braces."""
    paths = settings["ClientCertificates"].split(",") if settings["ClientCertificates"] else []
    passwords = settings["ClientCertificatePasswords"].split(",") if settings["ClientCertificatePasswords"] else []
    usages = settings["ClientCertificateUsages"]
    usages = json.loads(usages) if isinstance(usages, str) else usages
    assert {path for path in usages.values() if path} <= set(paths), "every path must be in ClientCertificates"
    never = settings.get("NoClientCertificateUsages", "")
    certificates = tuple((path, read(path), password) for path, password in zip(paths, passwords, strict=True))
    return Runtime(certificates, usages, frozenset(never.split(",") if never else ()))


def read_mendix_settings(bundle: Bundle, content: Content) -> Runtime:
    """As pasted from custom-settings.json in Studio Pro's Custom tab, with the files in the base folder."""
    files = {file.path: file.content for file in bundle.files}
    settings = json.loads(files["custom-settings.json"])
    assert all(isinstance(value, str) for value in settings.values())
    windows = "\\" in content.base_folder or content.base_folder[1:2] == ":"
    paths = PureWindowsPath if windows else PurePosixPath
    return from_settings(settings, lambda path: files[paths(path).relative_to(paths(content.base_folder)).as_posix()])


def read_buildpack_env(bundle: Bundle, content: Content) -> Runtime:
    """mendix/cf-mendix-buildpack v5.0.31: README "Client Certificates", buildpack/core/security.py and runtime.py.

    Each PFX becomes .local/client_certificate.<n>.crt; of two equal pins the last one wins; MXRUNTIME_ replaces a key.
    """
    files = {file.path: file.content.decode("ascii") for file in bundle.files}
    variables = {}
    for line in files["environment.env"].splitlines():
        name, _, value = line.partition("=")
        assert value[0] == value[-1] == "'"
        assert "'" not in value[1:-1]
        variables[name] = value[1:-1]
    assert json.loads(files["CLIENT_CERTIFICATES.json"]) == json.loads(variables["CLIENT_CERTIFICATES"])
    written: dict[str, bytes] = {}
    passwords, usages = [], {}
    for number, entry in enumerate(json.loads(variables["CLIENT_CERTIFICATES"])):
        path = f"/home/vcap/app/.local/client_certificate.{number}.crt"
        written[path] = base64.b64decode(entry["pfx"], validate=True)
        passwords.append(entry["password"])
        assert isinstance(entry["pin_to"], list)
        usages.update(dict.fromkeys(entry["pin_to"], path))
    settings = {
        "ClientCertificates": ",".join(written),
        "ClientCertificatePasswords": ",".join(passwords),
        "ClientCertificateUsages": usages,
        "NoClientCertificateUsages": variables.get("MXRUNTIME_NoClientCertificateUsages", ""),
    }
    return from_settings(settings, written.__getitem__)


READERS: dict[str, Callable[[Bundle, Content], Runtime]] = {
    "mendix-settings": read_mendix_settings,
    "buildpack-env": read_buildpack_env,
}

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


def written(content: Content) -> dict[str, WrittenPfx]:
    """A stand-in for each PFX: exporters do not open them."""
    return {
        slot.slug: WrittenPfx(b"\x30\x82 key of %d " % number * 40, f"Password{number:03}x")
        for number, slot in enumerate(content.slots)
    }


def exported(kind: str, content: Content) -> tuple[Bundle, Runtime]:
    bundle = export(kind, content, written(content))
    return bundle, READERS[kind](bundle, content)


def assert_it_says_the_content(kind: str, content: Content, *more_keys: str) -> None:
    """Every slot once and in order, and for each key the same answer as `selection.select`."""
    _, runtime = exported(kind, content)
    pfx = written(content)
    assert [(found, password) for _, found, password in runtime.certificates] == [
        (pfx[slot.slug].pfx, pfx[slot.slug].password) for slot in content.slots
    ]
    for key in (*(pin.key for pin in content.pins), *more_keys):
        selection = select(content, key)
        expected = selection.rule if selection.slug is None else pfx[selection.slug].pfx
        assert runtime.presents(key) == expected, key


def test_every_exporter_has_its_published_reader() -> None:
    assert READERS.keys() == EXPORTERS.keys()


@every_exporter
def test_it_introduces_itself_to_the_page(kind: str) -> None:
    found: Exporter = exporter(kind)
    assert found.kind == kind
    assert found.title
    assert found.description.endswith(".")


@every_exporter
def test_the_files_say_what_selection_says(kind: str) -> None:
    assert_it_says_the_content(kind, CONTENT, "other.example.com", "", "API.EXAMPLE.COM")


@every_exporter
def test_a_hundred_and_one_certificates_keep_their_order(kind: str) -> None:
    slots = tuple(Slot(f"s-{number}", "0" * 64) for number in range(101, 0, -1))
    assert_it_says_the_content(kind, dataclasses.replace(CONTENT, slots=slots, pins=()), "x.example")


@every_exporter
def test_nothing_to_send_is_exported_as_nothing(kind: str) -> None:
    bundle, runtime = exported(kind, NOTHING)
    assert (runtime.certificates, runtime.usages, runtime.never) == ((), {}, frozenset())
    assert not [file.path for file in bundle.files if file.path.endswith(".pfx")]


@every_exporter
def test_never_send_is_exported_even_without_certificates(kind: str) -> None:
    never = tuple(pin for pin in PINS if pin.slug is None)
    assert_it_says_the_content(kind, dataclasses.replace(NOTHING, pins=never), "x.example")


@every_exporter
def test_the_same_content_gives_the_same_bytes(kind: str) -> None:
    shuffled = dataclasses.replace(CONTENT, pins=CONTENT.pins[::-1])
    reversed_pfx = dict(reversed(written(CONTENT).items()))
    first, second = export(kind, CONTENT, written(CONTENT)), export(kind, shuffled, reversed_pfx)
    assert first.files == second.files
    assert first.preview == second.preview
    assert first.digest == second.digest


@every_exporter
def test_no_secret_is_in_the_preview_and_every_file_has_one(kind: str) -> None:
    bundle = export(kind, CONTENT, written(CONTENT))
    shown = "\n".join(bundle.preview.values()) + repr(bundle)
    for one in written(CONTENT).values():
        assert one.password not in shown
        assert base64.b64encode(one.pfx).decode()[:12] not in shown
        assert "key of" not in shown
    assert set(bundle.preview) == {file.path for file in bundle.files}
    assert "••••••" in shown
    assert f"{len(written(CONTENT)['bank'].pfx):,} bytes" in shown


@every_exporter
def test_a_file_with_a_secret_is_marked(kind: str) -> None:
    for file in export(kind, CONTENT, written(CONTENT)).files:
        holds = any(
            one.password.encode() in file.content or one.pfx in file.content for one in written(CONTENT).values()
        )
        assert file.secret or not holds, file.path


@every_exporter
def test_the_paths_are_relative_and_stay_inside(kind: str) -> None:
    hostile = ("../../etc/passwd", "a/b", "a\\b", "c:d", "ünï", "a,b", "x'y\"z", "..", "-", "𝔘" * 200)
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
@given(
    keys=st.sets(
        st.one_of(
            st.text(min_size=1, max_size=30),
            st.text(alphabet="aä\\\"'${}`%u0 ", min_size=1, max_size=20),
            st.sampled_from(["'", '"', "\\", "\\'", '\\"', "$(id)", "${A}", "%PATH%", "{}", "𝔘", "\\u0041", "a=b #c"]),
        ),
        max_size=6,
    )
)
def test_strange_identifiers_come_back_unharmed(kind: str, keys: set[str]) -> None:
    pins = []
    for key in keys:
        try:
            target = interpret(key, "identifier")
        except TargetError:
            continue
        pins.append(PinnedTarget("identifier", target.key, "bank"))
    assert_it_says_the_content(kind, dataclasses.replace(CONTENT, pins=tuple({pin.key: pin for pin in pins}.values())))


@every_exporter
@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"runtime": "abacus"}, "abacus"),
        ({"pins": (PinnedTarget("identifier", "a,b", "bank"),)}, "comma"),
        ({"pins": (PinnedTarget("identifier", "a\nb", "bank"),)}, "invisible"),
        ({"pins": (PinnedTarget("host", "*.example", "bank"),)}, "wildcards"),
        ({"pins": (PinnedTarget("host", "a.example", "gone"),)}, "not enabled here"),
        ({"pins": (PINS[0], dataclasses.replace(PINS[0], slug="bank"))}, "2 times"),
        ({"slots": (*SLOTS, SLOTS[0])}, "2 times"),
        ({"authorities": ("0" * 64,)}, "authorities"),
    ],
)
def test_what_cannot_be_expressed_is_refused_in_one_sentence(kind: str, change: dict[str, Any], part: str) -> None:
    content = dataclasses.replace(CONTENT, **change)
    with pytest.raises(ExportError, match=part) as refused:
        export(kind, content, written(content))
    assert str(refused.value).endswith(".")


@every_exporter
@pytest.mark.parametrize("password", ["", "a,b", " a", "pässword", "a\nb", "a'b"])
def test_a_password_that_a_list_cannot_carry_is_refused_and_not_repeated(kind: str, password: str) -> None:
    pfx = written(CONTENT) | {"bank": WrittenPfx(b"pfx", password)}
    with pytest.raises(ExportError, match="export password of bank is not made of ASCII letters") as refused:
        export(kind, CONTENT, pfx)
    assert str(refused.value) == ("The export password of bank is not made of ASCII letters and digits; export again.")


@every_exporter
def test_the_written_files_must_be_those_of_the_slots(kind: str) -> None:
    pfx = written(CONTENT)
    with pytest.raises(ExportError, match="extra is not part"):
        export(kind, CONTENT, pfx | {"extra": WrittenPfx(b"pfx", "abc")})
    with pytest.raises(ExportError, match="bank is empty"):
        export(kind, CONTENT, pfx | {"bank": WrittenPfx(b"", "abc")})
    del pfx["bank"]
    with pytest.raises(ExportError, match="bank was not opened"):
        export(kind, CONTENT, pfx)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ExportError, match="abacus"):
        export("abacus", NOTHING, {})


# --- mendix-settings ---


def settings_of(folder: str, content: Content = CONTENT) -> dict[str, str]:
    content = dataclasses.replace(content, base_folder=folder)
    files = {file.path: file.content for file in export("mendix-settings", content, written(content)).files}
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
        "ClientCertificates": r"D:\App\certificates\01-mx1.pfx,D:\App\certificates\02-mx2.pfx",
        "ClientCertificatePasswords": "Password000x,Password001x",
        "ClientCertificateUsages": (
            r'{"Module.WebService1": "D:\\App\\certificates\\01-mx1.pfx", "Module.WebService2": "", '
            r'"www.server-to-contact.com": "D:\\App\\certificates\\02-mx2.pfx"}'
        ),
        "NoClientCertificateUsages": "Module.WebService2",
    }


def test_mendix_settings_for_no_certificates_are_empty_texts_and_braces() -> None:
    assert settings_of("/srv", NOTHING) == {
        "ClientCertificates": "",
        "ClientCertificatePasswords": "",
        "ClientCertificateUsages": "{}",
        "NoClientCertificateUsages": "",
    }


def test_the_text_for_people_holds_the_same_values() -> None:
    content = dataclasses.replace(CONTENT, base_folder="D:\\App")
    bundle = export("mendix-settings", content, written(content))
    files = {file.path: file.content.decode() for file in bundle.files if not file.path.endswith(".pfx")}
    blocks = dict(block.split("\n", 1) for block in files["custom-settings.txt"].strip().split("\n\n"))
    assert blocks == json.loads(files["custom-settings.json"])
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
        passwords = [written(content)[slug].password for slug in selection.candidates]
        assert [certificate.password for certificate in choice.offered] == passwords


@pytest.mark.parametrize(
    ("folder", "first"),
    [
        ("/srv/app", "/srv/app/certificates/01-partner-b.pfx"),
        ("/srv/app/", "/srv/app/certificates/01-partner-b.pfx"),
        ("/", "/certificates/01-partner-b.pfx"),
        ("/srv/my app/ü", "/srv/my app/ü/certificates/01-partner-b.pfx"),
        ("D:\\App", r"D:\App\certificates\01-partner-b.pfx"),
        ("D:\\App\\", r"D:\App\certificates\01-partner-b.pfx"),
        ("D:/App", r"D:\App\certificates\01-partner-b.pfx"),
        ("D:\\", r"D:\certificates\01-partner-b.pfx"),
        ("\\\\server\\share", r"\\server\share\certificates\01-partner-b.pfx"),
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
    for file in export("buildpack-env", content, written(content)).files:
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
    bundle = export("buildpack-env", CONTENT, written(CONTENT))
    entries = json.loads(bundle.files[0].content)
    assert [entry["pin_to"] for entry in entries] == [[], ["api.example.com"], ["Billing.PaymentService", "MY_S3"]]


def test_the_buildpack_cannot_be_told_to_send_none_to_an_identifier() -> None:
    content = dataclasses.replace(CONTENT, pins=(PinnedTarget("identifier", "MY_S3", None),))
    with pytest.raises(ExportError, match="hosts and services only"):
        export("buildpack-env", content, written(content))


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
