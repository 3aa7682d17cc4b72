"""`python -m tests.chaos.workers WORKERS CONCURRENCY`: several of the portal's workers and its clock, with short waits.

They are the product's own commands, forked from one that has imported everything: a worker that dies is there again in
a moment, as often as it dies. As under the product's supervisor, what a worker leaves behind in its group goes with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.chaos.settings"

import django

django.setup()

from django.conf import settings

from portal.celery import app
from portal.management.commands.run import children
from tests.chaos import deaths

app.loader.import_default_modules()
app.conf.beat_schedule["sweep"] |= {"schedule": 1.0, "options": {"expires": 1.0}}
app.finalize()
deaths.arm()


def words(name: str, concurrency: int) -> list[str]:
    """The command that the product runs, from “worker” or “beat” on."""
    argv = next(child.argv for child in children() if child.name == name)
    found = list(argv[argv.index("portal.celery") + 1 :])
    if "--concurrency" in found:
        found[found.index("--concurrency") + 1] = str(concurrency)
    return found


def born(name: str, argv: list[str]) -> int:
    if pid := os.fork():
        return pid
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nobody outlives this world
    os.setpgid(0, 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    log = os.open(settings.LOGS_DIR / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        app.start(argv=argv)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        os._exit(code)


def main(workers: int, concurrency: int) -> None:
    settings.LOGS_DIR.mkdir(exist_ok=True)
    names = {f"w{n}": [*words("worker", concurrency), "--hostname", f"w{n}@%h"] for n in range(workers)}
    names["clock"] = words("clock", concurrency)
    running = {born(name, argv): name for name, argv in names.items()}
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in running:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    asked = 0.0
    while running:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            asked = asked or (time.monotonic() if stopping else 0.0)
            if asked and time.monotonic() - asked > 10:
                for pid in running:
                    os.killpg(pid, signal.SIGKILL)
            time.sleep(0.02)
            continue
        with suppress(ProcessLookupError):
            os.killpg(ended.si_pid, signal.SIGKILL)
        os.waitpid(ended.si_pid, 0)
        name = running.pop(ended.si_pid)
        if not stopping:
            running[born(name, names[name])] = name


main(*map(int, sys.argv[1:]))
