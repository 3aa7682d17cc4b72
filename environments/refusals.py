"""What an action says when it will not do something."""

from __future__ import annotations


class Refused(Exception):
    """One sentence for the person at the page or the command line: what is wrong, and what to do.

    `field` names the field of the form that it belongs beside, or None where it concerns the whole request.
    """

    def __init__(self, sentence: str, *, field: str | None = None) -> None:
        super().__init__(sentence)
        self.field = field
