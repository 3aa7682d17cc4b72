"""Reading one file of one identity, in a process of its own as uploads are, for tests that need no more."""

from __future__ import annotations

from pathlib import Path

from certificates import one_shot
from certificates.identities import Identity, only
from certificates.intake import Upload
from certificates.question import Question


def read_in_child(file: bytes, password: str, *, places: Path | None = None) -> Identity:
    reading = one_shot.read(Question((Upload("file.pfx", file),), (password,)), places=places)
    return only(identity for identity, _remarks in reading.identities)
