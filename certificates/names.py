"""Names for new certificates, where nobody typed one."""

from __future__ import annotations

from pathlib import PurePath

from django.utils.translation import gettext as _

from certificates.models import Version
from environments.models import Environment


class Names:
    """Suggests names that are free in an environment, and none of them twice. One query."""

    def __init__(self, environment: Environment) -> None:
        listed = environment.certificates.filter(removed_at=None).values_list("name", flat=True)
        self._taken = {name.lower() for name in listed}

    def suggest(self, version: Version, file_name: str) -> str:
        """The common name, else the file's name; numbered where there is one of this name."""
        return self.free(version.common_name or PurePath(file_name).stem or _("Client certificate"))

    def free(self, stem: str) -> str:
        """This name, numbered where it is taken."""
        name, number = stem, 2
        while name.lower() in self._taken:
            name, number = f"{stem} ({number})", number + 1
        self._taken.add(name.lower())
        return name
