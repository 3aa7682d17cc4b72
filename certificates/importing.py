"""What runs today, read from the configuration that runs it: Mendix settings, CLIENT_CERTIFICATES, an m2ee.yaml, a
MendixApp, or a list (CSV) of files. The opposite of the exporters.

No Django here. Follows the documents that rollouts/exporters/ names. Nothing is opened yet: a plan says which file is
which certificate, and which target is sent it.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

import yaml

from certificates.intake import Upload
from certificates.outline import MAX_FILE
from certificates.targets import HOST, IDENTIFIER, LONGEST_KEY, SERVICE, TargetError, interpret

MAX_CERTIFICATES: Final = 100
MAX_FILES_IN_A_ZIP: Final = 500
MAX_UNPACKED: Final = 16 * 1024 * 1024
COLUMNS: Final = ("application", "environment", "file", "password", "name", "targets")
SETTINGS: Final = (
    "CACertificates",
    "ClientCertificates",
    "ClientCertificatePasswords",
    "ClientCertificateUsages",
    "WebServiceClientCertificates",
    "NoClientCertificateUsages",
)
CERTIFICATES, AUTHORITIES, NEVER = (
    "CLIENT_CERTIFICATES",
    "CERTIFICATE_AUTHORITIES",
    "MXRUNTIME_NoClientCertificateUsages",
)


UNREADABLE: Final = "This YAML cannot be read; check its indentation, and write out what it has as anchors and aliases."


# What zipfile and its decompressors raise for damaged, encrypted and unknown entries.
UNZIPPABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,
    NotImplementedError,
    OSError,
    EOFError,
    ValueError,
)


class NotImportable(Exception):
    """Nothing can be planned from this: one sentence."""


@dataclass(frozen=True)
class Listed:
    """One certificate, in its place: the file that it stands in (None where it was not among what was sent)."""

    name: str
    file: str
    content: bytes | None = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True)
class Wish:
    """A target as the configuration spells it, and the place of its certificate from 0; None for *never*."""

    kind: str
    key: str
    place: int | None


@dataclass(frozen=True)
class Plan:
    """What would come in. `problems` are sentences that have to be solved first; `remarks` are worth knowing."""

    source: str
    certificates: tuple[Listed, ...] = ()
    pins: tuple[Wish, ...] = ()
    authorities: tuple[bytes, ...] = ()
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def plans(files: Sequence[Upload], pasted: str = "") -> dict[str, Plan]:
    """What these files and this text describe: by environment (`application/environment`) where a list names several,
    otherwise one plan under "". Raises NotImportable."""
    there = unpacked(files)
    if pasted.strip():
        there.insert(0, Upload("pasted text", pasted.encode("utf-8", "replace")))
    lists = [file for file in there if file.name.lower().endswith(".csv")]
    if lists:
        return from_list(lists[0], there)
    found: list[tuple[int, Plan]] = []
    for file in there:
        for order, read in enumerate(READERS):
            plan = read(file, there)
            if plan is not None:
                found.append((order, plan))
                break
    if not found:
        raise NotImportable(
            "Nothing here is a configuration that can be read; choose Mendix settings, CLIENT_CERTIFICATES, an "
            "m2ee.yaml, a MendixApp, or a list (CSV), together with the .pfx files."
        )
    # An export says the same in several files; the one that says most is it.
    return {"": min(found, key=lambda one: (one[0], -_weight(one[1])))[1]}


def _weight(plan: Plan) -> int:
    return len(plan.certificates) + len(plan.pins) + len(plan.authorities)


def unpacked(files: Sequence[Upload]) -> list[Upload]:
    """The files, and in the place of a zip what is in it. Raises NotImportable."""
    found: list[Upload] = []
    size = 0
    for file in files:
        if not file.content.startswith(b"PK\x03\x04"):
            found.append(file)
            continue
        try:
            with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
                size += sum(entry.file_size for entry in entries)
                if len(entries) > MAX_FILES_IN_A_ZIP or size > MAX_UNPACKED:
                    raise NotImportable(
                        f"The zip holds more than {MAX_FILES_IN_A_ZIP} files or {MAX_UNPACKED // 1024 // 1024} MiB; "
                        "take out what is no certificate."
                    )
                for entry in entries:
                    with archive.open(entry) as opened:
                        # The announced size is the sender's word.
                        found.append(Upload(entry.filename, opened.read(min(entry.file_size, MAX_FILE) + 1)))
        except UNZIPPABLE as error:
            words = "has a password" if "password" in str(error) or "encrypted" in str(error) else "is damaged"
            raise NotImportable(f"The zip {words}, so it cannot be opened; pack the files anew without one.") from None
    return found


# --- One configuration ------------------------------------------------------------------------------------------------


def from_variables(file: Upload, there: Sequence[Upload]) -> Plan | None:
    """The buildpack's variables: as a JSON object, as an env file, or CLIENT_CERTIFICATES alone."""
    text = _text(file)
    variables = _env(text)
    value = _json(text)
    if isinstance(value, dict) and CERTIFICATES in value:
        variables = {key: one for key, one in value.items() if isinstance(one, str)}
    elif isinstance(value, list):
        variables = {CERTIFICATES: text}
    elif CERTIFICATES not in variables:
        return None
    source = CERTIFICATES
    entries = _json(variables[CERTIFICATES])
    if not isinstance(entries, list):
        said = "is empty" if not variables[CERTIFICATES].strip() else "is no JSON list"
        return Plan(source, problems=(f"{CERTIFICATES} {said}, so the buildpack does not start with it; write [].",))
    problems, certificates, wishes = [], [], []
    for place, entry in enumerate(entries):
        number = place + 1
        if not isinstance(entry, dict) or not isinstance(entry.get("pfx"), str):
            problems.append(f"Certificate {number} has no text “pfx”; put its file there, in base64.")
            continue
        password, pins = entry.get("password"), entry.get("pin_to", [])
        if not isinstance(password, str):
            problems.append(f"Certificate {number} has no text “password”; the buildpack does not start without one.")
            continue
        if "," in password:
            problems.append(
                f"The password of certificate {number} has a comma, which the runtime takes for two passwords; "
                "import the file with another one."
            )
        if not isinstance(pins, list) or not all(isinstance(pin, str) for pin in pins):
            problems.append(f"“pin_to” of certificate {number} is no list of texts; the buildpack pins each letter.")
            pins = []
        content = _base64(entry["pfx"])
        if content is None:
            problems.append(f"“pfx” of certificate {number} is no base64; copy it once more.")
        certificates.append(Listed("", f"certificate {number}", content, password))
        wishes += [(pin, place) for pin in pins]
    authorities = variables.get(AUTHORITIES, "")
    if authorities and "-BEGIN CERTIFICATE-" not in authorities:
        decoded = _base64(authorities)
        authorities = "" if decoded is None else decoded.decode("latin-1")
        if decoded is None:
            problems.append(f"{AUTHORITIES} is neither PEM nor base64 of it; copy it once more.")
    never = _commas(variables.get(NEVER, ""))
    return _plan(source, certificates, wishes, never, [authorities.encode("latin-1", "ignore")], problems)


