from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "portal"

    def ready(self) -> None:
        # Whoever sends a task by name (a page, a command) sends it through the queue that is configured here.
        from portal.celery import app

        app.set_default()
