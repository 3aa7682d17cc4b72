"""What every connector promises a rollout, and what the one for an app on this server promises beyond that.

A new connector is one more world (tests/contracts/worlds.py): what stands for its platform. The first part then tests
it as it is.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates.content import Bundle, File, digest_of_files
from rollouts.connectors import (
    CALL_LIMIT,
    CONNECTORS,
    Abilities,
    Connector,
    ConnectorError,
    NotYet,
    Observation,
    OutOfOrder,
    connect,
    connector_class,
    local_process,
    sessions,
)
from rollouts.connectors.local_process import LocalProcess, stop_all
from tests.contracts.worlds import WORLDS, ThisServer, World, connected

pytestmark = [pytest.mark.contract, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
NOTHING = digest_of_files([])
ON_THIS_SERVER = ("directory", "local-process")


@pytest.fixture(params=sorted(CONNECTORS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(kind: str, tmp_path: Path) -> Iterator[World]:
    world = WORLDS[kind](tmp_path)
    yield world
    world.close()


@pytest.fixture
def connector(kind: str, world: World) -> Connector:
    return connected(kind, world.settings)


@pytest.fixture
def able(kind: str, world: World) -> Abilities:
    return connector_class(kind).able(world.settings)


def on_this_server(test: Callable[..., None]) -> Callable[..., None]:
    """Only for apps that are processes of this server, started by the connector's own commands."""
    return pytest.mark.parametrize("kind", ON_THIS_SERVER)(test)


def bundle(*paths: str) -> Bundle:
    """Other bytes each time, as a PFX written anew would have."""
    return Bundle(tuple(File(p, secrets.token_bytes(2000)) for p in paths or ("custom-settings.json", "pfx/one.pfx")))


def until_up(connector: Connector) -> Observation:
    """What is seen when it is not starting any more, or not yet gone from its API."""
    deadline = time.monotonic() + 15
    while (seen := connector.observe()).status in ("starting", "unreachable") and time.monotonic() < deadline:
        time.sleep(0.03)
    return seen


def until(done: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)
    return done()


