"""What the actions on certificates ask of the vault, with its errors as sentences beside the file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from django.views.decorators.debug import sensitive_variables

from environments.models import Environment
from environments.refusals import Refused
from vault import safe
from vault.errors import VaultError
from vault.models import SealedObject


class VaultUnusable(Refused):
    """The vault could not seal or open something: a matter for whoever runs the server. What was sealed stays."""

    def __init__(self, error: VaultError) -> None:
        super().__init__(str(error), field="file")


@sensitive_variables("plaintext")
def put(plaintext: bytes, *, environment: Environment, field: str) -> SealedObject:
    """The row of what was sealed, not yet saved. Raises VaultUnusable."""
    try:
        return safe.put(plaintext, environment_id=environment.pk, field=field)
    except VaultError as error:
        raise VaultUnusable(error) from None


def opened(sealed: SealedObject, *, record: Callable[[SealedObject], Any]) -> bytes:
    """Raises VaultUnusable."""
    try:
        return safe.open_sealed(sealed, record=record)
    except VaultError as error:
        raise VaultUnusable(error) from None


def forget(sealed: SealedObject) -> None:
    """The row decides, and it is gone; a file that the storage does not let go of now is the sweep's."""
    with contextlib.suppress(VaultError):
        safe.destroy(sealed)
