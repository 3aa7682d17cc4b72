"""A folder on this server that belongs to one app's connector: what lies in it is told in `folders` and `orders`.
No Django here."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from certificates.content import Bundle
from rollouts.connectors import ConnectorError, folders, orders, sessions
from rollouts.connectors.folders import Readers, spoken


class Placed:
    """Settings: `folder` (absolute, for this app alone), and optionally `owner` and `group` (names) of what is
    delivered."""

    def __init__(self, settings: Mapping[str, Any], order: int = 0) -> None:
        self.order = order
        folder = settings.get("folder")
        if not isinstance(folder, str) or not folder.startswith("/") or ".." in Path(folder).parts:
            raise ConnectorError("The app's folder is not an absolute path; correct it in the server's settings.")
        self.folder = Path(folder)
        self.readers = Readers(_group(settings.get("group")), _owner(settings.get("owner")))

    @staticmethod
    def names(settings: Mapping[str, Any]) -> tuple[str, str]:
        return str(settings.get("folder")), str(settings.get("title", settings.get("folder")))

    def check_folder(self) -> None:
        """Raises ConnectorError where nothing could be delivered."""
        place, readers = self.folder, self.readers
        while not place.exists():
            place = place.parent
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            raise ConnectorError(f"{place} cannot be written; let the user that runs Countersign own it.")
        if readers.owner not in (None, os.geteuid()) and os.geteuid() != 0:
            raise ConnectorError(
                "Only root can give files to another owner; leave out the owner and name a group instead."
            )
        if readers.group not in (None, os.getgid(), *os.getgroups()) and os.geteuid() != 0:
            raise ConnectorError(
                "The user that runs Countersign is not in the group that is to read the files; add it to that group."
            )

    def deliver(self, bundle: Bundle) -> None:
        """Writes the files aside and switches `current` to them at once; the bundle before is kept.

        Raises ConnectorError, before anything is written, for a path that could leave the folder.
        """
        folders.refuse_bad_paths(bundle)
        with spoken(f"The configuration could not be written to {self.folder}"), sessions.locked(self.folder):
            orders.refuse_late(self.folder, self.order)
            self.readers.give(self.folder, folder=True)
            folders.deliver(self.folder, bundle, self.readers)

    def delivered_digest(self) -> str:
        """SHA-256 (hex, certificates.content.digest_of_files) over what lies behind `current` now."""
        with spoken(f"The configuration in {self.folder} could not be read back"):
            return folders.delivered_digest(self.folder)


def _group(name: Any) -> int | None:
    if not name:
        return None
    try:
        return grp.getgrnam(str(name)).gr_gid
    except KeyError:
        raise ConnectorError(f"There is no group {name} on this server; correct it in the server's settings.") from None


def _owner(name: Any) -> int | None:
    if not name:
        return None
    try:
        return pwd.getpwnam(str(name)).pw_uid
    except KeyError:
        raise ConnectorError(f"There is no user {name} on this server; correct it in the server's settings.") from None