def from_manifest(file: Upload, there: Sequence[Upload]) -> Plan | None:
    """A MendixApp, or a patch of one."""
    read = _yaml(_text(file))
    if read is None and re.search(r"^kind: *[\"']?MendixApp", _text(file), re.MULTILINE):
        return Plan("MendixApp", problems=(UNREADABLE,))
    runtime = _inside(read, "spec", "runtime")
    if not isinstance(runtime, dict) or not ({"clientCertificates", "customConfiguration"} & set(runtime)):
        return None
    problems, certificates, wishes = [], [], []
    entries = runtime.get("clientCertificates") or []
    if not isinstance(entries, list):
        entries = []
        problems.append("spec.runtime.clientCertificates is no list; write one entry for each certificate.")
    for place, entry in enumerate(entries):
        number = place + 1
        key, password = (entry.get(name) if isinstance(entry, dict) else None for name in ("key", "password"))
        content, plain = (_base64(one) if isinstance(one, str) else None for one in (key, password))
        if content is None:
            problems.append(f"“key” of certificate {number} is no base64 of a file; copy it once more.")
        if not plain:
            problems.append(f"“password” of certificate {number} is no base64 or empty, which the operator refuses.")
        pins = entry.get("pinTo") or [] if isinstance(entry, dict) else []
        if not isinstance(pins, list) or not all(isinstance(pin, str) for pin in pins):
            problems.append(f"“pinTo” of certificate {number} is no list of texts.")
            pins = []
        text = (plain or b"").decode("utf-8", "replace")
        certificates.append(Listed("", f"certificate {number}", content, text))
        wishes += [(pin, place) for pin in pins]
    custom = runtime.get("customConfiguration") or "{}"
    extra = _json(custom) if isinstance(custom, str) else custom
    if not isinstance(extra, dict):
        problems.append("customConfiguration is no JSON object in a text; correct it first.")
        extra = {}
    never = extra.get("NoClientCertificateUsages", "")
    return _plan("MendixApp", certificates, wishes, _commas(never if isinstance(never, str) else ""), [], problems)


