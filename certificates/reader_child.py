"""A process for each file that is read: the children's half. The half of the web process that asks is `one_shot`.

No Django here. Starting Python and the library takes ten times as long as reading a file. So one process of each web
process, `serve`, does that once and then forks a child for every file; it sees neither files nor passwords, and what
an attacker could learn in a child goes with that child. It ends when nobody has asked for a while, when its web process
is gone, and once a child has crashed: a file that tries something finds other addresses the next time.

A child gets a question, answers it (both as in `question`) and ends. Nothing is written anywhere else.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import json
import os
import resource
import select
import signal
import socket
import time
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import NameOID

from certificates import inspection, intake
from certificates.diagnosis import Refusal
from certificates.intake import Upload
from certificates.question import Question, answer_with, refuse_with

MEMORY: Final = 512 * 1024 * 1024
# How long `serve` stays with nothing to do; the next file then waits for its start once more.
IDLE_SECONDS: Final = 120
# `serve` stops a child sooner; this is for the case that it cannot.
_ALARM_SECONDS: Final = 12
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
# Loaded before any fork: a child between fork and its limits should load nothing.
_libc: Final = ctypes.CDLL(None)


@dataclass(frozen=True)
class Order:
    """What one file's child may take: seconds of CPU, and until when on the monotonic clock of this machine."""

    cpu_seconds: int
    deadline: float

    def pack(self) -> bytes:
        return f"{self.cpu_seconds} {self.deadline}".encode()

    @classmethod
    def unpack(cls, packed: bytes) -> Order:
        cpu_seconds, deadline = packed.split()
        return cls(int(cpu_seconds), float(deadline))


@dataclass
class _Reading:
    """A child at work. `verdict` is told how it ended; when its other end is closed, nobody waits for it any more."""

    pid: int
    exited: int
    verdict: socket.socket
    deadline: float
    stopped: bool = False


def serve() -> None:
    """Standard input is a socket whose messages are orders. With each come three descriptors: the line to the child,
    where to say how it ended (exit status, and 1 if it was stopped for its time), and the lock of its place.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warm_up()
    orders = socket.socket(fileno=0)
    readings: list[_Reading] = []
    leaving = False
    while readings or not leaving:
        asked = [] if leaving else [orders.fileno()]
        ready = _wait([*asked, *(fd for one in readings for fd in (one.exited, one.verdict.fileno()))], readings)
        if not ready and not readings:
            return
        for one in list(readings):
            if one.exited in ready:
                readings.remove(one)
                leaving |= _bury(one)
            elif one.verdict.fileno() in ready or time.monotonic() >= one.deadline:
                one.stopped = True
                _kill(one)
        if orders.fileno() in ready:
            order, descriptors, _flags, _address = socket.recv_fds(orders, 64, 3)
            if len(descriptors) < 3:
                return  # Nobody is left to ask; the kernel ends the children (PR_SET_PDEATHSIG).
            readings.append(_fork(Order.unpack(order), *descriptors))


def warm_up() -> None:
    """Read a file of our own, so that what is loaded at a first use is there before any fork: 12 ms for every child."""
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505  # it opens nothing
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "warm")])
    now = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(1))
    sealing = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1).build(b"warm")
    file = serialize_key_and_certificates(b"warm", key, builder.sign(key, SHA256()), None, sealing)
    read(Question((Upload("warm", file),), ("warm",)).pack())


def _wait(descriptors: list[int], readings: list[_Reading]) -> set[int]:
    """Those that have something to say, or nothing once a deadline has passed."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    until = min((one.deadline for one in readings if not one.stopped), default=time.monotonic() + IDLE_SECONDS)
    return {descriptor for descriptor, _event in poll.poll(max(0, until - time.monotonic()) * 1000)}


def _fork(order: Order, line: int, verdict: int, held: int) -> _Reading:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become_reader(parent, line, held)
            main(order.cpu_seconds)
        finally:
            os._exit(3)
    for descriptor in (line, held):
        os.close(descriptor)
    return _Reading(pid, os.pidfd_open(pid), socket.socket(fileno=verdict), order.deadline)


def _become_reader(parent: int, line: int, held: int) -> None:
    """Keeps the line as standard input and output and the lock of its place, and nothing of the other children."""
    os.setsid()
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(3)
    os.dup2(line, 0)
    os.dup2(line, 1)
    os.dup2(held, 3)  # The place is taken until the child is gone, even if the web process goes first.
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))


def _kill(reading: _Reading) -> None:
    # With what it may have started. It is not reaped yet, so that its number cannot be another's.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(reading.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(reading.pid, signal.SIGKILL)


def _bury(reading: _Reading) -> bool:
    """Says how it ended; returns whether it crashed."""
    _kill(reading)
    code = os.waitstatus_to_exitcode(os.waitpid(reading.pid, 0)[1])
    os.close(reading.exited)
    with contextlib.suppress(OSError):
        reading.verdict.sendall(f"{code} {int(reading.stopped)}".encode())
    reading.verdict.close()
    return code < 0 and code not in (-signal.SIGKILL, -signal.SIGXCPU, -signal.SIGALRM)


def main(cpu_seconds: int) -> None:
    """Answer one question and end at once, without the interpreter's tidying up."""
    limit(cpu_seconds)
    with open(0, "rb", closefd=False) as line:  # a descriptor, not a path
        question = line.read()
    try:
        answer = read(question)
    except BaseException:  # The library's panics are no Exception, and their text may show the password.
        os._exit(3)
    with open(1, "wb", closefd=False) as line:
        line.write(answer)
    os._exit(0)


def read(packed: bytes) -> bytes:
    try:
        asked = Question.unpack(packed)
        if asked.inspect:
            return b"+" + json.dumps(inspection.inspect(asked.files[0], asked.passwords)).encode()
        return answer_with(intake.read(asked.files, asked.passwords, track=asked.track, wanted=asked.wanted))
    except Refusal as refusal:
        return refuse_with(refusal)


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
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