def patiently(call: Callable[[], Any]) -> Any:
    """As a rollout does: again, for as long as the platform is still at it."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return call()
        except NotYet:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def run_anew(connector: Connector, able: Abilities) -> Observation:
    """The app, run with what was delivered last, in the way that its platform knows."""
    if able.restarts:
        patiently(connector.restart)
    else:
        patiently(connector.stop)
        patiently(connector.start)
    return until_up(connector)


def a_caller(kind: str, world: World, then: str) -> subprocess.Popen[bytes]:
    """Another process that starts the app, as a worker does; `then` is what it does afterwards."""
    code = (
        "import json, sys, time; from tests.contracts.worlds import connected\n"
        "print('here', flush=True)\n"
        f"connected(sys.argv[1], json.loads(sys.argv[2])).start(); {then}"
    )
    argv = [sys.executable, "-c", code, kind, json.dumps(world.settings)]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)


# ---- every connector ----


def test_every_kind_has_a_world_to_be_tested_in() -> None:
    assert set(WORLDS) == set(CONNECTORS)


def test_a_kind_that_is_not_installed_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConnectorError, match="No connector “abacus” is installed"):
        connect("abacus", {})


def test_every_kind_says_what_it_asks_for_and_what_it_can_prove(kind: str, world: World, able: Abilities) -> None:
    there = connector_class(kind)
    assert there.title
    assert able.proves.endswith(".")
    assert all(there.names(world.settings))
    assert {setting.name for setting in there.asks} <= set(world.settings)


def test_a_look_changes_nothing(connector: Connector, world: World, able: Abilities) -> None:
    before = world.calls()
    assert connector.check().endswith(".")
    assert {tick.outcome for tick in connector.ticks()} <= {"ok", "warn"}
    assert until_up(connector).status == ("stopped" if able.stops else "running")
    assert connector.delivered_digest() == NOTHING
    assert world.calls() == before
    assert len(world.processes()) == (0 if able.stops else 1)


def test_the_whole_way_from_delivery_to_a_new_start(connector: Connector, world: World, able: Abilities) -> None:
    if able.hands_over:
        return
    before, first = until_up(connector), world.bundle()
    connector.deliver(first)
    assert connector.delivered_digest() == first.digest
    seen = run_anew(connector, able)
    assert seen.status == "running"
    assert seen.incarnation not in ("", before.incarnation)
    assert seen.digest == (first.digest if world.reports else None)
    assert connector.delivered_digest() == first.digest
    if able.stops:
        patiently(connector.stop)
        assert connector.observe().status == "stopped"
        assert connector.observe().incarnation == ""
        assert world.processes() == []
        assert connector.delivered_digest() == first.digest


def test_nothing_can_be_delivered_too(connector: Connector, world: World, able: Abilities) -> None:
    if able.hands_over:
        return
    connector.deliver(world.bundle())
    connector.deliver(Bundle(()))
    assert connector.delivered_digest() == NOTHING
    assert run_anew(connector, able).digest == (NOTHING if world.reports else None)


def test_delivering_twice_is_delivering_once(connector: Connector, world: World, able: Abilities) -> None:
    if able.hands_over:
        return
    first = world.bundle()
    connector.deliver(first)
    before, calls = run_anew(connector, able), world.calls()
    connector.deliver(first)
    assert connector.delivered_digest() == first.digest
    assert (connector.observe(), world.calls()) == (before, calls)


def test_a_delivery_alone_does_not_touch_the_running_app(connector: Connector, world: World, able: Abilities) -> None:
    if able.hands_over:
        return
    connector.deliver(world.bundle())
    before, second = run_anew(connector, able), world.bundle()
    connector.deliver(second)
    assert connector.delivered_digest() == second.digest
    if able.delivery_restarts:
        assert until(lambda: (seen := connector.observe()).status == "running" and seen != before)
    else:
        assert connector.observe() == before


def test_the_incarnation_changes_with_each_start_and_not_otherwise(
    connector: Connector, world: World, able: Abilities
) -> None:
    seen = set()
    for _ in range(3):
        incarnation = run_anew(connector, able).incarnation
        if not (able.delivery_restarts or able.hands_over):
            connector.deliver(world.bundle())
        connector.start()
        assert connector.observe().incarnation == incarnation
        seen.add(incarnation)
    assert len(seen) == 3


def test_starting_what_runs_and_stopping_what_is_stopped_changes_nothing(
    connector: Connector, world: World, able: Abilities
) -> None:
    if not able.stops:
        with pytest.raises(ConnectorError):
            connector.stop()
        return
    patiently(connector.stop)
    connector.start()
    connector.start()
    until_up(connector)
    assert len(world.processes()) == 1
    patiently(connector.stop)
    patiently(connector.stop)
    assert world.calls() == ["start", "stop"]


def test_starts_at_the_same_time_make_one_app(kind: str, world: World) -> None:
    callers = [a_caller(kind, world, "pass") for _ in range(3)]
    threads = [threading.Thread(target=connected(kind, world.settings).start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [caller.communicate(timeout=30) and caller.returncode for caller in callers] == [0, 0, 0]
    assert until_up(connected(kind, world.settings)).status == "running"
    assert len(world.processes()) == 1
    assert world.calls() == ["start"]


def test_an_app_is_seen_while_it_restarts(connector: Connector, able: Abilities) -> None:
    """Whatever is seen on the way is an observation, and never an app that runs with the old and the new at once."""
    before = run_anew(connector, able)
    seen: list[Observation] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.append(connector.observe())

    watching = threading.Thread(target=watch)
    watching.start()
    after = run_anew(connector, able)
    over.set()
    watching.join(10)
    assert after.incarnation != before.incarnation
    assert {one.status for one in seen} <= {"running", "starting", "stopped", "unreachable"}
    order = [one.incarnation for one in seen if one.incarnation]
    assert order == sorted(order, key=[before.incarnation, after.incarnation].index)


def test_a_platform_that_takes_files_from_people_only_says_so(
    connector: Connector, world: World, able: Abilities
) -> None:
    if able.hands_over:
        with pytest.raises(ConnectorError, match="by hand"):
            connector.deliver(world.bundle())


def test_going_back_to_the_bundle_before_restores_its_bytes(
    connector: Connector, world: World, able: Abilities
) -> None:
    if able.hands_over:
        return
    old, new = world.bundle(), world.bundle()
    for each in (old, new, old):
        connector.deliver(each)
        assert connector.delivered_digest() == each.digest


def test_a_wrong_secret_is_said_and_never_shown(kind: str, world: World) -> None:
    asked = [setting.name for setting in connector_class(kind).asks if setting.is_secret]
    for name in asked:
        wrong = connected(kind, world.settings | {name: "Wr0ng-and-secret-and-long"})
        sentences = [wrong.observe().note, *(tick.result for tick in wrong.ticks())]
        assert wrong.observe().status == "unreachable"
        assert [tick.outcome for tick in wrong.ticks()][-1] == "failed"
        with pytest.raises(ConnectorError) as refused:
            wrong.check()
        assert not any("Wr0ng-and-secret-and-long" in text for text in (*sentences, str(refused.value)))


@pytest.mark.parametrize("how", ["hang", "reset", "drip", "garbage", "refuse", "redirect", "huge"])
def test_a_platform_that_misbehaves_is_said_in_time(
    kind: str, world: World, able: Abilities, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how not in world.misbehaviours:
        assert kind in ON_THIS_SERVER, "every platform with an API of its own can misbehave"
        return
    # What is tried is that there are limits, and not how long they are.
    of_kind = sys.modules[connector_class(kind).__module__]
    for name, seconds in (("ASK_LIMIT", 1.0), ("GONE_LIMIT", 2.0)):
        monkeypatch.setattr(of_kind, name, seconds, raising=False)
    connector = connected(kind, world.settings)
    run_anew(connector, able)
    world.misbehave(how)
    began = time.monotonic()
    seen = connector.observe()
    assert seen.status in ("unreachable", "starting")
    assert seen.note.endswith(".")
    with pytest.raises(ConnectorError):
        connector.restart() if able.restarts else connector.stop()
    assert time.monotonic() - began < 2 * CALL_LIMIT
    world.misbehave("")
    assert run_anew(connector, able).status == "running"


@on_this_server
def test_the_app_outlives_the_killed_process_that_started_it(kind: str, connector: Connector, world: World) -> None:
    caller = a_caller(kind, world, "print('started', flush=True); time.sleep(60)")
    assert caller.stdout
    assert caller.stdout.readline() + caller.stdout.readline() == b"here\nstarted\n"
    before = until_up(connector)
    os.killpg(caller.pid, signal.SIGKILL)
    caller.communicate(timeout=10)
    assert before.status == "running"
    assert connector.observe() == before


@on_this_server
@pytest.mark.parametrize("milliseconds", [0, 20, 40, 60, 80, 120])
def test_a_caller_killed_within_the_start_leaves_one_app_or_none(
    kind: str, connector: Connector, world: World, milliseconds: int
) -> None:
    caller = a_caller(kind, world, "time.sleep(60)")
    assert caller.stdout
    caller.stdout.readline()
    time.sleep(milliseconds / 1000)
    os.killpg(caller.pid, signal.SIGKILL)
    caller.wait(10)
    caller.stdout.close()
    connector.start()
    assert until_up(connector).status == "running"
    assert len(world.processes()) == 1
    assert world.calls() == ["start"]
    connector.stop()
    assert world.processes() == []


@on_this_server
def test_an_app_that_exits_at_once_is_observed_as_stopped_with_its_reason(connector: Connector, world: World) -> None:
    world.let_the_app_exit("the password of one.pfx is wrong")
    connector.start()
    assert until(lambda: connector.observe().status == "stopped")
    seen = connector.observe()
    assert seen.incarnation == ""
    assert seen.digest is None
    assert "the password of one.pfx is wrong" in seen.note
    assert seen.ended, "it was started, and is gone"
    connector.start()
    assert until(lambda: connector.observe().ended not in ("", seen.ended)), "each start has an end of its own"
    connector.stop()
    assert connector.observe() == Observation("stopped"), "and what was stopped did not end by itself"


@pytest.mark.parametrize(
    "path",
    ["../outside", "/etc/outside", "pfx/../../outside", "", ".", "pfx//one", "pfx/", "nul\0", "line\nbreak", "\udcff"],
)
def test_a_hostile_path_is_refused_before_anything_is_written(
    connector: Connector, world: World, able: Abilities, path: str
) -> None:
    good = world.bundle()
    if not able.hands_over:
        connector.deliver(good)
    before = connector.delivered_digest()
    with pytest.raises(ConnectorError):
        connector.deliver(world.bundle("custom-settings.json", path))
    assert connector.delivered_digest() == before


@pytest.mark.parametrize("paths", [("one", "one"), ("one", "one/two")])
def test_two_files_in_one_place_are_refused(connector: Connector, world: World, paths: tuple[str, ...]) -> None:
    with pytest.raises(ConnectorError, match="two files"):
        connector.deliver(world.bundle(*paths))
    assert connector.delivered_digest() == NOTHING


# ---- local-process ----


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThisServer]:
    server = ThisServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def local(server: ThisServer) -> LocalProcess:
    return LocalProcess(server.settings)


def versions(server: ThisServer) -> set[str]:
    return {path.name for path in (server.folder / "versions").iterdir()}


def record(server: ThisServer) -> dict[str, Any]:
    pid, start_time, boot = (server.folder / "process").readlink().name.split("-")
    return {"pid": int(pid), "start_time": int(start_time), "boot": boot}


def set_record(server: ThisServer, stored: dict[str, Any]) -> None:
    (server.folder / "process").unlink(missing_ok=True)
    (server.folder / "process").symlink_to("-".join(map(str, stored.values())))


def bystander() -> subprocess.Popen[bytes]:
    """A process of somebody else, whose number the record will bear; in a session of its own, as an app would be."""
    argv = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    process.stdout.readline()
    return process


def test_files_are_0600_and_folders_0700_whatever_the_umask(server: ThisServer, local: LocalProcess) -> None:
    for umask in (0o000, 0o022):
        before = os.umask(umask)
        try:
            local.deliver(bundle("custom-settings.json", "a/b/c.pfx"))
        finally:
            os.umask(before)
        places = [server.folder, server.folder / "versions", *(server.folder / "versions").rglob("*")]
        assert {oct(p.stat().st_mode & 0o777) for p in places if p.is_dir()} == {"0o700"}
        assert {oct(p.stat().st_mode & 0o777) for p in places if p.is_file()} == {"0o600"}
    local.start()
    for name in ("app.log", "platform-log.jsonl", "lock"):
        assert (server.folder / name).stat().st_mode & 0o777 == 0o600


def test_only_the_current_version_and_the_one_before_are_kept(server: ThisServer, local: LocalProcess) -> None:
    bundles = [bundle() for _ in range(4)]
    for each in bundles:
        local.deliver(each)
        (server.folder / "versions" / ".new-left-by-a-kill").mkdir()
    local.deliver(bundles[3])
    assert versions(server) == {bundles[2].digest, bundles[3].digest}
    local.deliver(bundles[2])
    assert versions(server) == {bundles[2].digest, bundles[3].digest}


def test_delivering_the_same_again_writes_nothing(server: ThisServer, local: LocalProcess) -> None:
    def traces() -> set[tuple[str, int, int]]:
        paths = [server.folder / "current", *(server.folder / "versions").rglob("*")]
        return {(str(p), p.lstat().st_ino, p.lstat().st_mtime_ns) for p in paths}

    same = bundle()
    local.deliver(same)
    before = traces()
    local.deliver(same)
    assert traces() == before


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "linked", "readable by others"])
def test_a_damaged_version_is_written_anew(
    server: ThisServer, local: LocalProcess, damage: str, tmp_path: Path
) -> None:
    good, before = bundle(), bundle()
    local.deliver(before)
    local.deliver(good)
    place = server.folder / "current" / "pfx"
    if damage == "changed":
        (place / "one.pfx").write_bytes(b"other bytes")
    elif damage == "missing":
        (place / "one.pfx").unlink()
    elif damage == "added":
        (place / "two.pfx").write_bytes(b"")
    elif damage == "linked":
        (place / "one.pfx").rename(tmp_path / "elsewhere")
        (place / "one.pfx").symlink_to(tmp_path / "elsewhere")
    else:
        (place / "one.pfx").chmod(0o644)
    assert (local.delivered_digest() == good.digest) == (damage == "readable by others")
    local.deliver(good)
    assert local.delivered_digest() == good.digest
    assert (place / "one.pfx").stat().st_mode & 0o777 == 0o600
    assert not (place / "one.pfx").is_symlink()
    assert before.digest in versions(server)
    assert len(versions(server)) == 2


def test_there_is_no_moment_without_a_whole_configuration(server: ThisServer, local: LocalProcess) -> None:
    """A reader that follows the link as an app does at its start meets one bundle or the other, never a mixture."""
    one, two = bundle(), bundle()
    local.deliver(one)
    seen: set[str] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.add(local.delivered_digest())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        local.deliver(two)
        local.deliver(one)
    over.set()
    reader.join(10)
    assert seen == {one.digest, two.digest}


def test_the_app_is_nobodys_child_and_holds_nothing_of_the_caller(server: ThisServer, local: LocalProcess) -> None:
    secret = os.open(server.folder.parent.parent, os.O_RDONLY)
    os.set_inheritable(secret, True)
    os.environ["COUNTERSIGN_TEST_SECRET"] = "x"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        local.start()
    finally:
        signal.signal(signal.SIGINT, before)
        del os.environ["COUNTERSIGN_TEST_SECRET"]
        os.close(secret)
    until_up(local)
    pid = record(server)["pid"]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    parent, group, session = map(int, fields[1:4])
    assert parent != os.getpid()
    assert group == session == pid
    targets = {entry.name: str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    assert targets["0"] == "/dev/null"
    assert targets["1"] == targets["2"] == str(server.folder / "app.log")
    assert all(target.startswith("socket:") for number, target in targets.items() if int(number) > 2)
    environment = Path(f"/proc/{pid}/environ").read_bytes().rstrip(b"\0").split(b"\0")
    assert {pair.partition(b"=")[0] for pair in environment} <= {b"PATH", b"LANG", b"HOME", b"LC_CTYPE"}
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert int(status["SigIgn"], 16) & (1 << (signal.SIGINT - 1)) == 0


def test_the_lock_outlives_a_caller_killed_within_the_start(server: ThisServer, local: LocalProcess) -> None:
    """Otherwise a second start could slip in between the fork and the app's first instruction."""
    server.folder.mkdir(parents=True)
    pipe = server.folder / "platform-log.jsonl"
    os.mkfifo(pipe)  # the launcher waits here, recorded but not yet the app, until somebody reads
    caller = a_caller("local-process", server, "pass")
    assert until((server.folder / "process").is_symlink)
    os.killpg(caller.pid, signal.SIGKILL)
    caller.communicate(timeout=10)
    lock = os.open(server.folder / "lock", os.O_RDWR)
    reader = -1
    try:
        assert not sessions.taken(lock)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        assert until(lambda: sessions.taken(lock))
        assert until_up(local).status == "running"
    finally:
        os.close(lock)
        if reader >= 0:
            os.close(reader)
        else:
            os.kill(record(server)["pid"], signal.SIGKILL)


