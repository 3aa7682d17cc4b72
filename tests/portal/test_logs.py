"""What stands in a log line: enough to find out what happened, one object a line, and nobody's secrets."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.test import Client

from environments.models import Person
from portal import logs
from rollouts.connectors import ConnectorError

PROJECT = Path(__file__).resolve().parents[2]
SECRET = "tulip-harbour-9731-Zebra"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def record(message: Any, *args: Any, error: BaseException | None = None, **extra: Any) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    made = logging.getLogger("x").makeRecord(
        "rollouts.moves", logging.WARNING, __file__, 7, message, args, exc_info, extra=extra
    )
    assert isinstance(made, logging.LogRecord)
    return made


def as_json(*args: Any, **kwargs: Any) -> dict[str, Any]:
    line = logs.Json().format(record(*args, **kwargs))
    assert "\n" not in line
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def as_line(*args: Any, **kwargs: Any) -> str:
    return logs.Line().format(record(*args, **kwargs))


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


# --- Lines ------------------------------------------------------------------------------------------------------------


def test_a_line_is_one_object_with_time_level_logger_message_and_process() -> None:
    found = as_json("the queue %s did not take %d", "celery", 3)
    assert TIME.fullmatch(found.pop("time"))
    assert found == {
        "level": "WARNING",
        "logger": "rollouts.moves",
        "message": "the queue celery did not take 3",
        "process": os.getpid(),
    }


def test_a_line_in_words_says_the_same() -> None:
    with logs.about(request_id="4193cbca6102d5a0"):
        said = as_line("the queue is gone")
    time_said, _blank, rest = said.partition(" ")
    assert TIME.fullmatch(time_said)
    assert rest == f"WARNING [{os.getpid()}] rollouts.moves: the queue is gone (request_id=4193cbca6102d5a0)"


def test_what_somebody_sent_begins_no_line_of_its_own_and_moves_no_cursor() -> None:
    sent = "bank\r\n2026-11-23T00:00:00.000Z INFO forged\x1b[2J\u2028"
    assert len(as_line("not found: %s", sent).splitlines()) == 1
    assert "\x1b" not in as_line("not found: %s", sent)
    assert as_json("not found: %s", sent)["message"].endswith(sent)


def test_what_a_line_is_about_is_forgotten_afterwards() -> None:
    Client().get("/healthz")
    with logs.about(request_id="a" * 16):
        logs.also(user="7")
        assert as_json("x")["user"] == "7"
    assert {"user", "request_id", "path"}.isdisjoint(as_json("x"))


@pytest.mark.parametrize("address", ["/partner/{}/", "/partner/{}/de/", "/hooks/exports/{}/", "/calendars/{}.ics"])
def test_an_address_that_is_itself_a_secret_is_not_told(address: str) -> None:
    for line in (as_line("GET %s", address.format(SECRET)), str(as_json("GET %s", address.format(SECRET)))):
        assert SECRET not in line
        assert address.format("…") in line


def test_extras_of_others_are_left_out() -> None:
    """Celery puts the arguments of a failed task there."""
    assert SECRET not in json.dumps(as_json("failed", data={"args": SECRET}))


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"invalid literal for int() with base 10: '{SECRET}'"),
        KeyError(SECRET),
        OSError(f"cannot reach https://user:{SECRET}@host/"),
        FileNotFoundError(2, "No such file", SECRET),
    ],
)
@pytest.mark.parametrize("write", [lambda **k: json.dumps(as_json(**k)), as_line])
def test_an_exception_of_others_is_named_with_its_places_and_not_quoted(
    write: Callable[..., str], error: BaseException
) -> None:
    said = write(message="%s and %r", error=raised(error)) + write(message="it failed: %s", error=None)
    said += logs.Line().format(record("why: %s; %r", error, error)) + logs.Line().format(record(error))
    assert SECRET not in said
    assert type(error).__name__ in said
    assert re.search(r"tests/portal/test_logs.py:\d+ in raised", said)
    assert "raise error" not in said, "source lines are left out"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectorError("The app was not started; look at its log."), "The app was not started; look at its log."),
        (OperationalError("database is locked"), "database is locked"),
        (OSError(28, "whatever", "/a/path"), "No space left on device"),
    ],
)
def test_what_speaks_of_operation_alone_is_told(error: BaseException, text: str) -> None:
    assert as_json("failed", error=raised(error))["error"]["text"] == text
    assert text in as_line("failed", error=raised(error))


def test_causes_are_told_by_the_same_rule() -> None:
    try:
        try:
            int(SECRET)
        except ValueError as cause:
            raise RuntimeError(SECRET) from cause
    except RuntimeError as caught:
        told = as_json("failed", error=caught)["error"]
    assert (told["type"], told["cause"]["type"]) == ("RuntimeError", "ValueError")
    assert SECRET not in json.dumps(told)


def test_a_line_that_cannot_be_written_is_not_shown_instead(capsys: Any) -> None:
    class Full:
        def write(self, text: str) -> None:
            raise OSError(28, "No space left on device")

        def flush(self) -> None: ...

    stream = logs.Stream(Full())
    stream.emit(record("password %s", SECRET))
    said = capsys.readouterr().err
    assert "could not be written" in said
    assert SECRET not in said


def test_a_format_or_level_that_does_not_exist_is_refused_in_a_sentence() -> None:
    with pytest.raises(ImproperlyConfigured, match="COUNTERSIGN_LOG_FORMAT is “xml”; write line or json"):
        logs.configuration("xml", "INFO")
    with pytest.raises(ImproperlyConfigured, match="COUNTERSIGN_LOG_LEVEL is “LOUD”"):
        logs.configuration("json", "loud")


# --- The number of a request ------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_every_answer_bears_a_number_of_its_own() -> None:
    numbers = [Client().get(address).headers["X-Request-ID"] for address in ("/sign-in/", "/", "/no/such/page/")]
    assert len(set(numbers)) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", number) for number in numbers)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("behind", "given", "kept"),
    [
        (True, "7f0c9b8e-5d1a-4c55-9f5e-0d6b8a1f2c3d", True),
        (True, "short", False),
        (True, "x" * 65, False),
        (True, 'forged" level="INFO', False),
        (False, "7f0c9b8e-5d1a-4c55-9f5e-0d6b8a1f2c3d", False),
    ],
)
def test_only_our_proxy_gives_numbers_and_only_well_formed_ones(
    settings: Any, behind: bool, given: str, kept: bool
) -> None:
    settings.BEHIND_PROXY = behind
    number = Client(headers={"X-Request-ID": given}).get("/sign-in/").headers["X-Request-ID"]
    assert (number == given) is kept


@pytest.mark.django_db
def test_a_line_of_a_request_names_the_person_by_number_and_the_path_without_its_query(owner: Person) -> None:
    lines: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(logs.Json().format(record)))

    kept = Kept()
    logging.getLogger("django.request").addHandler(kept)
    try:
        client = Client()
        client.force_login(owner)
        client.get(f"/apps/nothing/?password={SECRET}")
    finally:
        logging.getLogger("django.request").removeHandler(kept)
    (line,) = lines
    assert (line["path"], line["user"], line["level"]) == ("/apps/nothing/", str(owner.pk), "WARNING")
    assert SECRET not in json.dumps(line)
    assert owner.username not in json.dumps(line)


# --- A real web server and a real worker that fail --------------------------------------------------------------------


class Programs:
    """gunicorn and a worker of tests/portal/failing.py, out of one data folder."""

    def __init__(self, folder: Path, form: str) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("COUNTERSIGN_", "DATABASE_"))}
        self.environ = kept | {
            "COUNTERSIGN_DATA": str(folder / "data"),
            "COUNTERSIGN_LOG_FORMAT": form,
            "COUNTERSIGN_PROXY": "true",
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            "A_SECRET": SECRET,
        }

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", *words]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        done = subprocess.run(
            [sys.executable, "manage.py", "prepare"], cwd=PROJECT, env=self.environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        module = "tests.portal.failing"
        commands = {
            "web": self.command("gunicorn", f"{module}:application", "--bind", f"127.0.0.1:{self.port}"),
            "worker": self.command("celery", "--app", module, "--quiet", "worker", "--concurrency", "1"),
        }
        started = []
        try:
            for name, words in commands.items():
                with (self.folder / f"{name}.log").open("w") as log:
                    started.append(
                        subprocess.Popen(words, cwd=PROJECT, env=self.environ, stdout=log, stderr=log, process_group=0)
                    )
            yield
        finally:
            for process in started:
                process.terminate()
            for process in started:
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)

    def get(self, address: str, **headers: str) -> tuple[int, Any, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{address}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read().decode()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def wait_for(self, name: str, words: str) -> None:
        deadline = time.monotonic() + 90
        while words not in self.log(name):
            assert time.monotonic() < deadline, f"the {name} did not say “{words}”:\n{self.log(name)}"
            time.sleep(0.1)

    def objects(self, name: str) -> list[dict[str, Any]]:
        """The lines that are objects. What Python and Celery say before there is a log, in plain words, is none."""
        return [json.loads(line) for line in self.log(name).splitlines() if line.startswith("{")]


NUMBER = "7f0c9b8e5d1a4c559f5e0d6b8a1f2c3d"


@pytest.fixture(scope="module", params=["json", "line"])
def failed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Programs, Any]:
    """Both after a page and a move have failed; with the answer that the person got."""
    programs = Programs(tmp_path_factory.mktemp("failing"), request.param)
    with programs.running():
        programs.wait_for("web", "Booting worker")
        programs.wait_for("worker", "ready.")
        answer = programs.get(
            f"/fails/?password={SECRET}",
            **{"X-Request-ID": NUMBER, "X-Password": SECRET, "Cookie": f"password={SECRET}", "Referer": SECRET},
        )
        programs.get("/healthz")
        programs.wait_for("worker", "rollouts.advance")
        programs.wait_for("worker", "KeyError")
        # A request that is none: gunicorn would quote it.
        with socket.create_connection(("127.0.0.1", programs.port)) as client:
            client.sendall(f"GET /?password={SECRET}\r\n\r\n".encode())
            client.recv(1000)
        programs.wait_for("web", "Invalid request from ip=127.0.0.1")
    return programs, answer


def test_no_line_of_a_failing_page_or_move_holds_the_secret(failed: tuple[Programs, Any]) -> None:
    programs, _answer = failed
    for name in ("web", "worker"):
        log = programs.log(name)
        assert "KeyError" in log, "it did fail"
        assert "ValueError" in log, "and its cause is told"
        assert re.search(r"tests/portal/failing.py:\d+ in explode", log)
        assert SECRET not in log, name
        assert "carrier.secret" not in log, "source lines are left out"


def test_the_page_of_a_failure_tells_the_number_by_which_its_reason_is_found(failed: tuple[Programs, Any]) -> None:
    programs, (status, headers, page) = failed
    assert status == 500
    assert headers["X-Request-ID"] == NUMBER
    assert NUMBER in page
    assert SECRET not in page
    assert NUMBER in programs.log("web")


def test_the_workers_lines_bear_the_rollout_and_the_number_of_the_request_that_asked_for_it(
    failed: tuple[Programs, Any],
) -> None:
    programs, _answer = failed
    about = (NUMBER, "11111111-2222-4333-8444-555555555555")
    if programs.environ["COUNTERSIGN_LOG_FORMAT"] == "line":
        assert any(all(fact in line for fact in about) for line in programs.log("worker").splitlines())
        return
    lines = [line for line in programs.objects("worker") if line["level"] == "ERROR"]
    assert lines
    for line in lines:
        assert (line["request_id"], line["rollout"]) == about
        assert line["task"].startswith("rollouts.advance[")


def test_access_lines_name_the_path_without_its_query_and_leave_health_out(failed: tuple[Programs, Any]) -> None:
    programs, _answer = failed
    log = programs.log("web")
    assert "GET /fails/ 500" in log
    assert "healthz" not in log
    if programs.environ["COUNTERSIGN_LOG_FORMAT"] == "json":
        (line,) = [line for line in programs.objects("web") if line.get("path") == "/fails/" and "status" in line]
        assert (line["method"], line["status"], line["request_id"]) == ("GET", 500, NUMBER)
        assert line["ms"] >= 0


def test_every_line_of_the_web_server_is_an_object_where_that_is_wanted(failed: tuple[Programs, Any]) -> None:
    programs, _answer = failed
    lines = programs.log("web").splitlines()
    if programs.environ["COUNTERSIGN_LOG_FORMAT"] == "json":
        assert len(programs.objects("web")) == len(lines)
        assert all({"time", "level", "logger", "message", "process"} <= line.keys() for line in programs.objects("web"))
    else:
        assert not programs.objects("web")
