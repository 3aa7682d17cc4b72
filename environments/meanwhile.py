"""Two people at one form: whoever saves second is told what the first one saved, instead of undoing it unseen.

A form carries the digest of what it showed; the action compares it with the row, inside its own transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from django.db import models
from django.utils.translation import gettext as _

from environments.refusals import Refused


class ChangedMeanwhile(Refused):
    """`now` has the fields that may have changed, with their values in the database, whose digest is `digest`."""

    def __init__(self, now: dict[str, Any], digest: str) -> None:
        super().__init__(_("Somebody else changed this meanwhile; nothing of yours was saved."))
        self.now, self.digest = now, digest


def digest_of(row: models.Model, fields: Sequence[str]) -> str:
    """Stands in a form for the values that it shows."""
    return hashlib.sha256(json.dumps([str(getattr(row, field)) for field in fields]).encode()).hexdigest()


def insist_on(row: models.Model, fields: Sequence[str], shown: str) -> None:
    """Raises ChangedMeanwhile where the row has other values than those that were shown; "" asks for nothing.

    Call it inside the transaction that writes, after `take_turns`. The row has the current values afterwards.
    """
    row.refresh_from_db(fields=list(fields))
    if shown and (now := digest_of(row, fields)) != shown:
        raise ChangedMeanwhile({field: getattr(row, field) for field in fields}, now)
