import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

# Commands of the queue are sent by name through the app that is configured here.
from portal.celery import app as celery_app

celery_app.set_default()
application = get_wsgi_application()