def test_the_command_gets_its_words_unread_by_a_shell_and_its_environment(server: ThisServer) -> None:
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['GREETING'], os.getcwd()]), flush=True)"
    words = ["$HOME; exit 1", "`id`", "a  b", "--at={configuration}"]
    folder = server.folder.parent.parent
    local = LocalProcess(
        server.settings
        | {"argv": [sys.executable, "-c", code, *words], "env": {"GREETING": "good day"}, "cwd": str(folder)}
    )
    local.start()
    log = server.folder / "app.log"
    assert until(lambda: log.read_text().endswith("\n"))
    expected = [[*words[:3], f"--at={server.folder}/current"], "good day", str(folder)]
    assert json.loads(log.read_text()) == expected


def test_a_recycled_number_is_not_signalled(server: ThisServer, local: LocalProcess) -> None:
    local.start()
    until_up(local)
    real = record(server)
    os.kill(real["pid"], signal.SIGKILL)
    other = bystander()
    try:
        start_time = int(Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19])
        for wrong in ({"start_time": start_time - 1}, {"start_time": start_time, "boot": "another"}):
            set_record(server, real | {"pid": other.pid} | wrong)
            assert local.observe().status == "stopped"
            local.stop()
            assert other.poll() is None
            assert not (server.folder / "process").is_symlink()
        assert "stop" not in server.calls()
        # The same record with the right values is ours: the test above could have failed.
        set_record(server, real | {"pid": other.pid, "start_time": start_time})
        local.stop()
        assert other.wait(5) == -signal.SIGTERM
    finally:
        other.kill()
        other.communicate()


