"""The key file: made once, for its owner alone, and refused when it is anything else."""

import json
import os
import pickle
import stat
from pathlib import Path

import pytest

from vault.errors import KeyExists, KeyringUnusable
from vault.keyrings import local
from vault.keyrings.local import LocalKeyring


def test_the_file_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o777):
        path = tmp_path / f"{umask:o}" / "vault.key"
        path.parent.mkdir()
        before = os.umask(umask)
        try:
            local.generate(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o610])
def test_a_file_that_others_may_use_is_refused_with_its_mode(mode: int, key_file: Path) -> None:
    key_file.chmod(mode)
    with pytest.raises(KeyringUnusable, match=f"{mode:04o}"):
        LocalKeyring.from_options({"path": key_file})


def test_a_credential_that_systemd_hands_over_may_show_the_bit_of_its_access_control_list(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(key_file.parent))
    key_file.chmod(0o440)
    assert LocalKeyring.from_options({"path": key_file}).key_ids
    for more in (0o460, 0o444):
        key_file.chmod(more)
        with pytest.raises(KeyringUnusable, match=f"{more:04o}"):
            LocalKeyring.from_options({"path": key_file})
    key_file.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(key_file.parent.parent))
    with pytest.raises(KeyringUnusable, match="0440"):
        LocalKeyring.from_options({"path": key_file})


def test_a_stricter_mode_is_welcome(key_file: Path) -> None:
    key_file.chmod(0o400)
    assert LocalKeyring.from_options({"path": key_file}).active_id


def test_a_file_of_another_user_is_refused(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(key_file, 65_534, -1)
    else:
        # Only root can give a file away; anybody can be somebody else than its owner.
        monkeypatch.setattr(os, "geteuid", lambda: key_file.stat().st_uid + 1)
    with pytest.raises(KeyringUnusable, match=f"belongs to user {key_file.stat().st_uid};"):
        LocalKeyring.from_options({"path": key_file})


def test_a_link_to_the_file_is_followed_and_the_file_is_judged(key_file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(key_file)
    assert LocalKeyring.from_options({"path": link}).active_id
    key_file.chmod(0o644)
    with pytest.raises(KeyringUnusable, match="0644"):
        LocalKeyring.from_options({"path": link})


def test_a_folder_or_a_pipe_is_not_a_key_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(KeyringUnusable, match="not a regular file"):
            LocalKeyring.from_options({"path": path})


KEY = "A" * 43 + "="  # 32 zero bytes


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"SECRETSECRET",
        b"\xff\xfe",
        b"[]",
        b'{"format": 2, "active": "a", "keys": {}}',
        b'{"format": 1, "active": "a", "keys": {}}',
        b'{"format": 1, "active": ["a"], "keys": {"a": "SECRET"}}',
        json.dumps({"format": 1, "active": ["a"], "keys": {"a": KEY}}).encode(),
        json.dumps({"format": 1, "active": "b", "keys": {"a": KEY}}).encode(),
        json.dumps({"format": 1, "active": "a", "keys": {"a": KEY[4:]}}).encode(),
        json.dumps({"format": 1, "active": "A", "keys": {"A": KEY}}).encode(),
        json.dumps({"format": 1, "active": "a", "keys": [KEY]}).encode(),
        b"[" * 100_000,
        b" " * 200_000,
    ],
)
def test_anything_else_in_the_file_is_refused_without_quoting_it(content: bytes, key_file: Path) -> None:
    key_file.write_bytes(content)
    with pytest.raises(KeyringUnusable) as refusal:
        LocalKeyring.from_options({"path": key_file})
    assert str(key_file) in str(refusal.value)
    assert "SECRET" not in str(refusal.value)
    assert "AAAA" not in str(refusal.value)


@pytest.mark.parametrize("options", [{}, {"path": ""}, {"path": "vault.key"}])
def test_a_path_must_be_given_and_absolute(options: dict) -> None:
    with pytest.raises(KeyringUnusable, match="absolute"):
        LocalKeyring.from_options(options)


def test_whatever_is_in_the_way_stays_when_a_key_is_made(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    path.write_text("mine")
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    for taken in (path, dangling):
        with pytest.raises(KeyExists):
            local.generate(taken)
    assert path.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyringUnusable, match="cannot be written"):
        local.generate(tmp_path / "file" / "vault.key")


def test_adding_a_key_makes_it_active_and_keeps_the_others(key_file: Path) -> None:
    before = LocalKeyring.from_options({"path": key_file})
    new_id = local.add_key(key_file)
    after = LocalKeyring.from_options({"path": key_file})
    assert after.active_id == new_id
    assert after.key_ids == before.key_ids | {new_id}
    assert after.check_value(before.active_id) == before.check_value(before.active_id)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert [path.name for path in key_file.parent.iterdir()] == [key_file.name]


def test_two_rings_made_on_one_day_do_not_share_ids(tmp_path: Path) -> None:
    assert local.generate(tmp_path / "one") != local.generate(tmp_path / "two")


def test_a_ring_cannot_be_pickled(key_file: Path) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(LocalKeyring.from_options({"path": key_file}))
