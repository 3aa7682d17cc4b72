"""A child process that reads one file and ends: the child's half. The parent's half is `one_shot`.

No Django here. Standard input carries the length of the file (4 bytes), the file, and the password; standard output has
`+` and the packed identity, or `-` and the refusal as JSON. Nothing is written anywhere else.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Final

from certificates import pkcs12
from certificates.diagnosis import Refusal

MEMORY: Final = 512 * 1024 * 1024
# The parent stops the child sooner; this is for a parent that is gone.
_ALARM_SECONDS: Final = 12
_PR_SET_DUMPABLE: Final = 4


def main(cpu_seconds: int) -> None:
    """Answer one question and end at once, without the interpreter's tidying up."""
    limit(cpu_seconds)
    question = sys.stdin.buffer.read()
    length = int.from_bytes(question[:4], "big")
    try:
        answer = b"+" + pkcs12.pack(pkcs12.read(question[4 : 4 + length], question[4 + length :].decode()))
    except Refusal as refusal:
        answer = b"-" + json.dumps({"code": refusal.code, "details": refusal.details}).encode()
    except BaseException:  # The library's panics are no Exception, and their text may show the password.
        os._exit(3)
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    os._exit(0)


def limit(cpu_seconds: int) -> None:
    """Take away what reading one file does not need. SIGXCPU ends a process that passes its CPU limit."""
    for what, value in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    signal.setitimer(signal.ITIMER_REAL, _ALARM_SECONDS)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
