"""What people upload by hand where a platform takes files from nobody else: the files, and the clicks, in order.

The pages named here are those of mendix/docs deployment/mendix-cloud-deploy/certificates/_index.md: Environments →
Details → Network → Outgoing Connections Certificates.
"""

from __future__ import annotations

from dataclasses import dataclass

from certificates.content import Bundle, Content, File
from certificates.pem import armoured as pem


@dataclass(frozen=True)
class Upload:
    """One certificate as its page there wants it: a file, and the names of calls that are to send it."""

    file: str
    slug: str
    name: str
    pins: tuple[str, ...]


def uploads(content: Content) -> tuple[Upload, ...]:
    """In the order of the certificates, which counts in some modules of Mendix."""
    return tuple(
        Upload(
            f"{number:02}-{slot.slug}.pfx",
            slot.slug,
            slot.slug,
            tuple(sorted(pin.key for pin in content.pins if pin.slug == slot.slug)),
        )
        for number, slot in enumerate(content.slots, start=1)
    )


def never(content: Content) -> tuple[str, ...]:
    """The targets that are to be sent no certificate: a custom runtime setting there, for want of a page."""
    return tuple(sorted(pin.key for pin in content.pins if pin.slug is None))


def by_hand(bundle: Bundle, content: Content, trusted: dict[str, bytes]) -> Bundle:
    """The files to upload: each PFX as it was written for this rollout, the passwords in a file of their own, the
    authorities as PEM."""
    listed = uploads(content)
    files = [File(one.file, bundle.sent[one.slug].pfx) for one in listed]
    lines = [f"{one.file}\t{bundle.sent[one.slug].password}\t{', '.join(one.pins) or '-'}" for one in listed]
    files.append(File("passwords.txt", ("file\tpassword\tpins\n" + "\n".join(lines) + "\n").encode()))
    files += [
        File(f"authority-{number:02}.pem", pem(trusted[sha256]).encode(), secret=False)
        for number, sha256 in enumerate(content.authorities, start=1)
    ]
    return Bundle(tuple(files))
