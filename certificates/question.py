"""What is asked of a child that reads files, and what it answers: values as JSON, through a socket, in memory only.

No Django here.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from dataclasses import dataclass, field

from certificates.diagnosis import Refusal
from certificates.identities import pack, unpack
from certificates.intake import Reading, Upload
from certificates.remarks import Remark


@dataclass(frozen=True)
class Question:
    """The arguments of `intake.read`; or, to `inspect`, of `inspection.inspect`."""

    files: tuple[Upload, ...]
    passwords: tuple[str, ...] = field(repr=False)
    track: bool = False
    inspect: bool = False
    wanted: tuple[str, ...] = ()

    def pack(self) -> bytes:
        return json.dumps(
            {
                "files": [[file.name, base64.b64encode(file.content).decode("ascii")] for file in self.files],
                "passwords": self.passwords,
                "track": self.track,
                "inspect": self.inspect,
                "wanted": self.wanted,
            }
        ).encode("ascii")

    @classmethod
    def unpack(cls, packed: bytes) -> Question:
        asked = json.loads(packed)
        files = tuple(Upload(name, base64.b64decode(content)) for name, content in asked["files"])
        wanted = tuple(asked.get("wanted", ()))  # a draft that an earlier release kept has none
        return cls(files, tuple(asked["passwords"]), asked["track"], asked["inspect"], wanted)


def answer_with(reading: Reading) -> bytes:
    """`+`, and for each identity a line with what is to be said of it, as JSON, and one with the packed identity."""
    lines: list[bytes] = []
    for identity, remarks in reading.identities:
        lines += [json.dumps([dataclasses.asdict(remark) for remark in remarks]).encode("ascii"), pack(identity)]
    return b"+" + b"\n".join(lines)


def refuse_with(refusal: Refusal) -> bytes:
    return b"-" + json.dumps({"code": refusal.code, "details": refusal.details}).encode()


def understand(answer: bytes) -> Reading:
    """The reading that a child answered. Raises the Refusal that it answered, or `reader_stopped` for anything else."""
    try:
        if answer[:1] == b"+":
            lines = answer[1:].split(b"\n")
            return Reading(
                tuple(
                    (unpack(packed), tuple(Remark(**remark) for remark in json.loads(said)))
                    for said, packed in zip(lines[::2], lines[1::2], strict=True)
                )
            )
        told = json.loads(answer[1:])
        refusal = Refusal(str(told["code"]), **told["details"])
    except (ValueError, KeyError, TypeError):
        raise Refusal("reader_stopped") from None
    raise refusal
