"""The queue of files, with real processes on both ends."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection
from kombu.exceptions import ChannelError
from kombu.simple import SimpleQueue

from portal import file_queue

PROJECT = Path(__file__).parents[2]

PRODUCER = """
import sys
from kombu import Connection
from portal import file_queue
file_queue.register()
address, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Connection(address) as connection, connection.SimpleQueue("moves") as queue:
    for number in range(count):
        queue.put({"from": name, "number": number})
"""

CONSUMER = """
import sys
from queue import Empty
from kombu import Connection
from portal import file_queue
file_queue.register()
with Connection(sys.argv[1]) as connection, connection.SimpleQueue("moves") as queue:
    while True:
        try:
            message = queue.get(timeout=3)
        except Empty:
            break
        print(message.payload["from"], message.payload["number"], flush=True)
        message.ack()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    file_queue.register()
    return tmp_path / "the queue"


@pytest.fixture
def connection(folder: Path) -> Iterator[Connection]:
    with Connection(file_queue.address(folder)) as connection:
        yield connection


@pytest.fixture
def queue(connection: Connection) -> Iterator[SimpleQueue]:
    with connection.SimpleQueue("moves") as queue:
        yield queue


def receive(queue: SimpleQueue) -> object:
    message = queue.get(timeout=2)
    message.ack()
    return message.payload


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=PROJECT, stdout=subprocess.PIPE, text=True)


def test_two_producers_and_two_consumers_lose_nothing_and_deliver_nothing_twice(folder: Path) -> None:
    address = file_queue.address(folder)
    consumers = [started(CONSUMER, address) for _ in range(2)]
    producers = [started(PRODUCER, address, name, "1000") for name in ("first", "second")]
    for producer in producers:
        assert producer.wait(timeout=60) == 0

    received = [consumer.communicate(timeout=60)[0].splitlines() for consumer in consumers]

    assert [consumer.returncode for consumer in consumers] == [0, 0]
    assert sorted(received[0] + received[1]) == sorted(
        f"{name} {number}" for name in ("first", "second") for number in range(1000)
    )
    assert files(folder) == []
    for lines in received:
        for name in ("first", "second"):
            numbers = [int(line.split()[1]) for line in lines if line.startswith(name)]
            assert numbers == sorted(numbers), "what one producer sent arrives in the order it was sent"


def test_the_oldest_message_comes_first(queue: SimpleQueue) -> None:
    for number in range(50):
        queue.put(number)
    assert [receive(queue) for _ in range(50)] == list(range(50))


def test_order_survives_a_restart_of_the_machine(
    folder: Path, queue: SimpleQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.put("before")
    # After a restart a monotonic clock begins again at zero; names must not be made from it.
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    with Connection(file_queue.address(folder)) as other, other.SimpleQueue("moves") as later:
        later.put("after")
    assert [receive(queue), receive(queue)] == ["before", "after"]


def test_a_clock_that_is_set_back_delays_nothing(queue: SimpleQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.put("before")
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 3600 * 10**9)
    assert receive(queue) == "before"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"body": "!", "properties": {}}', b'{"properties": {"delivery_tag": 1'],
)
def test_a_file_that_holds_no_message_stops_neither_the_consumer_nor_what_is_behind_it(
    folder: Path, queue: SimpleQueue, content: bytes
) -> None:
    queue.put("first")
    (message,) = files(folder)
    message.with_name(f"{0:020d}-{'a' * 32}.json").write_bytes(content)

    assert receive(queue) == "first"
    assert files(folder) == []


def test_a_message_still_being_written_is_not_taken(folder: Path, queue: SimpleQueue) -> None:
    queue.put("whole")
    (message,) = files(folder)
    half = message.with_name(f"{0:020d}-{'a' * 32}.json.new")
    half.write_bytes(b"{")

    assert receive(queue) == "whole"
    assert files(folder) == [half]


def test_only_the_owner_can_read_messages_and_folders(folder: Path, queue: SimpleQueue) -> None:
    before = os.umask(0)
    try:
        queue.put("private")
    finally:
        os.umask(before)
    (message,) = files(folder)
    assert stat.S_IMODE(message.stat().st_mode) == 0o600
    assert stat.S_IMODE(message.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_unacknowledged_message_is_put_back_when_its_consumer_ends_in_order(folder: Path) -> None:
    address = file_queue.address(folder)
    with Connection(address) as first, first.SimpleQueue("moves") as queue:
        queue.put("again")
        queue.get(timeout=2)
        assert files(folder) == []
    with Connection(address) as second, second.SimpleQueue("moves") as queue:
        assert receive(queue) == "again"


def test_queues_are_apart_whatever_they_are_called(folder: Path, connection: Connection) -> None:
    names = ["moves", "moves.other", "..", "../moves", "worker@host", "spaced name"]
    queues = {name: connection.SimpleQueue(name) for name in names}
    for name, queue in queues.items():
        queue.put(name)
    assert {name: receive(queue) for name, queue in queues.items()} == {name: name for name in names}
    assert len(list(folder.iterdir())) == len(names)
    assert list(folder.parent.iterdir()) == [folder]
    for queue in queues.values():
        queue.close()


def test_purging_forgets_what_waits(folder: Path, queue: SimpleQueue) -> None:
    for number in range(3):
        queue.put(number)
    assert len(queue) == 3
    assert queue.clear() == 3
    assert files(folder) == []


def test_leftovers_of_killed_programs_go_after_an_hour(folder: Path, connection: Connection) -> None:
    waiting = folder / "moves"
    waiting.mkdir(parents=True)
    old, young = (waiting / f"{0:020d}-{letter * 32}.json.taken" for letter in "ab")
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 7200, time.time() - 7200))

    connection.SimpleQueue("moves").close()

    assert files(folder) == [young]


def test_a_folder_that_cannot_be_used_is_named(folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    with (
        pytest.raises(ChannelError, match="cannot be used"),
        Connection(file_queue.address(folder)) as connection,
    ):
        connection.SimpleQueue("moves")


def test_an_address_without_a_folder_is_refused() -> None:
    file_queue.register()
    with pytest.raises(ValueError, match="names no folder"), Connection("files://") as connection:
        connection.SimpleQueue("moves")
