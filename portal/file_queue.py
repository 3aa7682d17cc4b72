"""Celery's queue as files in one folder, so that the portal needs no broker server.

Each queue is a folder and each message a file in it, named by the time it was published: the first name is the oldest
message. A message appears whole or not at all (written aside, then renamed), and taking one is a rename too, which only
one consumer can win. A message taken by a worker that is then killed is lost; nothing relies on it, because a sweep
sends nudges again. Broadcasts are not carried, so the worker runs with `worker_enable_remote_control` off.

The address is `files:///the/folder` once `register()` was called. Files are 0600 and folders 0700.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
import uuid
from collections import deque
from pathlib import Path
from queue import Empty
from typing import Any, ClassVar
from urllib.parse import quote

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

log = logging.getLogger(__name__)

SCHEME = "files"

_MESSAGE = re.compile(r"\d{20}-[0-9a-f]{32}\.json")
# What a killed program left half written or half taken is of no use to anyone after this many seconds.
_LEFTOVER_AGE = 3600


def register() -> None:
    """Teaches kombu the scheme `files`. A broker address cannot name a class, so the name must be known beforehand."""
    TRANSPORT_ALIASES[SCHEME] = "portal.file_queue:Transport"


def address(folder: Path) -> str:
    """The broker address of `folder`, for CELERY_BROKER_URL."""
    # Without any host kombu warns at every start.
    return f"{SCHEME}://localhost{quote(str(folder.absolute()))}"


class Channel(virtual.Channel):
    """Puts and takes messages. `virtual.Channel` does the rest: routing, acknowledging, putting back."""

    _last_stamp: ClassVar[int] = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.folder: Path = self.connection.folder
        self._listed: dict[str, deque[str]] = {}

    def _queue_folder(self, queue: str) -> Path:
        # quote() leaves dots alone; with them escaped no name can mean another folder.
        return self.folder / quote(queue, safe="@").replace(".", "%2E")

    def _make(self, folder: Path) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)

    def _new_queue(self, queue: str, **options: Any) -> None:
        folder = self._queue_folder(queue)
        try:
            self._make(folder)
            for file in folder.iterdir():
                if not _MESSAGE.fullmatch(file.name):
                    _forget_leftover(file)
        except OSError as error:
            raise ChannelError(f"The queue's folder {folder} cannot be used: {error.strerror}.") from error

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        folder = self._queue_folder(queue)
        name = f"{self._stamp():020d}-{uuid.uuid4().hex}.json"
        aside = folder / f"{name}.new"
        try:
            try:
                descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileNotFoundError:
                self._make(folder)
                descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(dumps(message))
            aside.rename(folder / name)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise ChannelError(f"The queue's folder {folder} cannot be written: {error.strerror}.") from error

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        """Takes the oldest message of `queue`; raises `Empty` where there is none. A file that holds no message is
        removed with a line in the log: it must stop neither the worker nor the messages behind it."""
        folder = self._queue_folder(queue)
        names = self._listed.setdefault(queue, deque())
        if not names:
            names.extend(_settled(folder))
        while names:
            name = names.popleft()
            taken = folder / f"{name}.taken"
            try:
                (folder / name).rename(taken)
            except FileNotFoundError:
                continue  # another consumer was faster
            except OSError as error:
                log.warning("The message %s cannot be taken: %s.", name, error.strerror)
                continue
            try:
                message = loads(bytes_to_str(taken.read_bytes()))
                self.Message(message, channel=self)
            except Exception:  # a file can be wrong in any way at all
                log.warning("The file %s in the queue “%s” held no message and was removed.", name, queue)
            else:
                return dict(message)
            finally:
                _remove(taken)
        raise Empty

    def _purge(self, queue: str) -> int:
        self._listed.pop(queue, None)
        return sum(_remove(self._queue_folder(queue) / name) for name in _messages(self._queue_folder(queue)))

    def _size(self, queue: str) -> int:
        return len(_messages(self._queue_folder(queue)))

    @classmethod
    def _stamp(cls) -> int:
        """Nanoseconds of the wall clock (a monotonic clock begins anew with the machine), never the same twice here."""
        cls._last_stamp = max(cls._last_stamp + 1, time.time_ns())
        return cls._last_stamp


class Transport(virtual.Transport):
    """What kombu makes a connection of. `BROKER_TRANSPORT_OPTIONS["polling_interval"]` is in seconds."""

    Channel = Channel
    # With an event loop the worker gives each child of its pool a pipe of its own. Without one they share a pipe behind
    # a lock, and one that is killed while it waits there takes the lock along: no other child ever works again.
    implements = virtual.Transport.implements.extend(asynchronous=True)
    polling_interval = 0.2
    driver_type = SCHEME
    driver_name = SCHEME

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        # kombu takes the first slash off the path of an address; a folder of ours is always absolute.
        path = (client.virtual_host or "").strip("/")
        if not path:
            raise ValueError(f"The queue's address names no folder; write {SCHEME}:///the/folder.")
        self.folder = Path("/" + path)

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        loop.call_repeatedly(self.polling_interval, self._take, connection)

    def _take(self, connection: Any) -> None:
        """Delivers what may be taken now; the worker says how much that is."""
        with contextlib.suppress(TimeoutError):
            while True:
                self.drain_events(connection, timeout=0)

    def driver_version(self) -> str:
        return "1"


def _messages(folder: Path) -> list[str]:
    try:
        return sorted(file.name for file in folder.iterdir() if _MESSAGE.fullmatch(file.name))
    except FileNotFoundError:
        return []


def _settled(folder: Path) -> list[str]:
    """The messages in order, without those published while the folder was being listed: of these a listing may show
    the second and miss the first. A name of a later second is from before the clock was set back, and is no such."""
    before = time.time_ns()
    return [name for name in _messages(folder) if not before <= int(name[:20]) < before + 10**9]


def _remove(file: Path) -> bool:
    try:
        file.unlink()
    except OSError:
        return False
    return True


def _forget_leftover(file: Path) -> None:
    try:
        if time.time() - file.stat().st_mtime > _LEFTOVER_AGE:
            _remove(file)
    except OSError:
        pass  # its writer has just finished with it
