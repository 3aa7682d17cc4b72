"""A vault of its own for each test: a key file and a storage folder that are gone afterwards."""

from pathlib import Path

import pytest

from vault.keyrings import local


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "vault.key"
    local.generate(path)
    return path


@pytest.fixture
def storage_folder(tmp_path: Path) -> Path:
    return tmp_path / "sealed"


@pytest.fixture
def vault_settings(settings, key_file: Path, storage_folder: Path):
    settings.VAULT_KEYRING = {"name": "local", "path": str(key_file)}
    settings.STORAGES = {
        **settings.STORAGES,
        "vault": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": storage_folder, "file_permissions_mode": 0o600},
        },
    }
    return settings