def test_an_app_that_the_first_release_started_is_still_known(server: ThisServer, local: LocalProcess) -> None:
    local.start()
    until_up(local)
    known = record(server)
    (server.folder / "process").unlink()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (server.folder / "process.json").write_text(json.dumps(known | {"boot": boot, "started_at": "2026-11-23T10:00:00"}))
    assert local.observe().incarnation == f"{known['pid']}-{known['start_time']}"
    local.stop()
    assert server.processes() == []
    assert not (server.folder / "process.json").exists()


def test_the_app_starts_where_not_one_more_byte_can_be_written(server: ThisServer, local: LocalProcess) -> None:
    """RLIMIT_FSIZE stands for a full disk: names can be made, contents cannot; and what is started inherits it."""
    local.start()
    until_up(local)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        local.stop()
        local.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert until_up(local).status == "running"
    assert len(server.processes()) == 1


@on_this_server
def test_an_order_that_comes_too_late_is_not_carried_out(kind: str, world: World) -> None:
    early, late = connect(kind, world.settings, 1_000), connect(kind, world.settings, 2_000)
    first, second = bundle(), bundle()
    early.deliver(first)
    early.start()
    late.stop()
    late.deliver(second)
    late.start()
    before = until_up(late)
    for call in (early.stop, early.start, lambda: early.deliver(first)):
        with pytest.raises(OutOfOrder, match="too late"):
            call()
    assert late.observe() == before
    assert late.delivered_digest() == second.digest
    connect(kind, world.settings).stop()
    assert late.observe().status == "stopped", "an order without a number is carried out"


