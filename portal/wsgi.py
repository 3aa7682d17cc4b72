"""What a web server calls. Its threads share connections to PostgreSQL; workers and commands need one each."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

# Before the first connection is made, with which the pool opens.
if settings.DATABASE_POOL and settings.DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    from django.db.backends.postgresql.base import DatabaseWrapper

    settings.DATABASES["default"]["OPTIONS"]["pool"] = settings.DATABASE_POOL
    # A process forked from one that asked the database (gunicorn --preload) would write to its parent's sockets, by a
    # pool whose threads did not come along. It makes a pool of its own instead; the parent's stays the parent's.
    os.register_at_fork(after_in_child=DatabaseWrapper._connection_pools.clear)  # type: ignore[attr-defined]

application = get_wsgi_application()
