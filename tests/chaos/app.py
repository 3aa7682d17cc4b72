"""The smallest app that a worker can stop and start, and the witness of it.

    app.py NAME PORT CONFIGURATION WITNESS

It loads the configuration once and appends to the witness file what its machine saw: each start with the digest of what
was read, each request to stop. With a file whose name contains “refused” it ends at once; with “lying” it reports a
digest that nobody delivered. Few imports, because hundreds of these are started.
"""

import hashlib
import json
import os
import resource
import signal
import socket
import sys
import time

name, port, configuration, witness = sys.argv[1:]
# A caller whose disk is full (RLIMIT_FSIZE) hands that on; this machine's own disk is not full.
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def saw(what, **more):
    line = json.dumps({"app": name, "saw": what, "pid": os.getpid(), "at": time.time(), **more}) + "\n"
    file = os.open(witness, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, line.encode())
    os.close(file)


def stop(number, frame):
    saw("stop")
    os._exit(0)


signal.signal(signal.SIGTERM, stop)
top = os.path.realpath(configuration)
paths = sorted(os.path.relpath(os.path.join(folder, file), top) for folder, _, files in os.walk(top) for file in files)
contents = {path: open(os.path.join(top, path), "rb").read() for path in paths}
lines = "".join(f"{hashlib.sha256(contents[path]).hexdigest()}  {path}\n" for path in paths)
digest = hashlib.sha256(lines.encode()).hexdigest()
saw("start", digest=digest)
if any("refused" in path for path in paths):
    sys.exit("this configuration is refused")
if any("lying" in path for path in paths):
    digest = "0" * 64
body = json.dumps({"status": "running", "digest": digest}).encode()

server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(port)))
server.listen(16)
while True:
    caller, _ = server.accept()
    try:
        caller.settimeout(2)
        caller.recv(4096)
        caller.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    except OSError:
        pass
    finally:
        caller.close()
