"""`manage.py inspect_pfx`: a verdict for each file, without database and vault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests import pki

PROJECT = Path(__file__).parents[2]
KEYS = {
    "file", "code", "sentence", "key", "certificates", "friendly_name", "chain", "warnings", "iterations", "algorithms",
}  # fmt: skip


def inspect(folder: Path, *arguments: str | Path, given: str = "") -> tuple[int, str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COUNTERSIGN_", "DATABASE_"))}
    # Nothing can be made or found there.
    environ |= {"COUNTERSIGN_DATA": "/dev/null/nowhere", "COUNTERSIGN_SECRET_KEY": "x" * 60}
    done = subprocess.run(
        [sys.executable, PROJECT / "manage.py", "inspect_pfx", *arguments],
        cwd=folder, env=environ, input=given, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_each_file_has_a_line_whatever_its_verdict(tmp_path: Path):
    authority = pki.make_authority("Partner CA")
    (tmp_path / "good.pfx").write_bytes(pki.pfx(pki.issue("bank", key="rsa-2048", authority=authority), "secret"))
    (tmp_path / "page.pfx").write_bytes(b"<html>")
    (tmp_path / "passwords").write_text("wrong\nsecret\n")

    code, out, _err = inspect(tmp_path, "good.pfx", "page.pfx", "--password-file", "passwords", "--json")

    assert code == 0
    good, page = [json.loads(line) for line in out.splitlines()]
    assert good.keys() >= KEYS
    assert (good["file"], good["code"], good["key"], good["certificates"]) == ("good.pfx", "ok", "RSA 2048", 2)
    assert [name.partition(",")[0] for name in good["chain"]] == ["CN=bank", "CN=Partner CA"]
    assert (good["friendly_name"], good["iterations"]) == ("client", 2048)
    assert page.keys() >= KEYS
    assert (page["code"], page["key"]) == ("not_pkcs12", None)
    assert "web page" in page["sentence"]


def test_a_manifest_names_the_files_and_their_passwords(tmp_path: Path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "one.pfx").write_bytes(pki.pfx(pki.issue("bank"), "sécret"))
    (tmp_path / "files" / "two.pfx").write_bytes(pki.pfx(pki.issue("bank"), ""))
    rows = [("file", "password_json"), ("one.pfx", json.dumps("sécret")), ("one.pfx", '"no"'), ("two.pfx", "null")]
    quoted = "\n".join("\t".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
    (tmp_path / "manifest.tsv").write_text(quoted)

    code, out, _err = inspect(tmp_path, "--manifest", "manifest.tsv", "--root", "files", "--json")

    assert code == 0
    verdicts = [json.loads(line) for line in out.splitlines()]
    assert [(one["file"], one["code"]) for one in verdicts] == [
        ("one.pfx", "ok"),
        ("one.pfx", "wrong_password"),
        ("two.pfx", "ok"),
    ]


def test_people_read_sentences_and_the_password_may_be_typed(tmp_path: Path):
    (tmp_path / "bank.pfx").write_bytes(pki.pfx(pki.issue("bank"), "secret"))
    code, out, err = inspect(tmp_path, "bank.pfx", "--password-file", "-", given="secret\n")
    assert (code, err) == (0, "")
    assert out.startswith("bank.pfx: This file holds bank with its private key.")


def test_misuse_ends_with_two(tmp_path: Path):
    assert inspect(tmp_path)[0] == 2
    assert inspect(tmp_path, "missing.pfx") == (2, "", "missing.pfx cannot be read: No such file or directory.\n")
    (tmp_path / "bad.tsv").write_text("name\nx\n")
    assert inspect(tmp_path, "--manifest", "bad.tsv")[0] == 2
