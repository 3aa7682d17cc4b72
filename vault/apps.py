"""The vault as a Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class VaultConfig(AppConfig):
    """Registers the checks that tell a missing or wrong key before it is needed."""

    name = "vault"
    verbose_name = _("Vault")

    def ready(self) -> None:
        from vault import checks  # noqa: F401  (registers itself; models must be loaded first)
