"""Make the vault's first key, where the settings say."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from vault import keyrings
from vault.errors import VaultError


class Command(BaseCommand):
    """Exit 0: made. Exit 1: refused, an existing key stays as it is. Exit 2: misuse."""

    help = "Make the vault's first key where VAULT_KEYRING says. An existing key is kept."
    # The checks would complain about the very key that is to be made here.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            kind, keyring_options = keyrings.configured(settings.VAULT_KEYRING)
            key_id = kind.generate(keyring_options)
            check_value = kind.from_options(keyring_options).check_value(key_id)
            place = kind.whereabouts(keyring_options)
        except VaultError as error:
            if options["json"]:
                self.stdout.write(json.dumps({"made": False, "reason": str(error)}))
            else:
                self.stderr.write(str(error))
            raise SystemExit(1) from None
        if options["json"]:
            self.stdout.write(json.dumps({"made": True, "key_id": key_id, "check_value": check_value, "place": place}))
            return
        self.stdout.write(f"Made the key {key_id} (check value {check_value}) in {place}")
        self.stdout.write(
            "Keep a copy away from this machine and from the other backups: without it nothing that was sealed can be "
            "opened again."
        )
