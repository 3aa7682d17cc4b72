"""Say what is in PKCS #12 files, or what is wrong with them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.views.decorators.debug import sensitive_variables

from certificates import inspection, one_shot
from certificates.command_line import MISUSE, read_at_most, read_secret
from certificates.diagnosis import Refusal
from certificates.intake import Upload
from certificates.outline import MAX_FILE
from certificates.question import Question


class Command(BaseCommand):
    """Exit 0: all were judged, whatever the verdicts. Exit 2: misuse. Needs neither a database nor a vault."""

    help = "Say what is in .pfx or .p12 files, or what is wrong with them and what to do."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", metavar="FILE", nargs="*", type=Path)
        parser.add_argument(
            "--password-file",
            metavar="F",
            help="a file with passwords, one a line, each tried on each file; - reads the standard input",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object a line")
        parser.add_argument(
            "--manifest",
            metavar="TSV",
            type=Path,
            help="a table with the columns file and password_json (a JSON string, or null), instead of FILE",
        )
        parser.add_argument("--root", metavar="DIR", type=Path, default=Path(), help="where the manifest's files are")

    @sensitive_variables()
    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["files"]) == bool(options["manifest"]):
            self._misuse("Name files, or a manifest of files.")
        try:
            for name, path, passwords in self._cases(options):
                self._say(judged(name, path, passwords), as_json=options["json"])
        except UnicodeError:
            self._misuse("The file of passwords, or the manifest, is not UTF-8 text.")
        except OSError as error:
            self._misuse(f"{error.filename} cannot be read: {error.strerror}.")
        except (KeyError, ValueError):
            self._misuse("The manifest needs the columns file and password_json, the latter a JSON string or null.")

    def _cases(self, options: dict[str, Any]) -> Iterator[tuple[str, Path, list[str]]]:
        if options["manifest"] is None:
            passwords = passwords_in(options["password_file"]) if options["password_file"] else [""]
            for path in options["files"]:
                yield str(path), path, passwords
            return
        with options["manifest"].open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines, delimiter="\t"):
                yield row["file"], options["root"] / row["file"], [json.loads(row["password_json"]) or ""]

    def _say(self, told: dict[str, Any], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(told))
            return
        self.stdout.write(f"{told['file']}: {told['sentence']}")
        for warning in told["warnings"]:
            self.stdout.write(f"  {warning['sentence']}")

    def _misuse(self, sentence: str) -> None:
        self.stderr.write(sentence)
        raise SystemExit(MISUSE)


@sensitive_variables()
def judged(name: str, path: Path, passwords: list[str]) -> dict[str, Any]:
    """The verdict on one file, by a process of its own."""
    file = Upload(name, read_at_most(path, MAX_FILE + 1))
    try:
        return one_shot.inspect(Question((file,), tuple(passwords), inspect=True))
    except Refusal as refusal:
        return inspection.unseen(name) | inspection.refused(refusal)


def passwords_in(source: str) -> list[str]:
    """The lines of a file; of the standard input, its first line."""
    if source == "-":
        return [read_secret(source)]
    lines = Path(source).read_text(encoding="utf-8").split("\n")
    return [line.removesuffix("\r") for line in lines if line.strip("\r")] or [""]
