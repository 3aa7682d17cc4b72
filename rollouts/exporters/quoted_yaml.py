"""YAML in which every text is quoted: YAML 1.1 takes many for something else."""

from __future__ import annotations

from typing import Any

import yaml

# The library's own in C, which every wheel of it has: files in base64 take its Python six times as long as their keys.
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def dump(*documents: Any, start: bool = False) -> str:
    """The documents in block style, keys in their order, no line folded; `start` puts `---` before each."""
    text: str = yaml.dump_all(
        documents,
        Dumper=_Dumper,
        default_style='"',
        default_flow_style=False,
        sort_keys=False,
        allow_unicode=True,
        explicit_start=start,
        width=1 << 20,
    )
    return text
