"""Whether the network is there, known in seconds; and which errors are its, to be tried again."""

from __future__ import annotations

import os
import socket
import threading
from urllib.parse import urlsplit

from x1lib.data.errors import SourceError

DEFAULT_ENDPOINT = "https://huggingface.co"
PROBE_SECONDS = 4.0
# Packages whose errors say that a connection failed, whatever class they are.
_NETWORK_PACKAGES = (
    "aiohttp",
    "asyncio",
    "fsspec",
    "http",
    "httpcore",
    "httpx",
    "huggingface_hub",
    "requests",
    "socket",
    "ssl",
    "urllib3",
)
TRUE_WORDS = ("1", "on", "true", "yes")


def endpoint() -> str:
    """The Hub's address: $HF_ENDPOINT, else the public one."""
    return os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT


def forbidden_by() -> str | None:
    """The environment variable that says that there is to be no network, or None."""
    for name in ("X1_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(name, "").lower() in TRUE_WORDS:
            return name
    return None


def is_reachable(address: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether a connection to an address opens within `seconds`, its name's look-up included."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = []

    def connect() -> None:
        try:
            socket.create_connection((parts.hostname, port), timeout=seconds).close()
            found.append(True)
        except OSError:
            pass

    # the look-up of a name knows no time limit of its own
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(seconds)
    return bool(found)


def require(name: str, address: str | None = None) -> None:
    """Raise SourceError, within 5 s, where the network that a source needs is not there."""
    advice = "use --source embedded, which needs no network"
    if variable := forbidden_by():
        raise SourceError(
            f"{name} needs a network and {variable} forbids one; unset it, or {advice}"
        )
    address = address or endpoint()
    if not is_reachable(address):
        host = urlsplit(address).hostname
        raise SourceError(f"{name} needs a network and {host} cannot be reached; {advice}")


def is_network_error(error: BaseException) -> bool:
    """Whether an error, or one that caused it, is a connection's, so that trying again may help."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        package = type(error).__module__.partition(".")[0]
        # a file that is missing or refused will be so again
        lasting = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)
        if not lasting and (isinstance(error, OSError | EOFError) or package in _NETWORK_PACKAGES):
            return True
        error = error.__cause__ or error.__context__
    return False
