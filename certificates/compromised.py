"""Private keys that others may have: they come back into use only where somebody says why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.translation import gettext as _

from certificates.models import Incident, Version
from environments.refusals import Refused


class CompromisedKey(Refused):
    """The key is compromised, and nobody said why it has to be used all the same."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, field="despite")


def look_up(versions: Iterable[Version]) -> list[Version]:
    """Those whose key is compromised. One query for all of them; each knows it afterwards."""
    versions = list(versions)
    keys = {version.spki_sha256 for version in versions if version.spki_sha256 and version.has_key}
    found = set(Incident.of_keys(keys).values_list("spki_sha256", flat=True)) if keys else set()
    for version in versions:
        version.key_is_compromised = version.has_key and version.spki_sha256 in found
    return [version for version in versions if version.key_is_compromised]


def insist_on_why(versions: Iterable[Version], despite: str) -> dict[str, Any]:
    """What the event of an action says of it, if one of these keys is compromised: `despite`. Raises CompromisedKey
    where nothing is said."""
    found = look_up(versions)
    if not found:
        return {}
    if not (despite := " ".join(despite.split())[:500]):
        raise CompromisedKey(
            _("The private key of %(names)s is compromised; say why it has to be used all the same.")
            % {"names": ", ".join(f"“{version}”" for version in found[:5])}
        )
    return {"despite": despite}
