"""The product's own settings, but that Mendix Cloud is a stand-in on this machine (tests/contracts/deploy_api.py).

JOURNEY_DEPLOY_PORT is its port.
"""

from __future__ import annotations

import os

from portal.settings import *  # noqa: F403
from portal.settings import DOORS
from rollouts.connectors import mendix_cloud
from rollouts.outbound import Door

_port = int(os.environ["JOURNEY_DEPLOY_PORT"])
DOORS["connectors"] = Door((), {("deploy.test", _port): ("127.0.0.1", _port)})
mendix_cloud.BASE = f"http://deploy.test:{_port}/api/1"
