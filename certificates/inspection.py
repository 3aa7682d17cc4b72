"""What a PKCS #12 file is, or why it is refused, as values for programs.

No Django here, and no database or vault behind it.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from certificates.diagnosis import Refusal
from certificates.facts import facts, warnings
from certificates.identities import Found, make
from certificates.intake import Upload, open_with
from certificates.opening import Opened
from certificates.outline import Outline, outline
from certificates.remarks import remarks_on


def inspect(file: Upload, passwords: Sequence[str]) -> dict[str, Any]:
    """The verdict on one file, in this process; it raises nothing.

    Keys: file, code (`ok`, or that of a Refusal), sentence, key ("RSA 2048"), certificates (how many were seen),
    friendly_name, chain (subjects, leaf first), warnings ([{code, sentence}]), iterations (the largest count that the
    file asks for), algorithms (in the order of the file, the integrity check last), and identities, one for each key
    that has a certificate ({key, friendly_name, subject, not_after, sha256}).
    """
    told = unseen(file.name)
    try:
        _describe_outline(outline(file.content), told)
        opened = open_with(file.content, passwords)
        _describe_outline(opened, told)
        found = make(opened.keys, opened.certificates)
        told["identities"] = [_described(one) for one in found]
        if len(found) > 1:
            names = "; ".join(one["friendly_name"] or one["subject"] for one in told["identities"])
            raise Refusal("several_keys", keys=len(found), names=names[:1000])
        _describe(opened, found[0], told)
    except Refusal as refusal:
        told |= refused(refusal)
    return told


def unseen(name: str) -> dict[str, Any]:
    """What is known of a file before it is looked at."""
    return {
        "file": name,
        "code": "ok",
        "sentence": "",
        "key": None,
        "certificates": 0,
        "friendly_name": None,
        "chain": [],
        "warnings": [],
        "iterations": 0,
        "algorithms": [],
        "identities": [],
    }


def refused(refusal: Refusal) -> dict[str, str]:
    # A file that takes too long asks for more than a limit allows, only that nobody could tell beforehand.
    return {"code": "limit_exceeded" if refusal.code == "too_slow" else refusal.code, "sentence": str(refusal)}


def _describe_outline(seen: Outline | Opened, told: dict[str, Any]) -> None:
    told["certificates"] = len(seen.certificates)
    titles = [f"{scheme.title}, {scheme.derivation_title}" for scheme in seen.schemes]
    if isinstance(seen, Outline):
        told["iterations"] = max(seen.work.announced, default=0)
        integrity = seen.mac.title if seen.mac else ""
    else:
        told["iterations"] = seen.iterations
        integrity = seen.integrity
    told["algorithms"] = [*dict.fromkeys(titles), *([f"integrity by {integrity}"] if integrity else [])]


def _describe(opened: Opened, found: Found, told: dict[str, Any]) -> None:
    identity = found.identity
    read = facts(identity.certificate, identity.chain)
    now = datetime.datetime.now(datetime.UTC)
    told |= {
        "sentence": f"This file holds {read.common_name or read.subject} with its private key.",
        "key": told["identities"][0]["key"],
        "friendly_name": identity.friendly_name,
        "chain": [read.subject, *(link.subject for link in read.chain)],
        "warnings": [
            {"code": warning.code, "sentence": warning.sentence}
            for warning in (*warnings(read, now=now), *remarks_on([opened], found))
        ],
    }


def _described(found: Found) -> dict[str, Any]:
    read = facts(found.identity.certificate)
    return {
        "key": f"{read.key_kind} {read.key_bits}" if read.key_kind in ("RSA", "DSA") else read.key_kind,
        "friendly_name": found.identity.friendly_name,
        "subject": read.subject,
        "not_after": read.not_after.isoformat(),
        "sha256": read.sha256,
    }
