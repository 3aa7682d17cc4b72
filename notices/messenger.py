"""A program of its own that speaks to one service: `messenger.py <port of the proxy>`, an order as JSON by standard
input, an answer as JSON by standard output. It knows nothing of the portal, and connects to nothing but the proxy.

    {"do": "name", "address": …}                       → {"answer": "Slack"}
    {"do": "say", "address": …, "title": …, "text": …} → {"answer": "taken"}, or {"refused": "One sentence."}
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
from typing import Any

# Services that do something on this machine, or that speak another protocol than HTTP: the proxy carries none of them.
NOT_HERE = "This kind of service is not reached over HTTPS, so it cannot be used here; choose another one."
UNKNOWN = "This is no address of a service that is known here; look at https://appriseit.com/services/ for its form."
SECONDS = 15


def main() -> int:
    port = int(sys.argv[1])
    order = json.load(sys.stdin)
    _only_the_proxy(port)
    print(json.dumps(_answer(order)))  # noqa: T201  # standard output is how it answers
    return 0


def _only_the_proxy(port: int) -> None:
    """From here on a connection to anything but the proxy fails, whatever a library tries."""
    proxy = f"http://127.0.0.1:{port}"
    os.environ.update(HTTP_PROXY=proxy, HTTPS_PROXY=proxy, http_proxy=proxy, https_proxy=proxy, NO_PROXY="")
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if not port or address[:2] != ("127.0.0.1", port):
            raise PermissionError(NOT_HERE)
        connect(self, address)

    def refused(*_arguments: Any, **_options: Any) -> None:
        raise PermissionError(NOT_HERE)

    for name, instead in (("connect", guarded), ("connect_ex", refused), ("sendto", refused), ("sendmsg", refused)):
        setattr(socket.socket, name, instead)
    resolve = socket.getaddrinfo

    def here(host: Any, *arguments: Any, **options: Any) -> Any:
        if host != "127.0.0.1":
            raise PermissionError(NOT_HERE)
        return resolve(host, *arguments, **options)

    socket.getaddrinfo = here
    subprocess.Popen.__init__ = refused  # type: ignore[method-assign]


def _answer(order: dict[str, str]) -> dict[str, str]:
    said = io.StringIO()
    logging.basicConfig(stream=said, level=logging.WARNING)
    import apprise
    from apprise.plugins import custom_json, custom_xml

    asset = apprise.AppriseAsset(
        app_id="Countersign", app_desc="Countersign", app_url="", image_url_mask="", image_path_mask="",
        plugin_paths=[], storage_mode=apprise.PersistentStoreMode.MEMORY, async_mode=False,
    )  # fmt: skip
    try:
        service = apprise.Apprise.instantiate(order["address"], asset=asset, suppress_exceptions=True)
    except Exception:  # each service parses its address in its own way, and their texts may hold parts of it
        service = None
    if service is None:
        return {"refused": UNKNOWN}
    if not _over_http(service):
        return {"refused": NOT_HERE}
    if order["do"] == "name":
        webhook = isinstance(service, custom_json.NotifyJSON | custom_xml.NotifyXML)
        return {"answer": "Webhook" if webhook else str(service.service_name)}
    service.socket_connect_timeout = service.socket_read_timeout = SECONDS
    try:
        taken = service.notify(body=order["text"], title=order["title"])
    except Exception:  # each service has errors of its own, and their texts may hold the address
        taken = False
    if taken:
        return {"answer": "taken"}
    # Of what the library says only the status is told: the rest may hold parts of the address.
    status = re.findall(r"error=(\d{3})\b", said.getvalue())
    answered = f" (it answered {status[-1]})" if status else ""
    return {"refused": f"The service did not take the message{answered}; check its address."}


def _over_http(service: Any) -> bool:
    """Whether its plug-in speaks HTTP, as far as the modules of its classes tell."""
    modules = [one.__module__ for one in type(service).__mro__ if one.__module__.startswith("apprise.plugins.")]
    if any(name.startswith("apprise.plugins.email") for name in modules):
        return False
    return any(hasattr(sys.modules[name], "requests") for name in modules)


if __name__ == "__main__":
    sys.exit(main())
