"""Who writes the bundle: one file for each form that a runtime reads. A new one is one line in EXPORTERS.

An exporter is a pure function of its arguments: no clock, database, network or randomness, so that the same content
and the same written PFX files always give the same bytes. `export` is the one door; what every form needs is refused
there, and what only one form cannot express is refused by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol

from certificates.content import Bundle, Content, WrittenPfx
from certificates.dialects import problems

MASKED_PASSWORD = "••••••"  # noqa: S105 - this is what is shown instead of one


class ExportError(Exception):
    """One sentence for the operator: what cannot be exported, and what to do."""


class Exporter(Protocol):
    """One form. `kind` is stored and never changes; `title` and `description` are for the page."""

    kind: str
    title: str
    description: str

    def export(self, content: Content, pfx: Mapping[str, WrittenPfx]) -> Bundle:
        """Writes the files. `pfx` holds one written PFX for each slot's slug. Raises ExportError."""


# kind (stored, never changes) -> dotted path of the class
EXPORTERS: dict[str, str] = {
    "mendix-settings": "rollouts.exporters.mendix_settings.MendixSettings",
    "buildpack-env": "rollouts.exporters.buildpack_env.BuildpackEnv",
}


def exporter(kind: str) -> Exporter:
    """The exporter of this kind. Raises ExportError for a kind that is not installed."""
    try:
        module, _, name = EXPORTERS[kind].rpartition(".")
    except KeyError:
        raise ExportError(f"No export “{kind}” is installed; choose another one under Settings.") from None
    found: Exporter = getattr(import_module(module), name)()
    return found


def export(kind: str, content: Content, pfx: Mapping[str, WrittenPfx]) -> Bundle:
    """The bundle of this kind for the content. `pfx` is by slug: exactly one written PFX for each slot.

    Raises ExportError where the runtime or the form cannot express the content; no secret is in its sentence.
    """
    writer = exporter(kind)
    for problem in problems(content):
        raise ExportError(problem)
    if content.authorities:
        raise ExportError("No export carries trusted authorities yet; remove them from this environment.")
    slugs = {slot.slug for slot in content.slots}
    for slug in sorted(slugs - set(pfx)):
        raise ExportError(f"Client certificate {slug} was not opened for this export; export again.")
    for slug in sorted(set(pfx) - slugs):
        raise ExportError(f"Client certificate {slug} is not part of this configuration; export again.")
    for slug, written in pfx.items():
        # Lists have no escaping, blanks may be trimmed, and Java reads no other than ASCII: so letters and digits only.
        if not (written.password.isascii() and written.password.isalnum()):
            raise ExportError(f"The export password of {slug} is not made of ASCII letters and digits; export again.")
        if not written.pfx:
            raise ExportError(f"The PFX written for {slug} is empty; export again.")
    return writer.export(content, pfx)


def count(number: int, noun: str) -> str:
    """`1 byte`, `3,412 bytes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