def from_m2ee(file: Upload, there: Sequence[Upload]) -> Plan | None:
    """An m2ee.yaml, or a fragment of it."""
    read = _yaml(_text(file))
    if read is None and re.search(r"^mxruntime *:", _text(file), re.MULTILINE):
        return Plan("m2ee.yaml", problems=(UNREADABLE,))
    values = read.get("mxruntime") if isinstance(read, dict) else None
    if not isinstance(values, dict) or not set(SETTINGS) & set(values):
        return None
    return from_settings("m2ee.yaml", values, there)


def from_mendix(file: Upload, there: Sequence[Upload]) -> Plan | None:
    """Settings as Studio Pro's Custom tab has them: a JSON object, or a text with names and values."""
    text = _text(file)
    values = _json(text)
    if not isinstance(values, dict):
        values = _blocks(text)
    if not set(SETTINGS) & set(values):
        return None
    return from_settings("Mendix settings", values, there)


READERS: Final[tuple[Callable[[Upload, Sequence[Upload]], Plan | None], ...]] = (
    from_variables,
    from_manifest,
    from_m2ee,
    from_mendix,
)


def from_settings(source: str, values: Mapping[str, Any], there: Sequence[Upload]) -> Plan:
    """The runtime's settings, whose lists are texts with commas or, in m2ee.yaml, lists."""
    problems: list[str] = []
    lists = {name: _listed(name, values.get(name), problems) for name in SETTINGS if "Usages" not in name}
    paths, passwords = lists["ClientCertificates"], lists["ClientCertificatePasswords"]
    if len(paths) != len(passwords):
        problems.append(
            f"ClientCertificates lists {_n(len(paths), 'file')} and ClientCertificatePasswords "
            f"{_n(len(passwords), 'password')}; perhaps a password has a comma or is empty."
        )
        passwords = [*passwords, *[""] * len(paths)][: len(paths)]
    for path in dict.fromkeys(path for path in paths if paths.count(path) > 1):
        problems.append(f"ClientCertificates lists {_base(path)} twice; list it once.")
    found = _Files(there)
    certificates = []
    for path, password in zip(paths, passwords, strict=True):
        if "," in password:
            problems.append(f"The password of {_base(path)} has a comma, which the runtime takes for two passwords.")
        content = found.of(path, problems)
        certificates.append(Listed("", _base(path), content, password))
    usages = _usages(values, problems)
    wishes: list[tuple[str, int]] = []
    never = _commas(str(values.get("NoClientCertificateUsages") or ""))
    for key, path in usages.items():
        if path == "":
            never = [*never, key]
        elif path in paths:
            wishes.append((key, paths.index(path)))
        else:
            problems.append(f"{_shown(key)} is pinned to {_base(path)}, which ClientCertificates does not list.")
    # An empty path that NoClientCertificateUsages does not repeat is how an identifier is sent none.
    said = set(_commas(str(values.get("NoClientCertificateUsages") or "")))
    alone = {key for key, path in usages.items() if path == "" and key not in said}
    alone = alone if "NoClientCertificateUsages" in values else set()
    authorities = []
    for path in lists["CACertificates"]:
        if (content := found.of(path, [])) is None:
            problems.append(f"CACertificates names {_base(path)}, which is not among the files; add it.")
        else:
            authorities.append(content)
    return _plan(source, certificates, wishes, never, authorities, problems, identifiers=alone)


# --- A list of many ---------------------------------------------------------------------------------------------------


