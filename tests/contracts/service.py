"""A service with an init script of its own, as far as the `directory` connector sees one.

    service.py FOLDER PORT BEHAVIOUR CONFIGURATION start|stop|status|reload

Runs tests/contracts/tiny_app.py in the background, known by a file with its process number, and notes each start and
stop in `calls`. Exit codes as of LSB's init scripts: 0 runs, 3 does not.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

folder, port, behaviour, configuration, order = Path(sys.argv[1]), *sys.argv[2:]
folder.mkdir(parents=True, exist_ok=True)
record, calls, log = folder / "service.pid", folder / "calls", folder / "service.log"


def started() -> tuple[int, str] | None:
    try:
        pid, since = record.read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid), since


def lives(pid: int, since: str) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX" and fields[19] == since


def note(call: str) -> None:
    with calls.open("a") as file:
        file.write(call + "\n")


def start() -> None:
    if (known := started()) and lives(*known):
        return
    tiny = str(Path(__file__).with_name("tiny_app.py"))
    argv = [sys.executable, tiny, port, "--configuration", configuration, "--behaviour", behaviour]
    with log.open("w") as output:
        app = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )  # fmt: skip
    since = Path(f"/proc/{app.pid}/stat").read_text().rpartition(")")[2].split()[19]
    record.write_text(f"{app.pid} {since}")
    note("start")


def stop() -> None:
    known = started()
    if known and lives(*known):
        os.kill(known[0], signal.SIGTERM)
        while lives(*known):
            time.sleep(0.01)
        note("stop")
    record.unlink(missing_ok=True)


def status() -> int:
    known = started()
    if known is None:
        return 3
    which = "-".join(map(str, known))
    if not lives(*known):
        print(which, "-", log.read_text(), sep="\n")
        return 3
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=1) as answer:
            print(which, json.load(answer)["digest"], sep="\n")
    except OSError:
        print(which)
        return 75
    return 0


with (folder / "service.lock").open("w") as one_at_a_time:
    if order != "status":
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        os.set_inheritable(one_at_a_time.fileno(), False)
    sys.exit({"start": start, "stop": stop, "status": status}[order]())
