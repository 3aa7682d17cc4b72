from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "portal"

    def ready(self) -> None:
        # Whoever sends a task by name (a page, a command) sends it through the queue that is configured here.
        from django.core.signals import request_finished

        from portal import logs
        from portal.celery import app

        app.set_default()
        logs.follow_tasks()
        request_finished.connect(logs.end)
