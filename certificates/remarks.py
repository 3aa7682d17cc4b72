"""What is worth knowing about the file that an identity came in, although it was read.

No Django here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certificates.identities import Found
    from certificates.opening import Opened


@dataclass(frozen=True)
class Remark:
    """Something to know before this certificate is used; where `confirm`, somebody has to say yes to it."""

    code: str
    sentence: str
    confirm: bool


# Those that follow from how much of a chain there is.
ABOUT_CHAINS = frozenset({"chain_incomplete", "chain_completed", "issuer_expires_first"})


def chain_completed(subjects: Sequence[str]) -> Remark:
    """For the certificates (their subjects) that were added to the chain of a file that lacked them."""
    names = " and ".join(subjects)
    sentence = f"The file did not contain {names}, which is added from what is already here."
    return Remark("chain_completed", sentence, confirm=False)


def remarks_on(opened: Sequence[Opened], found: Found) -> tuple[Remark, ...]:
    """In the order of their weight."""
    remarks: list[Remark] = []

    def say(code: str, sentence: str) -> None:
        remarks.append(Remark(code, sentence, confirm=False))

    if any(not one.password_checked for one in opened):
        say(
            "password_unchecked",
            "The file is not protected by any password, so the one that was typed was not checked; ask the partner to"
            " send it over a safe way.",
        )
    elif weak := [scheme.title for one in opened for scheme in one.schemes if scheme.weak]:
        names = " and ".join(dict.fromkeys(weak))
        say("weak_cipher", f"It was read with {names}, which is weak; it is sealed and will be delivered with AES-256.")
    if locked := sum(one.locked_keys for one in opened):
        say("keys_left_out", f"Private keys left out, because this password does not open them: {locked}.")
    if found.strangers:
        say("strangers", f"Certificates left out, because they are not part of this chain: {found.strangers}.")
    if found.unreadable:
        say("unreadable", f"Certificates left out, because they break the X.509 format: {found.unreadable}.")
    return tuple(remarks)
