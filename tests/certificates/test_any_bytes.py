"""Whatever the bytes: reading ends in an identity or a Refusal, and nothing else comes out of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certificates import der, intake
from certificates.der import Budget, Node, parse
from certificates.diagnosis import Refusal
from certificates.identities import Identity
from certificates.intake import Upload
from tests import pki
from tests.certificates.made import entry_password_file, pbmac1_file

PROJECT = Path(__file__).parents[2]
ISSUED = pki.issue("client.example.com", authority=pki.make_authority("Partner CA"))
SEEDS = [
    pki.pfx(ISSUED, "secret"),
    pki.pfx(ISSUED, ""),
    entry_password_file(ISSUED, "x"),
    pbmac1_file(ISSUED, "secret"),
]


def outcome(file: bytes, password: str = "secret") -> Identity | Refusal:
    try:
        return intake.read([Upload("file", file)], [password]).identities[0][0]
    except Refusal as refusal:
        return refusal


values = st.recursive(
    st.tuples(st.sampled_from([0x02, 0x04, 0x05, 0x06, 0x0C, 0x1E]), st.binary(max_size=20)),
    lambda inner: st.tuples(st.sampled_from([0x30, 0x31, 0xA0, 0x24]), st.lists(inner, max_size=5)),
    max_leaves=30,
)


def written(value: tuple[int, bytes | list[object]], *, indefinite: bool) -> bytes:
    tag, contents = value
    if isinstance(contents, bytes):
        return bytes([tag, len(contents)]) + contents
    body = b"".join(written(one, indefinite=indefinite) for one in contents)  # type: ignore[arg-type]
    if indefinite:
        return bytes([tag, 0x80]) + body + b"\0\0"
    size = len(body).to_bytes(3, "big")
    return bytes([tag, 0x83]) + size + body


@given(values)
def test_a_tree_is_the_same_in_every_encoding(value: tuple[int, bytes | list[object]]):
    encodings = [parse(written(value, indefinite=way), Budget()) for way in (False, True)]
    assert der.encode(encodings[0]) == der.encode(encodings[1])
    again = parse(der.encode(encodings[0]), Budget())
    assert der.encode(again) == der.encode(encodings[0])
    assert depth(again) <= der.MAX_DEPTH


def depth(node: Node) -> int:
    return max([node.depth, *(depth(child) for child in node.children)])


@given(st.binary(max_size=400))
def test_any_bytes_end_in_a_refusal(data: bytes):
    assert isinstance(outcome(data), Refusal)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=8)), max_size=4))
def test_a_file_with_other_bytes_in_it_ends_in_a_verdict(file: bytes, changes: list[tuple[int, bytes]]):
    changed = bytearray(file)
    for at, put in changes:
        at %= len(changed) + 1
        changed[at : at + len(put)] = put
    assert outcome(bytes(changed))


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_password_is_tried_or_refused(password: str):
    for seed in SEEDS[:1]:
        said = outcome(seed, password)
        assert isinstance(said, Identity) == (password == "secret")


@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the wheel of Atheris is for 3.11")
def test_the_fuzzer_finds_nothing_in_a_few_seconds(tmp_path: Path):
    for number, seed in enumerate(SEEDS):
        (tmp_path / f"seed-{number}").write_bytes(seed)
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.walker", "-max_total_time=8", "-max_len=4096", "-timeout=5",
         f"-artifact_prefix={tmp_path}/", str(tmp_path)],
        cwd=PROJECT, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "Done " in done.stderr, done.stderr[-2000:]