@on_this_server
def test_an_order_from_a_clock_that_was_set_back_counts_for_nothing(kind: str, world: World) -> None:
    tomorrow = int(time.time() * 1000) + 86_400_000
    connect(kind, world.settings, tomorrow).start()
    connect(kind, world.settings, int(time.time() * 1000)).stop()
    assert world.processes() == []


def test_an_app_that_ignores_sigterm_is_killed(
    server: ThisServer, local: LocalProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "TERM_LIMIT", 0.3)
    server.let_the_app(deaf=True, child=True)
    local.start()
    assert until_up(local).status == "running"
    assert len(server.processes()) == 2
    local.stop()
    assert server.processes() == []


def test_what_a_dead_app_left_running_is_ended_before_the_next_start(server: ThisServer, local: LocalProcess) -> None:
    server.let_the_app(child=True)
    local.start()
    until_up(local)
    first = record(server)["pid"]
    os.kill(first, signal.SIGKILL)
    assert until(lambda: local.observe().status == "stopped")
    until(lambda: not Path(f"/proc/{first}").exists(), 3)  # collected: only its children bear its session's number now
    (left,) = set(server.processes()) - {first}
    server.let_the_app()
    local.start()
    assert until_up(local).status == "running"
    assert server.processes() == [record(server)["pid"]]
    assert left not in server.processes()


