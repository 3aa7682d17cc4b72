"""gunicorn's two logs, written as all others are (portal/logs.py). Named by gunicorn.conf.py; knows no Django."""

from __future__ import annotations

import re
from datetime import timedelta
from logging.config import dictConfig
from typing import Any

from gunicorn.glogging import Logger

from portal import env, logs

# Asked every few seconds by whoever watches us; what they were told is in the log when it changes.
HEALTH = {"/healthz", "/readyz"}


class Gunicorn(Logger):
    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self._access_log_enabled = True
        dictConfig(
            logs.configuration(env.text("COUNTERSIGN_LOG_FORMAT", "line"), env.text("COUNTERSIGN_LOG_LEVEL", "INFO"))
        )
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Method, path without its query, status, bytes, time and address. No referrer: what a person searched for is
        nobody's business."""
        path, status = str(environ.get("PATH_INFO", "")), str(resp.status).partition(" ")[0]
        if path in HEALTH:
            return
        method, size = str(environ.get("REQUEST_METHOD", "")), getattr(resp, "sent", None) or 0
        took = round(request_time / timedelta(milliseconds=1))
        facts = {
            "request_id": environ.get(logs.REQUEST_ID, ""),
            "user": environ.get(logs.USER, ""),
            "address": str(environ.get("REMOTE_ADDR", "")),
            "method": method,
            "path": path,
            "status": int(status) if status.isdigit() else 0,
            "bytes": size,
            "ms": took,
        }
        known = {name: fact for name, fact in facts.items() if fact != ""}
        with logs.about(**{name: str(known[name]) for name in ("request_id", "user", "address") if name in known}):
            self.access_log.info("%s %s %s %d bytes %d ms", method, path, status, size, took, extra={"facts": known})

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        # What follows is the request line as it came, query and all.
        super().warning(re.sub(r"^(Invalid request from ip=\S*?): .*", r"\1", msg, flags=re.DOTALL), *args, **kwargs)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        paths = (arg.partition("?")[0] if isinstance(arg, str) else arg for arg in args)
        super().exception(msg, *paths, **kwargs)
