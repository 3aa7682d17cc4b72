#!/usr/bin/env python3
"""Brings a machine with python3, git and make to the point where Countersign runs or is tested, and does that.

    python3 set_up.py run | test [pytest arguments] | check | format | lock | load | bench | soak | fuzz

The Makefile calls these.

Uses the standard library only. Packages go into .venv, exactly as locked in requirements/; nothing is installed into
the system's Python. What only the operating system can give is installed with apt-get by root; anyone else reads one
line that names it, and the exit code is 3.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.json"
LOCKS = {name: HERE / "requirements" / f"{name}.txt" for name in ("runtime", "dev")}
OLDEST_PYTHON = (3, 11)


def main(arguments: Sequence[str]) -> int:
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "run": run,
        "test": test,
        "check": check,
        "format": format_code,
        "lock": lock,
        "load": load,
        "bench": bench,
        "soak": soak,
        "fuzz": fuzz,
    }
    if not arguments or arguments[0] not in commands:
        return refuse(f"Say what to do: python3 set_up.py {' | '.join(commands)}", 2)
    if sys.version_info < OLDEST_PYTHON:
        return refuse(
            f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed; this is {sys.version.split()[0]}.", 3
        )
    os.chdir(HERE)
    return commands[arguments[0]](arguments[1:])


# --- What can be done -----------------------------------------------------------------------------------------------


def run(arguments: Sequence[str]) -> NoReturn:
    """Becomes `manage.py run`, so that signals reach it directly. The sandbox comes along unless it is unwanted."""
    need({"python3-venv": can_make_venv})
    install("runtime")
    os.environ.setdefault("COUNTERSIGN_SANDBOX", "true")
    sys.stdout.flush()
    os.execv(PYTHON, [str(PYTHON), "manage.py", "run", *arguments])


def test(arguments: Sequence[str]) -> int:
    """The checks and all tests but the long ones; with arguments, only what pytest makes of them."""
    need(
        {
            "python3-venv": can_make_venv,
            "chromium": lambda: bool(shutil.which("chromium")),
            "openssl": lambda: bool(shutil.which("openssl")),
            "default-jdk-headless": lambda: bool(shutil.which("keytool") and shutil.which("javac")),
            # Consumers of exports: HOCON's own reader, a proxy, and a client.
            "libtypesafe-config-java": lambda: Path("/usr/share/java/typesafe-config.jar").exists(),
            "nginx": lambda: Path("/usr/sbin/nginx").exists(),
            "curl": lambda: bool(shutil.which("curl")),
            "gnutls-bin": lambda: bool(shutil.which("certtool")),
            "libnss3-tools": lambda: bool(shutil.which("pk12util")),
            "fonts-dejavu-core": has_a_font,
            # Tried as the broker; the other servers of the tests come as packages of Python.
            "rabbitmq-server": lambda: Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists(),
            # The driver of playwright is a Node.js that needs it, and no other package here brings it.
            "libatomic1": lambda: loads("libatomic.so.1"),
        }
    )
    install("dev")
    # A file's tests stay together: those that need the whole product share one.
    # In their own order: the default puts files of one long test at the end, where the other process waits for them.
    one_by_one = [PYTHON, "-m", "pytest"]
    pytest = [*one_by_one, "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    if arguments:
        return call([*pytest, *arguments])
    checks = check(())
    now = "not chaos and not quiet and not soak and not bench"
    # The killed processes wait more than they work, so they do it beside the others.
    with tempfile.TemporaryFile() as said:
        beside = subprocess.Popen([*pytest, "-m", "chaos"], stdout=said, stderr=subprocess.STDOUT)
        tests = call([*pytest, "-m", now])
        say("The same on PostgreSQL and S3, as far as it asks the database")
        others = os.environ | {"COUNTERSIGN_TEST_ENGINES": "others"}
        tests = call([*pytest, "-m", f"not journey and {now}"], others) or tests
        say("Every kill point, with each kind of death")
        tests = beside.wait() or tests
        said.seek(0)
        sys.stdout.flush()
        shutil.copyfileobj(said, sys.stdout.buffer)
        sys.stdout.flush()
    say("How long others wait, with nothing else beside it")
    tests = call([*one_by_one, "-m", "quiet"]) or tests
    if checks:
        say("The checks failed; what they found stands above the tests")
    return tests or checks


def check(_: Sequence[str]) -> int:
    """Format, lint, types, imports, translations, migrations, and Django's own checks as for production."""
    need({"python3-venv": can_make_venv})
    install("dev")
    with tempfile.TemporaryDirectory(prefix="countersign-check-") as folder:
        production = os.environ | {
            "COUNTERSIGN_DATA": folder,
            "COUNTERSIGN_SECRET_KEY": hashlib.sha512(b"long enough, and used by nothing").hexdigest(),
            "COUNTERSIGN_TLS": "true",
            "COUNTERSIGN_HOSTS": "countersign.example",
        }
        subprocess.run([PYTHON, "manage.py", "generate_vault_key"], env=production, stdout=subprocess.DEVNULL)
        commands = [
            ["-m", "ruff", "format", "--check", "--quiet", "."],
            ["-m", "ruff", "check", "--quiet", "."],
            ["-c", "from importlinter.cli import lint_imports_command as lint; lint()"],
            ["-m", "mypy"],
            ["-m", "tests.repository.catalogues"],
            ["manage.py", "makemigrations", "--check", "--dry-run"],
            ["manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        ]
        running = [
            subprocess.Popen(
                [PYTHON, *command], env=production, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for command in commands
        ]
        outcomes = [(process.communicate()[0], process.returncode) for process in running]
    for command, (output, code) in zip(commands, outcomes, strict=True):
        if code:
            print(f"== {' '.join(command)}\n{output}", flush=True)
    failed = sum(1 for _output, code in outcomes if code)
    print(
        "Checks: " + (f"{failed} of {len(commands)} failed." if failed else f"all {len(commands)} passed."), flush=True
    )
    return 1 if failed else 0


def load(arguments: Sequence[str]) -> int:
    """Fifty people for five minutes on each set-up; `--help` says what can be chosen."""
    need({"python3-venv": can_make_venv})
    install("dev")
    return call([PYTHON, "-m", "tests.load.run", *arguments])


def bench(arguments: Sequence[str]) -> int:
    """Ratios and numbers of queries, into docs/performance.md; some minutes. `-k export` measures only that anew."""
    need({"python3-venv": can_make_venv})
    install("dev")
    return call([PYTHON, "-m", "pytest", "-m", "bench", "-s", "tests/bench", *arguments])


def soak(arguments: Sequence[str]) -> int:
    """Two hundred rollouts whose workers die at random points, on both set-ups, and every kill point on every platform;
    about twenty minutes."""
    need({"python3-venv": can_make_venv})
    install("dev")
    return call([PYTHON, "-m", "pytest", "-m", "soak", "-s", "tests/chaos", *arguments])


def fuzz(arguments: Sequence[str]) -> int:
    """Changes files for ten minutes, guided by what the reader then does; anything but a verdict ends it."""
    need({"python3-venv": can_make_venv})
    install("dev")
    found = HERE / "data" / "fuzz"
    found.mkdir(parents=True, exist_ok=True)
    options = arguments or ["-max_total_time=600", "-max_len=8192", "-timeout=5"]
    return call([PYTHON, "-m", "tests.fuzz.walker", *options, f"-artifact_prefix={found}/", found])


def format_code(_: Sequence[str]) -> int:
    need({"python3-venv": can_make_venv})
    install("dev")
    return (
        call([PYTHON, "-m", "ruff", "check", "--fix-only", "--quiet", "."])
        or call([PYTHON, "-m", "ruff", "format", "."])
        or call([PYTHON, "-m", "tests.repository.catalogues", "--write"])
    )


def lock(_: Sequence[str]) -> int:
    """Writes the locks anew from pyproject.toml: names, versions and hashes, and no address of any registry."""
    uv = shutil.which("uv")
    if not uv:
        return refuse("Locking needs uv on the PATH; install it as its documentation says.", 3)
    options = (
        "--universal --python-version 3.11 --generate-hashes --no-emit-index-annotation --no-annotate --no-header -q"
    )
    compile_ = [uv, "pip", "compile", *options.split(), "pyproject.toml"]
    # What is tested is what runs: the development lock only adds to the other.
    return call([*compile_, "-o", LOCKS["runtime"]]) or call(
        [*compile_, "--group", "dev", "-c", LOCKS["runtime"], "-o", LOCKS["dev"]]
    )


# --- What the operating system gives ---------------------------------------------------------------------------------


def need(packages: dict[str, Callable[[], bool]]) -> None:
    """Sees to it that the Debian packages whose test fails are there, or ends with one line and exit code 3."""
    missing = [name for name, is_there in packages.items() if not is_there()]
    if not missing:
        return
    line = f"apt-get install -y {' '.join(missing)}"
    apt = shutil.which("apt-get")
    if not apt or os.geteuid() != 0:
        sys.exit(refuse(f"Something is missing here. Install it as root, then try again: {line}", 3))
    say(f"Installing {', '.join(missing)} with apt-get")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        done = subprocess.run([apt, *step], env=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            print(done.stdout[-2000:], file=sys.stderr)
            sys.exit(refuse(f"apt-get {step[0]} failed (above). When it works, this does too: {line}", 3))


def can_make_venv() -> bool:
    return ready("runtime") or bool(importlib.util.find_spec("ensurepip")) or bool(importlib.util.find_spec("pip"))


def has_a_font() -> bool:
    """Without any font a browser draws empty boxes, and a screenshot shows nothing."""
    folders = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".fonts")
    return any(next(folder.rglob("*.[to]tf"), None) for folder in folders)


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


# --- .venv ----------------------------------------------------------------------------------------------------------


def digest(name: str) -> str:
    return hashlib.sha256(LOCKS[name].read_bytes()).hexdigest()


def installed() -> dict[str, str]:
    """What the last completed installation put into .venv: lock name to digest; nothing for another Python or place."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp.get("locks", {}) if stamp.get("for") == identity() and PYTHON.exists() else {}


def identity() -> str:
    # A .venv cannot be moved; and it outlives a patch release of the Python that it links to, but no more than that.
    return f"Python {sys.version_info[0]}.{sys.version_info[1]} in {VENV}"


def ready(name: str) -> bool:
    """The development set holds the runtime set; each lock must be the one that was installed."""
    have = installed()
    return have.get("runtime") == digest("runtime") and have.get(name) == digest(name)


def install(name: str) -> None:
    """Makes .venv hold exactly what the lock `name` says. An installation cut short is begun anew the next time."""
    if ready(name):
        return
    started = time.monotonic()
    say(f"Setting up .venv from {LOCKS[name].relative_to(HERE)} (once, about half a minute)")
    more_of_the_same = ready("runtime")
    STAMP.unlink(missing_ok=True)
    with_pip = bool(importlib.util.find_spec("ensurepip"))
    if not more_of_the_same:
        must([sys.executable, "-m", "venv", "--clear", *([] if with_pip else ["--without-pip"]), VENV])
    # Where Debian's python3-venv is missing, the system's pip can install into a .venv that has none of its own.
    has_pip = subprocess.run([PYTHON, "-c", "import pip"], stderr=subprocess.DEVNULL).returncode == 0
    pip = [PYTHON, "-m", "pip"] if has_pip else [sys.executable, "-m", "pip", "--python", PYTHON]
    must([*pip, "install", "-q", "--disable-pip-version-check", "--no-input", "--require-hashes", "-r", LOCKS[name]])
    locks = {each: digest(each) for each in ({"runtime", name})}
    STAMP.write_text(json.dumps({"locks": locks, "for": identity()}))
    say(f"Set up in {time.monotonic() - started:.0f} s")


# --- Small words ----------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(f"{text}.", flush=True)


def refuse(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr, flush=True)
    return code


def call(command: Sequence[str | Path], environ: dict[str, str] | None = None) -> int:
    """Runs a command as if it were this program: an interrupt is its to answer."""
    try:
        return subprocess.run(command, env=environ).returncode
    except KeyboardInterrupt:
        return 130


def must(command: Sequence[str | Path]) -> None:
    # A person's own settings for pip (mirrors, certificates) hold; only the place to install to is ours.
    if subprocess.run(command, env=os.environ | {"PIP_USER": "0"}).returncode:
        sys.exit(refuse("The set-up did not finish (the reason is above); run the same command again to continue.", 1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