def test_a_command_that_is_not_there_is_refused_in_a_sentence(server: ThisServer) -> None:
    local = LocalProcess(server.settings | {"argv": ["no-such-command-here"]})
    with pytest.raises(ConnectorError, match="no-such-command-here is not found"):
        local.check()
    with pytest.raises(ConnectorError, match=r"no-such-command-here: No such file"):
        local.start()
    seen = local.observe()
    assert (seen.status, seen.incarnation) == ("stopped", "")
    assert "No such file" in seen.note


def test_the_log_starts_anew_with_each_start_and_the_one_before_is_kept(
    server: ThisServer, local: LocalProcess
) -> None:
    for reason in ("one", "two", "three"):
        server.let_the_app(exit=reason * 200)
        local.start()
        assert until(lambda: local.observe().status == "stopped")
        assert reason in local.observe().note
        assert len(local.observe().note) <= sessions.NOTE_LIMIT + 40
    assert (server.folder / "app.log").read_text().strip() == "three" * 200
    assert (server.folder / "app.log.1").read_text().strip() == "two" * 200
    assert not (server.folder / "app.log.2").exists()


@pytest.mark.parametrize(
    "behaviour",
    [
        {"answer": "<html>"},
        {"answer": "[]"},
        {"answer": '{"status": "draining"}'},
        {"answer": "[" * 50_000},
        {"answer": '{"status": "running"}' + " " * 70_000},
        {"drip": True},
    ],
    ids=["html", "a list", "another status", "deep", "too long", "dripping"],
)
def test_an_answer_that_is_no_status_is_never_taken_for_running(
    server: ThisServer, local: LocalProcess, behaviour: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_process, "STATUS_LIMIT", 0.5)
    server.let_the_app(**behaviour)
    local.start()
    assert until(lambda: "does not answer (Conn" not in local.observe().note)
    began = time.monotonic()
    seen = local.observe()
    assert time.monotonic() - began < 2 * local_process.STATUS_LIMIT + 1 < CALL_LIMIT
    assert (seen.status, seen.digest) == ("starting", None)
    monkeypatch.setattr(local_process, "START_GRACE", 0.0)
    seen = local.observe()
    assert seen.status == "unreachable"
    assert seen.incarnation
    assert seen.note.endswith(".")


