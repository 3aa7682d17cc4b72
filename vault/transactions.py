"""The rule of the ports: nothing outside the database is called while a transaction is open.

A storage, key service or connector that hangs would hold the database's locks with it, and what it did cannot be
rolled back. So every port asks here first.
"""

from __future__ import annotations

from django.db import DEFAULT_DB_ALIAS, connections


class TransactionOpen(RuntimeError):
    """A port was called inside a transaction; this is a mistake in the calling code, not in operation."""


def refuse_inside_transaction(port: str) -> None:
    """Raise TransactionOpen if a transaction is open on the default connection. `port` names what was to be called.

    Blocks that a test case opened around the whole test do not count: the code under test did not open them.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    if any(not getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
        raise TransactionOpen(f"{port} must not be called inside a transaction; call it before or after.")
