"""Brings data folder and database to what this release needs: the first part of `run`, for those who run the parts."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from portal.management.commands.run import prepare


class Command(BaseCommand):
    """Exit 0: ready to be started. Exit 1: could not be prepared, with the reason in a sentence."""

    help = "Migrate, make the vault key and the first owner where they are missing, and collect the static files."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        os.umask(0o077)
        settings.DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        username, password = prepare(self.stdout.write)
        if password:
            self.stdout.write(f"Sign in as {username} with {password}, once; it is not shown again.")
        self.stdout.write("Ready to be started.")
