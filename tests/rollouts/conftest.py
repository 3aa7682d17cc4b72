"""What holds for every test of rollouts."""

from __future__ import annotations

import pytest

from certificates import pkcs12


@pytest.fixture(autouse=True)
def exports_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds are written and read back here; how they are encrypted is tried in tests/certificates."""
    monkeypatch.setattr(pkcs12, "WRITTEN_ROUNDS", 1000)
