"""The command that makes the first key."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from vault.keyrings.local import LocalKeyring


@pytest.fixture
def place(settings, tmp_path: Path) -> Path:
    path = tmp_path / "new" / "vault.key"
    settings.VAULT_KEYRING = {"name": "local", "path": str(path)}
    return path


def run(*arguments: str) -> tuple[int, str, str]:
    out, err = StringIO(), StringIO()
    try:
        call_command("generate_vault_key", *arguments, stdout=out, stderr=err)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def test_it_makes_a_key_where_the_settings_say_and_never_prints_it(place: Path) -> None:
    code, out, err = run()
    ring = LocalKeyring.from_options({"path": place})
    assert (code, err) == (0, "")
    assert ring.active_id in out
    assert ring.check_value(ring.active_id) in out
    assert str(place) in out
    assert json.loads(place.read_text())["keys"][ring.active_id] not in out


def test_an_existing_key_is_kept(place: Path) -> None:
    run()
    before = place.read_bytes()
    code, out, err = run()
    assert (code, out) == (1, "")
    assert err.strip() == f'There already is a key file at "{place}"; it was kept as it is.'
    assert place.read_bytes() == before


def test_programs_get_json(place: Path) -> None:
    code, out, _ = run("--json")
    made = json.loads(out)
    ring = LocalKeyring.from_options({"path": place})
    assert code == 0
    check_value = ring.check_value(ring.active_id)
    assert made == {"made": True, "key_id": ring.active_id, "check_value": check_value, "place": str(place)}
    code, out, err = run("--json")
    assert (code, json.loads(out)["made"], err) == (1, False, "")


def test_an_unknown_keyring_is_refused_in_one_sentence(settings) -> None:
    settings.VAULT_KEYRING = {"name": "cloud"}
    code, _, err = run()
    assert code == 1
    assert err.count("\n") == 1
