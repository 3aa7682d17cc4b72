"""Start the apps on this machine that should run, as after a boot."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from rollouts import actions


class Command(BaseCommand):
    """Exit 0: each app that should run was started or ran already. Exit 1: not all, with a sentence for each."""

    help = "Start the apps of the local-process connector that should run. What runs is left alone."

    def handle(self, *args: Any, **options: Any) -> None:
        failures = actions.start_what_should_run()
        for failure in failures:
            self.stderr.write(failure)
        if failures:
            raise SystemExit(1)
        self.stdout.write("The apps that should run were started.")