def test_a_redirect_is_not_followed(server: ThisServer, local: LocalProcess, tmp_path: Path) -> None:
    elsewhere = ThisServer(tmp_path / "elsewhere")
    other = LocalProcess(elsewhere.settings)
    try:
        other.start()
        assert until_up(other).status == "running"
        server.let_the_app(redirect=elsewhere.settings["status_url"])
        local.start()
        assert until(lambda: "302" in local.observe().note)
        assert local.observe().status == "starting"
    finally:
        elsewhere.close()


def test_a_proxy_of_the_server_is_not_asked(
    server: ThisServer, local: LocalProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    local.start()
    assert until_up(local).status == "running"


def test_a_digest_that_is_no_digest_is_no_evidence(server: ThisServer, local: LocalProcess) -> None:
    server.let_the_app(answer=json.dumps({"status": "running", "digest": "<b>" + "a" * 61}))
    local.start()
    seen = until_up(local)
    assert (seen.status, seen.digest) == ("running", None)


@pytest.mark.parametrize("name", ["process", "process.json"])
def test_a_record_that_cannot_be_read_stops_every_call(server: ThisServer, local: LocalProcess, name: str) -> None:
    server.folder.mkdir(parents=True)
    (server.folder / name).write_text("{")
    for call in (local.start, local.stop, local.observe, local.check):
        with pytest.raises(ConnectorError, match="cannot be read"):
            call()
    assert server.calls() == []


def test_a_call_that_meets_another_one_says_so_in_time(
    server: ThisServer, local: LocalProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "LOCK_LIMIT", 0.2)
    with sessions.locked(server.folder), pytest.raises(ConnectorError, match="Another call"):
        local.deliver(bundle())
    local.deliver(bundle())


def test_the_limits_of_one_call_together_stay_below_the_limit_of_a_call() -> None:
    stop = sessions.LOCK_LIMIT + sessions.TERM_LIMIT + sessions.KILL_LIMIT
    start = sessions.LOCK_LIMIT + sessions.LEFTOVER_LIMIT + sessions.KILL_LIMIT + sessions.LAUNCH_LIMIT
    assert max(stop, start) < CALL_LIMIT


@pytest.mark.parametrize(
    "wrong",
    [
        {"folder": "relative"},
        {"folder": "/tmp/../etc"},
        {"folder": None},
        {"argv": "rm -rf"},
        {"argv": []},
        {"argv": ["a", 1]},
        {"env": {"A": 1}},
        {"cwd": "relative"},
        {"status_url": "http://example.com/status"},
        {"status_url": "http://127.0.0.1@example.com/"},
        {"status_url": "file:///etc/passwd"},
        {"status_url": "http://127.0.0.1:99999/"},
        {"status_url": None},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(server: ThisServer, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConnectorError, match="correct"):
        LocalProcess(server.settings | wrong)


def test_stop_all_stops_every_app_under_a_folder(tmp_path: Path) -> None:
    servers = [ThisServer(tmp_path / str(n)) for n in range(3)]
    try:
        for number, server in enumerate(servers):
            server.folder = tmp_path / "apps" / str(number)
            server.settings["folder"] = str(server.folder)
            LocalProcess(server.settings).start()
        LocalProcess(servers[0].settings).stop()
        assert all(server.processes() for server in servers[1:])
        assert stop_all(tmp_path / "apps") == 2
        assert [server.processes() for server in servers] == [[], [], []]
        assert stop_all(tmp_path / "apps") == 0
        assert stop_all(tmp_path / "nowhere") == 0
    finally:
        for server in servers:
            server.close()
