"""Places for apps, out of a file of the server's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from portal import places

GOOD = {"argv": ["/opt/billing/start", "{configuration}"], "status_url": "http://127.0.0.1:8090/status"}


def test_the_server_knows_the_places_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "places.json"
    file.write_text(json.dumps({"billing": GOOD, "ledger": GOOD | {"title": "Ledger", "folder": "/srv/ledger"}}))
    environ = {k: v for k, v in os.environ.items() if not k.startswith("COUNTERSIGN_")}
    said = subprocess.run(
        [sys.executable, "-c", "import json; from portal import settings; print(json.dumps(settings.LOCAL_PROCESSES))"],
        env=environ | {"COUNTERSIGN_DATA": str(tmp_path), "COUNTERSIGN_PLACES": str(file)},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    known = json.loads(said)
    assert known["billing"] == {"title": "billing", "address": "", "folder": f"{tmp_path}/apps/billing", **GOOD}
    assert (known["ledger"]["title"], known["ledger"]["folder"]) == ("Ledger", "/srv/ledger")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold an object"),
        ({"Billing App": GOOD}, "small letters"),
        ({"billing": []}, "must be an object"),
        ({"billing": {"argv": ["x"]}}, "has no status_url"),
        ({"billing": GOOD | {"comand": "x"}}, "has comand, which means nothing"),
        ({"billing": GOOD | {"connector": "abacus"}}, "known are directory, local-process, m2ee"),
        ({"billing": GOOD | {"connector": "directory"}}, "has argv, which means nothing"),
        ({"billing": {"connector": "directory", "start": ["x"], "stop": ["x"]}}, "has no status"),
        ({"billing": GOOD | {"exporter": "abacus"}}, "has an exporter that is not here"),
        ({"billing": GOOD | {"group": "www-data"}}, "has group, which means nothing"),
        ({"billing": GOOD | {"cwd": 1}}, "has cwd that is not a text"),
        ({"a": GOOD | {"folder": "/srv/x"}, "b": GOOD | {"folder": "/srv/x"}}, "have one folder"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_in_a_sentence(written: object, said: str, tmp_path: Path) -> None:
    file = tmp_path / "places.json"
    file.write_text(written if isinstance(written, str) else json.dumps(written))
    with pytest.raises(ImproperlyConfigured, match=said):
        places.read(str(file), tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"nowhere\.json, which cannot be read: No such file"):
        places.read(str(tmp_path / "nowhere.json"), tmp_path)