def from_list(file: Upload, there: Sequence[Upload]) -> dict[str, Plan]:
    """A CSV with a line for each certificate: application, environment, file, password, name, targets. A line without
    a file says which targets are never sent one. Raises NotImportable."""
    text = file.content.decode("utf-8-sig", "replace")
    head = text.split("\n", 1)[0]
    rows = csv.DictReader(io.StringIO(text), delimiter=";" if head.count(";") > head.count(",") else ",")
    names = [str(name or "").strip().lower() for name in rows.fieldnames or ()]
    if missing := [column for column in COLUMNS if column not in names]:
        raise NotImportable(
            f"The list lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"its first line has to be {','.join(COLUMNS)}."
        )
    rows.fieldnames = names
    found = _Files(there)
    gathered: dict[str, tuple[list[Listed], list[tuple[str, int]], list[str], list[str]]] = {}
    try:
        for number, row in enumerate(rows, start=2):
            given = {column: (row.get(column) or "") for column in COLUMNS}
            where = "/".join(given[column].strip() for column in ("application", "environment"))
            if not any(value.strip() for value in given.values()):
                continue
            certificates, wishes, never, problems = gathered.setdefault(where, ([], [], [], []))
            targets = [one for one in re.split(r"[\s;|]+", given["targets"]) if one]
            if not given["file"].strip():
                never += targets
                if not targets:
                    problems.append(f"Line {number} names neither a file nor a target.")
                continue
            content = found.of(given["file"].strip(), problems)
            wishes += [(target, len(certificates)) for target in targets]
            certificates.append(Listed(given["name"].strip(), _base(given["file"].strip()), content, given["password"]))
    except csv.Error:
        raise NotImportable("The list is no CSV; save it once more as “CSV UTF-8”.") from None
    if not gathered:
        raise NotImportable("The list has no line below its first; add one for each certificate.")
    return {where: _plan("list (CSV)", *parts[:3], [], parts[3]) for where, parts in gathered.items()}


# --- What they share --------------------------------------------------------------------------------------------------


def _plan(
    source: str,
    certificates: list[Listed],
    wishes: Iterable[tuple[str, int]],
    never: Iterable[str],
    authorities: list[bytes],
    problems: list[str],
    identifiers: Iterable[str] = (),
) -> Plan:
    remarks: list[str] = []
    pins: dict[str, Wish] = {}
    places: list[tuple[str, int | None]] = [*wishes, *((key, None) for key in dict.fromkeys(never))]
    for text, place in places:
        wish, said = _wish(text, place, literally=text in set(identifiers))
        if wish is None:
            problems.append(said)
            continue
        if said:
            remarks.append(said)
        if (before := pins.get(wish.key)) is not None:
            if before.place == place:
                continue
            both = "pinned and never sent a certificate" if None in (before.place, place) else "pinned twice"
            problems.append(f"{_shown(wish.key)} is {both}; which of the two counts is not documented: keep one.")
            continue
        pins[wish.key] = wish
    for number, one in enumerate(certificates, start=1):
        if not one.password.isascii():
            remarks.append(
                f"The password of certificate {number}, {one.file}, is not ASCII, which Java does not take; "
                "exports get another one."
            )
        if one.content is not None and len(one.content) > MAX_FILE:
            problems.append(f"{one.file} is larger than 1 MiB, so it is no certificate.")
        if one.content is None and not any(one.file in problem for problem in problems):
            remarks.append(
                f"{one.file} is not among the files: it is listed without its key, and until that is uploaded an apply "
                "leaves it and its pins out."
            )
    if len(certificates) > MAX_CERTIFICATES:
        problems.append(f"These are {len(certificates)} certificates; at most {MAX_CERTIFICATES} come in at once.")
    return Plan(
        source, tuple(certificates), tuple(pins.values()), tuple(one for one in authorities if one), tuple(problems),
        tuple(dict.fromkeys(remarks)),
    )  # fmt: skip


def _wish(text: str, place: int | None, *, literally: bool) -> tuple[Wish | None, str]:
    """The target with the key exactly as it stands in the configuration; with a remark, or with what is wrong."""
    text = text.strip()
    if not text:
        return None, "A pin has no name; take it out."
    if len(text) > LONGEST_KEY or not text.isprintable() or "," in text:
        return None, f"The pin {_shown(text)} has a comma, invisible characters or more than {LONGEST_KEY} of them."
    if not literally:
        try:
            read = interpret(text)
        except TargetError:
            read = None
        if read is not None and read.key == text:
            return Wish(read.kind, text, place), ""
        if read is not None and read.kind in (HOST, SERVICE):
            said = f"{_shown(text)} is kept as it is written, as an identifier; for the host, pin {read.key}."
            return Wish(IDENTIFIER, text, place), said
    return Wish(IDENTIFIER, text, place), ""


