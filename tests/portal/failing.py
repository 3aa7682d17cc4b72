"""The portal with a page and a move that fail with a secret in every place where a careless log would find it.

tests/portal/test_logs.py runs a real web server and a real worker of it. The secret comes as A_SECRET, so that it
stands nowhere in a source line.
"""

import os
import sys
from uuid import UUID

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import path

from portal.celery import app as app  # what `celery --app` looks for
from portal.wsgi import application as application
from rollouts import actions, moves

ROLLOUT = UUID("11111111-2222-4333-8444-555555555555")
sys.argv.append(f"--password={os.environ['A_SECRET']}")


class Carrier:
    """Its repr shows what it carries, as that of many a thing does."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        return f"<Carrier {self.secret}>"


def explode(carrier: Carrier) -> None:
    password = carrier.secret
    try:
        int(password)  # whose message quotes it
    except ValueError as error:
        raise KeyError(carrier, password, sys.argv) from error


def fail_a_move(rollout_id: str) -> None:
    explode(Carrier(os.environ["A_SECRET"]))


@login_not_required
def fails(request: HttpRequest) -> HttpResponse:
    actions.nudge(ROLLOUT)
    explode(Carrier(os.environ["A_SECRET"]))
    return HttpResponse()


moves.advance = fail_a_move
from portal import urls  # noqa: E402  # when the apps are loaded

urls.urlpatterns.insert(0, path("fails/", fails))
