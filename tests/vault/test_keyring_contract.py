"""What every keyring must do, whatever holds its keys. A new line in the registry is tested here by itself."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from vault.errors import KeyExists, KeyMissing, KeyringAbsent, KeyringUnusable, TamperedOrMoved
from vault.keyrings import KEYRINGS, Keyring, configured, load

pytestmark = pytest.mark.contract


@pytest.fixture(params=sorted(KEYRINGS))
def kind(request: pytest.FixtureRequest) -> type[Keyring]:
    return load(request.param)


@pytest.fixture
def options(kind: type[Keyring], tmp_path: Path) -> dict[str, Any]:
    return kind.trial_options(tmp_path)


@pytest.fixture
def ring(kind: type[Keyring], options: dict[str, Any]) -> Keyring:
    kind.generate(options)
    return kind.from_options(options)


def test_before_a_key_was_made_it_says_that_there_is_none(kind: type[Keyring], options: dict[str, Any]) -> None:
    with pytest.raises(KeyringAbsent):
        kind.from_options(options)


def test_the_first_key_is_active_and_has_a_proper_id(kind: type[Keyring], options: dict[str, Any]) -> None:
    key_id = kind.generate(options)
    ring = kind.from_options(options)
    assert ring.active_id == key_id
    assert ring.key_ids == {key_id}
    assert re.fullmatch(r"[a-z0-9._:/-]{1,64}", key_id)


def test_an_existing_key_is_never_overwritten(kind: type[Keyring], options: dict[str, Any], ring: Keyring) -> None:
    before = ring.check_value(ring.active_id)
    with pytest.raises(KeyExists):
        kind.generate(options)
    assert kind.from_options(options).check_value(ring.active_id) == before


def test_a_wrapped_key_comes_back(ring: Keyring) -> None:
    data_key = os.urandom(32)
    wrapped = ring.wrap(ring.active_id, data_key, context=b"here")
    assert 1 <= len(wrapped) <= 4096
    assert data_key not in wrapped
    assert ring.unwrap(ring.active_id, wrapped, context=b"here") == data_key


def test_it_comes_back_after_the_ring_was_opened_again(
    kind: type[Keyring], options: dict[str, Any], ring: Keyring
) -> None:
    wrapped = ring.wrap(ring.active_id, bytes(32), context=b"here")
    again = kind.from_options(options)
    assert again.unwrap(ring.active_id, wrapped, context=b"here") == bytes(32)
    assert again.check_value(ring.active_id) == ring.check_value(ring.active_id)


def test_another_context_or_a_changed_byte_is_refused(ring: Keyring) -> None:
    wrapped = ring.wrap(ring.active_id, bytes(32), context=b"here")
    with pytest.raises(TamperedOrMoved):
        ring.unwrap(ring.active_id, wrapped, context=b"there")
    with pytest.raises(TamperedOrMoved):
        ring.unwrap(ring.active_id, wrapped[:-1] + bytes([wrapped[-1] ^ 1]), context=b"here")
    with pytest.raises(TamperedOrMoved):
        ring.unwrap(ring.active_id, b"", context=b"here")


def test_an_unknown_id_is_a_missing_key_everywhere(ring: Keyring) -> None:
    for attempt in (
        lambda: ring.check_value("nobody/1"),
        lambda: ring.wrap("nobody/1", bytes(32), context=b""),
        lambda: ring.unwrap("nobody/1", bytes(104), context=b""),
    ):
        with pytest.raises(KeyMissing, match="nobody/1"):
            attempt()


def test_check_values_are_sixteen_hex_digits_and_differ_between_rings(
    kind: type[Keyring], ring: Keyring, tmp_path: Path
) -> None:
    other_options = kind.trial_options(tmp_path / "other")
    other_id = kind.generate(other_options)
    other = kind.from_options(other_options).check_value(other_id)
    assert re.fullmatch(r"[0-9a-f]{16}", other)
    assert other != ring.check_value(ring.active_id)


def test_it_says_where_the_keys_are(kind: type[Keyring], options: dict[str, Any]) -> None:
    assert kind.whereabouts(options)


def test_the_setting_names_the_keyring_and_the_rest_are_its_options() -> None:
    kind, options = configured({"name": "local", "path": "/somewhere"})
    assert kind is load("local")
    assert options == {"path": "/somewhere"}


@pytest.mark.parametrize("setting", [{}, {"name": "cloud"}])
def test_a_keyring_that_nobody_registered_is_refused_with_those_that_are(setting: dict[str, Any]) -> None:
    with pytest.raises(KeyringUnusable, match="local"):
        configured(setting)
