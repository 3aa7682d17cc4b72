"""What holds for every test of a contract."""

from __future__ import annotations

import pytest

from certificates import pkcs12
from tests.sandbox.conftest import partner

__all__ = ["partner"]


@pytest.fixture(autouse=True, scope="module")
def exports_are_quick() -> None:
    """Hundreds are written here; how they are encrypted is tried in tests/certificates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pkcs12, "WRITTEN_ROUNDS", 1000)
        yield
