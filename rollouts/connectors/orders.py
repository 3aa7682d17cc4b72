"""The highest fencing number that a folder has seen, kept in it as a link to nowhere. No Django here.

order                  a link whose target is that number
"""

from __future__ import annotations

import time
from pathlib import Path

from rollouts.connectors import OutOfOrder, folders

# Orders are numbered by the clock (milliseconds). A number that is further ahead than this was given by a clock that
# has been set back since, and counts for nothing.
CLOCKS_DIFFER = 5 * 60 * 1000


def refuse_late(folder: Path, order: int) -> None:
    """Refuses an order that was given before one that has been carried out: the worker that brings it was held up, and
    others have gone on meanwhile. Called with the folder's lock held; 0 is always in order."""
    if not order:
        return
    link = folder / "order"
    try:
        seen = int(link.readlink().name)
    except (OSError, ValueError):
        seen = 0
    if order < seen <= time.time() * 1000 + CLOCKS_DIFFER:
        raise OutOfOrder("This call came too late: another worker has gone on with the app meanwhile.")
    if order != seen:
        folders.link_to(link, Path(str(order)))