class _Files:
    """Finds what a path means among the files: the one of this name, and of several the one in the likest folder."""

    def __init__(self, there: Sequence[Upload]) -> None:
        self._by_name: dict[str, list[Upload]] = {}
        for file in there:
            self._by_name.setdefault(_base(file.name).lower(), []).append(file)

    def of(self, path: str, problems: list[str]) -> bytes | None:
        named = self._by_name.get(_base(path).lower(), [])
        if not named:
            return None
        parts = [part.lower() for part in re.split(r"[\\/]", path)][::-1]

        def alike(file: Upload) -> int:
            theirs = [part.lower() for part in PurePosixPath(file.name.replace("\\", "/")).parts][::-1]
            return next((n for n, (a, b) in enumerate(zip(parts, theirs, strict=False)) if a != b), len(theirs))

        best = max(map(alike, named))
        likest = [file for file in named if alike(file) == best]
        if len({file.content for file in likest}) > 1:
            problems.append(f"Several files are called {_base(path)}; keep them in their folders in one zip.")
            return None
        return likest[0].content


def _usages(values: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("ClientCertificateUsages", "WebServiceClientCertificates"):
        given = values.get(name)
        if isinstance(given, str) and given.strip() and given.strip() != "(leave empty)":
            text, given = given, _json(given)
            keys = _keys_of(text)
            for key in dict.fromkeys(key for key in keys if keys.count(key) > 1):
                problems.append(f"{name} has {_shown(key)} twice; keep one of the two.")
        if not given or given == "(leave empty)":
            if isinstance(values.get(name), str) and values[name].strip() not in ("", "{}", "(leave empty)"):
                problems.append(
                    f'{name} is no object in braces; write {{ "name": "path" }} and double every backslash.'
                )
            continue
        if not isinstance(given, dict) or not all(isinstance(path, str) for path in given.values()):
            problems.append(f"{name} has to give one path for each name.")
            continue
        found |= {str(key): path for key, path in given.items()}
    return found


def _keys_of(text: str) -> list[str]:
    """The keys of a JSON object, each as often as it stands there."""
    keys: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys.extend(key for key, _value in pairs)
        return dict(pairs)

    try:
        json.loads(text, object_pairs_hook=note)
    except (ValueError, RecursionError):
        return []
    return keys


def _listed(name: str, value: Any, problems: list[str]) -> list[str]:
    if value is None or value == "(leave empty)":
        return []
    if isinstance(value, list):
        if all(isinstance(one, str | int) for one in value):
            return [str(one) for one in value]
        problems.append(f"{name} is a list with something else than texts in it.")
        return []
    if not isinstance(value, str | int):
        problems.append(f"{name} is neither a text nor a list of texts.")
        return []
    # The documents' own examples have a blank after the comma.
    return [part.strip() for part in str(value).split(",")] if str(value).strip() else []


def _blocks(text: str) -> dict[str, str]:
    """`Name`, and in the lines below or behind `=`, `:` or a tab its value."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        match = re.match(rf"\s*({'|'.join(SETTINGS)})\s*(?:[=:\t]\s*(.*))?$", line)
        if match:
            name = match[1]
            found[name] = (match[2] or "").strip()
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _env(text: str) -> dict[str, str]:
    """`NAME='value'` a line, with or without `export` and quotation marks."""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)=(.*)$", line):
            value = match[2].strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            found[match[1]] = value
    return found


def _text(file: Upload) -> str:
    """ "" for what is no text."""
    if len(file.content) > MAX_FILE or b"\0" in file.content[:4096]:
        return ""
    return file.content.decode("utf-8-sig", "ignore")


def _json(text: str) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _yaml(text: str) -> Any:
    """None for what is no YAML, or has several documents. Aliases are not followed: none of these files needs one."""
    if not re.search(r"^\s*[\"']?(mxruntime|spec)[\"']?\s*:", text, re.MULTILINE) and not text.lstrip().startswith("{"):
        return None
    try:
        documents = [one for one in yaml.load_all(text, Loader=_Loader) if one is not None]  # a safe one
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return documents[0] if len(documents) == 1 else None


class _Loader(yaml.SafeLoader):
    """Without aliases, of which a few lines make gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def _inside(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _base64(text: str) -> bytes | None:
    """None for what is no base64."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip() and text != "(leave empty)"]


def _base(path: str) -> str:
    """The last part of a path of Windows or of another system."""
    return re.split(r"[\\/]", path)[-1]


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in text)[:80]


def _n(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
