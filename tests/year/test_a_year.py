"""A year passes over five hundred certificates, with outages of watcher, mail, service and broker: every threshold that
was crossed is told exactly once to each channel, none missed, none repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.year, pytest.mark.timeout(1200)]


def year(folder: Path, hours: int) -> dict[str, Any]:
    known = {k: v for k, v in os.environ.items() if not k.startswith(("COUNTERSIGN_", "DATABASE_"))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.year.simulate", str(folder), str(hours)],
        cwd=PROJECT, env=known, capture_output=True, text=True, timeout=1150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    # Others say something there, too: the worker, that it ends.
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("{"))
    report: dict[str, Any] = json.loads(said)
    print(json.dumps(report, indent=2))
    return report


@pytest.mark.parametrize(
    "hours",
    [pytest.param(48, id="a look every other day"), pytest.param(6, id="four looks a day", marks=pytest.mark.soak)],
)
def test_every_threshold_is_told_once_to_each_channel(tmp_path: Path, hours: int) -> None:
    report = year(tmp_path, hours)
    assert report["expected"] > 1000
    assert set(report["thresholds"]) == {"first", "second", "week", "day", "ended"}
    assert (report["missed"], report["repeated"], report["unexpected"]) == ([], [], [])
    assert report["unsent"] == 0
    assert (report["mails twice"], report["mails lost"], report["mails unknown"]) == ([], [], [])
    assert report["services"] > 20
    assert report["services wrong"] == []
    assert report["tried again"] > 0, "the outages were felt"
