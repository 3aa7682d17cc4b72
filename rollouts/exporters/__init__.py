"""Exporters turn an environment's content and its freshly written PFX files into the files that one runtime reads.

Pure: no database, no clock, no network. A new one is a file and a line in EXPORTERS; the contract suite then tests it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Protocol

from certificates.content import Bundle, Content, PinnedTarget, WrittenPfx
from certificates.dialects import problems

MASKED_PASSWORD = "••••••"  # noqa: S105 - this is what is shown instead of one


class ExportError(Exception):
    """One sentence for the operator: what cannot be exported, and what to do."""


class Exporter(Protocol):
    """One form. `kind` is stored and never changes; `title` and `description` are for the page.

    `dialect` names what its reader can express; `needs_folder` says that its files name absolute paths;
    `one_password` that it needs all PFX files under one password.
    """

    kind: str
    title: str
    description: str
    dialect: str
    needs_folder: bool
    one_password: bool

    def spelled(self, pin: PinnedTarget, folder: str) -> str:
        """How one pin is written in this form, for a page; `folder` may be empty or wrong."""

    def export(self, content: Content, pfx: Mapping[str, WrittenPfx], authorities: Mapping[str, bytes]) -> Bundle:
        """Writes the files. `pfx` holds one written PFX for each slot's slug, `authorities` the DER of each trusted
        authority by its fingerprint. Raises ExportError."""


# kind (stored, never changes) -> dotted path of the class
EXPORTERS: dict[str, str] = {
    "mendix-settings": "rollouts.exporters.mendix_settings.MendixSettings",
    "m2ee-yaml": "rollouts.exporters.m2ee_yaml.M2eeYaml",
    "pad-hocon": "rollouts.exporters.pad_hocon.PadHocon",
    "buildpack-env": "rollouts.exporters.buildpack_env.BuildpackEnv",
    "mendix-operator": "rollouts.exporters.mendix_operator.MendixOperator",
    "kubernetes-secret": "rollouts.exporters.kubernetes_secret.KubernetesSecret",
    "pem-bundle": "rollouts.exporters.pem_bundle.PemBundle",
    "java-keystore": "rollouts.exporters.java_keystore.JavaKeystore",
}


def exporter(kind: str) -> Exporter:
    """The exporter of this kind. Raises ExportError for a kind that is not installed."""
    try:
        module, _, name = EXPORTERS[kind].rpartition(".")
    except KeyError:
        raise ExportError(f"No export “{kind}” is installed; choose another one under Settings.") from None
    found: Exporter = getattr(import_module(module), name)()
    return found


def usual(runtime: str) -> Exporter:
    """The first export for this kind of runtime (`Content.runtime`). Raises ExportError where there is none."""
    for kind in EXPORTERS:
        if (found := exporter(kind)).dialect == runtime:
            return found
    raise ExportError(f"No export for “{runtime}” is installed; choose another runtime under Settings.")


def obstacles(kind: str, content: Content) -> tuple[str, ...]:
    """Why this content cannot be exported in this form, one sentence each: what the environment's own runtime cannot
    be told, and what the reader of this form cannot."""
    there = replace(content, runtime=exporter(kind).dialect)
    return tuple(dict.fromkeys((*problems(content), *problems(there))))


def export(
    kind: str, content: Content, pfx: Mapping[str, WrittenPfx], authorities: Mapping[str, bytes] | None = None
) -> Bundle:
    """The bundle of this kind for the content. `pfx` is by slug: exactly one written PFX for each slot; `authorities`
    has the DER of each trusted authority by its SHA-256 (hex).

    Raises ExportError where the runtime or the form cannot express the content; no secret is in its sentence.
    """
    writer = exporter(kind)
    authorities = authorities or {}
    for problem in obstacles(kind, content):
        raise ExportError(problem)
    for sha256 in content.authorities:
        if sha256 not in authorities:
            raise ExportError(f"The trusted authority {sha256[:16]}… is not here any more; add it again.")
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
    return writer.export(content, pfx, authorities)


def count(number: int, noun: str) -> str:
    """`1 byte`, `3,412 bytes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
