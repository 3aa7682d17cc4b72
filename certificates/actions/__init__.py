"""What people do with certificates and pins. One verb, one transaction, one event; `by` is always named last."""

from certificates.actions.drafts import add_draft, keep_draft, open_draft, read_draft, renew_with_draft, tidy_drafts
from certificates.actions.pins import change_pin, pin, read_target, unpin
from certificates.actions.slots import (
    add,
    describe,
    disable,
    enable,
    move,
    remove,
    rename,
    renew,
    restore,
    use_version,
)

__all__ = [
    "add",
    "add_draft",
    "change_pin",
    "describe",
    "disable",
    "enable",
    "keep_draft",
    "move",
    "open_draft",
    "pin",
    "read_draft",
    "read_target",
    "remove",
    "rename",
    "renew",
    "renew_with_draft",
    "restore",
    "tidy_drafts",
    "unpin",
    "use_version",
]
