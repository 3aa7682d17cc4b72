"""What a log line says: words, or one JSON object a line (COUNTERSIGN_LOG_FORMAT), and nobody's secrets in either.

Every line names the request, the person, the rollout and the task in which it was written, as far as there are such.

What an exception says may hold what somebody typed (`int("hunter2")`), credentials in an address, or the values of a
row. So a line gives the exception's type and its places (file, line, function), never source lines or variables, and
its text only where its family is known to speak of operation alone: our own errors, which are sentences for the
operator (DESIGN §4.9), the system's errors by their number, and the few in SPOKEN.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from pythonjsonlogger.json import JsonFormatter

ROOT = Path(__file__).resolve().parent.parent
OURS = {"portal", "rollouts", "certificates", "environments", "audit", "vault"}
# A database, a broker or a pool's process that is gone says so in these, without any value of a row or a password.
SPOKEN = {
    "billiard.exceptions.TimeLimitExceeded",
    "billiard.exceptions.WorkerLostError",
    "django.db.utils.OperationalError",
    "kombu.exceptions.OperationalError",
    "psycopg.OperationalError",
    "psycopg_pool.PoolTimeout",
    "redis.exceptions.ConnectionError",
    "redis.exceptions.TimeoutError",
    "sqlite3.OperationalError",
}
FORMS = ("line", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# At DEBUG these write requests with their signatures, or the messages on the queue.
NEVER_BELOW_INFO = ("amqp", "boto3", "botocore", "django", "kombu", "s3transfer", "urllib3")
PLACES = 25  # of one exception, the innermost
CAUSES = 3
TEXT = 300

# Where the portal leaves in a request's environ what the server's line about it is to name.
REQUEST_ID, USER = "countersign.request_id", "countersign.user"

_NOTHING: Mapping[str, str] = {}
_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=_NOTHING)
_WELL_FORMED = re.compile(r"[A-Za-z0-9_-]{8,64}")
# These parts of an address are secrets: whoever has one may send a certificate, fetch an export or read a calendar.
_SECRET = re.compile(r"(/(?:partner|hooks/exports)/)[^/\s]+|(/calendars/)[^/\s]+(?=\.ics)", re.IGNORECASE)
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def configuration(form: str, level: str) -> dict[str, Any]:
    """LOGGING for Django, for Celery and for gunicorn's master, which knows no Django."""
    if form not in FORMS:
        raise ImproperlyConfigured(f"COUNTERSIGN_LOG_FORMAT is “{form}”; write {' or '.join(FORMS)}.")
    level = level.upper()
    if level not in LEVELS:
        raise ImproperlyConfigured(f"COUNTERSIGN_LOG_LEVEL is “{level}”; write one of {', '.join(LEVELS)}.")
    loggers: dict[str, Any] = {
        # At INFO they write a line for every task, and a sweep every three seconds tells nobody anything.
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.worker.request": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
    }
    if level == "DEBUG":
        loggers |= {name: {"level": "INFO"} for name in NEVER_BELOW_INFO}
    loggers["django"] = {"handlers": [], "level": "INFO"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": "portal.logs.Line"}, "json": {"()": "portal.logs.Json"}},
        "handlers": {"stderr": {"class": "portal.logs.Stream", "formatter": form}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": loggers,
    }


# --- What a line is about ---------------------------------------------------------------------------------------------


@contextmanager
def about(**facts: str) -> Iterator[None]:
    """The lines written inside name these facts."""
    token = _about.set(facts)
    try:
        yield
    finally:
        _about.reset(token)


def begin(**facts: str) -> None:
    """From here on the lines name these facts, until `end`; for what has no one place that is around all of it."""
    _about.set(facts)


def also(**facts: str) -> None:
    """Adds to what the lines are about."""
    _about.set({**_about.get(), **facts})


def end(**_: Any) -> None:
    _about.set(_NOTHING)


def request_id() -> str:
    """The number of the request (or of the one that asked for this task), "" where there is none."""
    return _about.get().get("request_id", "")


def new_request_id() -> str:
    """Sixteen hex digits: short enough to be read out, long enough to be found again."""
    return secrets.token_hex(8)


def well_formed(number: str) -> bool:
    """Whether a number that somebody else made may stand in our lines."""
    return bool(_WELL_FORMED.fullmatch(number))


# --- Lines ------------------------------------------------------------------------------------------------------------


class Line(logging.Formatter):
    """`2026-11-23T09:41:07.123Z WARNING [4711] rollouts.moves: words (request_id=…, rollout=…)`, and an exception's
    places on indented lines below it."""

    def format(self, record: logging.LogRecord) -> str:
        facts = ", ".join(f"{name}={_printable(value)}" for name, value in _about.get().items())
        line = (
            f"{_time(record)} {record.levelname} [{record.process}] {record.name}: {_printable(_message(record))}"
            f"{f' ({facts})' if facts else ''}"
        )
        return line + "".join(f"\n    {said}" for said in _error_lines(_error(record)))


class Json(JsonFormatter):
    """One object: time, level, logger, message, process, then what is known of request_id, user, path, rollout, task,
    and `error` with type, text (where it may be told), stack and cause. What a caller adds as `extra` is left out,
    except `facts`, which the access log uses: third parties put arguments of tasks there."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            "process": record.process,
            **_about.get(),
            **getattr(record, "facts", {}),
        }
        line = {name: _without_secrets(value) if isinstance(value, str) else value for name, value in line.items()}
        if error := _error(record):
            line["error"] = error
        return self.serialize_log_record(line)


class Stream(logging.StreamHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A line that cannot be written is told of by where it was to be written; logging's own way shows what it was
        called with."""
        try:
            place = f"{_short(record.pathname)}:{record.lineno}"
            sys.stderr.write(f'{{"level": "ERROR", "message": "A log line of {place} could not be written."}}\n')
        except Exception:  # noqa: S110  # there is nowhere left to say it
            pass


def _time(record: logging.LogRecord) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(text: str) -> str:
    """No text that somebody sent can begin a new line or move the cursor of a terminal."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), _without_secrets(text))


def _without_secrets(text: str) -> str:
    return _SECRET.sub(r"\1\2…", text)


def _message(record: logging.LogRecord) -> str:
    """What was said, with an exception among its parts told by our rule and not in its own words."""
    if isinstance(record.msg, BaseException):
        return described(record.msg)
    args = record.args
    if isinstance(args, Mapping):
        # Celery writes its exceptions out beforehand, under this name.
        error = record.exc_info[1] if record.exc_info else None
        told = {"exc": described(error) if error else "(not told)", "traceback": ""}
        args = {name: told.get(name, _told(value)) for name, value in args.items()}
    elif args:
        args = tuple(map(_told, args))
    if not args:
        return str(record.msg)
    try:
        return str(record.msg) % args
    except (TypeError, ValueError, KeyError):
        return str(record.msg)


def _told(value: object) -> object:
    return _Words(described(value)) if isinstance(value, BaseException) else value


class _Words(str):
    """Stands for an exception in a message: `%r` gives the same words as `%s`."""

    __repr__ = str.__str__


# --- Exceptions -------------------------------------------------------------------------------------------------------


def described(error: BaseException) -> str:
    """The type, and the text where that may be told: “OperationalError: database is locked”."""
    name, text = type(error).__name__, _text(error)
    return f"{name}: {text}" if text else name


def _text(error: BaseException) -> str:
    families = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    if type(error).__module__.partition(".")[0] in OURS or families & SPOKEN:
        return str(error).partition("\n")[0][:TEXT]
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return ""


def _error(record: logging.LogRecord) -> dict[str, Any]:
    if not record.exc_info or record.exc_info[1] is None:
        return {}
    return _told_whole(record.exc_info[1], record.exc_info[2], CAUSES)


def _told_whole(error: BaseException, trace: Any, causes: int) -> dict[str, Any]:
    kind = type(error)
    told: dict[str, Any] = {"type": kind.__qualname__ if kind.__module__ == "builtins" else _name(kind)}
    if text := _text(error):
        told["text"] = text
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(trace)]
    told["stack"] = [f"{_short(code.co_filename)}:{line} in {code.co_name}" for code, line in frames[-PLACES:]]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and causes:
        told["cause"] = _told_whole(cause, cause.__traceback__, causes - 1)
    return told


def _name(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _short(file: str) -> str:
    """The path from the project's folder, or from the folder of installed packages."""
    place = file.rpartition("site-packages/")[2]
    return place.removeprefix(f"{ROOT}/")


def _error_lines(error: dict[str, Any]) -> Iterator[str]:
    while error:
        yield _printable(": ".join(part for part in (error["type"], error.get("text", "")) if part))
        for place in reversed(error["stack"]):
            yield f"  at {_printable(place)}"
        error = error.get("cause", {})
        if error:
            yield "which came of"


# --- Tasks ------------------------------------------------------------------------------------------------------------


def follow_tasks() -> None:
    """Takes the number of the request that asks for a task along to the worker's lines, and on to the next move."""
    from celery import signals

    for signal, receiver in (
        (signals.setup_logging, _leave_logging_alone),
        (signals.before_task_publish, _take_along),
        (signals.task_prerun, _begin_task),
        (signals.task_postrun, end),
    ):
        signal.connect(receiver, weak=False, dispatch_uid=f"portal.logs.{receiver.__name__}")


def _leave_logging_alone(**_: Any) -> None:
    """That somebody listens here keeps Celery from putting handlers of its own beside ours. What its pool says about
    its processes comes to ours too."""
    from billiard.util import get_logger

    get_logger().propagate = True


def _take_along(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None and (number := request_id()):
        headers.setdefault("request_id", number)


def _begin_task(task: Any = None, task_id: str = "", args: Any = (), **_: Any) -> None:
    facts = {"task": f"{task.name}[{task_id}]"}
    number = getattr(task.request, "request_id", None)
    if isinstance(number, str) and well_formed(number):
        facts["request_id"] = number
    if task.name == "rollouts.advance" and args:
        facts["rollout"] = str(args[0])
    begin(**facts)
