"""Write an environment's export to a zip or a folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from audit.actors import Actor
from certificates.command_line import EnvironmentCommand
from certificates.content import Bundle
from environments.models import Environment
from environments.refusals import Refused
from rollouts import actions, exporters
from rollouts.downloads import zipped


class Command(EnvironmentCommand):
    """Exit 0: written. Exit 1: refused, nothing was written. Exit 2: misuse."""

    help = "Write the export of what an environment should run: PFX files with fresh passwords, and the settings."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", required=True, help="why, in a few words; it stands in the audit log")
        parser.add_argument(
            "--exporter", required=True, choices=sorted(exporters.EXPORTERS), help="which form to write"
        )
        parser.add_argument("--to", required=True, type=Path, metavar="FILE.zip|DIR", help="a zip, or a folder")
        parser.add_argument("--base-folder", help="where the app finds its files; the environment's own by default")
        parser.add_argument("--force", action="store_true", help="overwrite what is there")

    def perform(self, environment: Environment, options: dict[str, Any], *, by: Actor) -> dict[str, Any]:
        to = Path(options["to"])
        # Looked at before any key is opened.
        if not options["force"] and is_taken(to):
            raise Refused(f"{to} exists already; name another one, or add --force to overwrite.")
        bundle = actions.export_to_download(
            environment=environment,
            exporter=options["exporter"],
            base_folder=environment.base_folder if options["base_folder"] is None else options["base_folder"],
            reason=options["reason"],
            password=None,
            by=by,
        )
        try:
            written = write(bundle, to, force=options["force"])
        except OSError as error:
            raise Refused(f"{to} could not be written: {error.strerror or error}.") from None
        for path in written:
            self.tell(str(path), options)
        paths = [str(path) for path in written]
        return {"written": paths, "exporter": options["exporter"], "digest": bundle.digest}

    def sentence(self, done: dict[str, Any]) -> str:
        return "These files hold private keys and their passwords: keep them from everybody but the app."


def is_taken(to: Path) -> bool:
    """A folder may be there when it is empty."""
    if to.is_dir() and to.suffix != ".zip":
        return any(to.iterdir())
    return to.exists() or to.is_symlink()


def write(bundle: Bundle, to: Path, *, force: bool) -> list[Path]:
    """Writes the zip, or the files into the folder, each for its owner only. All or nothing, unless `force`."""
    files = {to / file.path: file.content for file in bundle.files}
    if to.suffix == ".zip":
        files = {to: zipped(bundle)}
    written: list[Path] = []
    try:
        for path, content in sorted(files.items()):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _put(path, content, force=force)
            written.append(path)
    except OSError:
        for path in written if not force else []:
            path.unlink(missing_ok=True)
        raise
    return written


def _put(path: Path, content: bytes, *, force: bool) -> None:
    """A file of mode 0600 appears whole or not at all; without `force` nothing that exists is replaced."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".countersign-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        if force:
            Path(temporary).replace(path)
        else:
            path.hardlink_to(temporary)  # refuses what exists, also when it appeared just now
    finally:
        Path(temporary).unlink(missing_ok=True)
