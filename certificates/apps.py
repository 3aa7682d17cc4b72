from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_migrate


class CertificatesConfig(AppConfig):
    name = "certificates"

    def ready(self) -> None:
        from certificates import serials

        pre_migrate.connect(serials.uninstall, sender=self, dispatch_uid="content-written")
        post_migrate.connect(serials.install, sender=self, dispatch_uid="content-written")
