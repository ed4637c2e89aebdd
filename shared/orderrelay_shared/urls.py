"""Addresses of services: what may be shown of them, and which ones Orderrelay understands."""

from __future__ import annotations

import ipaddress
import re
from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import parse_qsl, unquote, urlsplit

from orderrelay_shared.sentinel_urls import SENTINEL, is_sentinel_url, read_sentinel_url

#: What stands for anything that must not be shown.
MASK = "…"

_URL = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"<>]+")

#: The schemes of a Redis address.
REDIS_SCHEMES = ("redis", "rediss", "unix", SENTINEL)

#: The schemes of a PostgreSQL address; the last is SQLAlchemy's.
OUTBOX_POSTGRES_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")


def masked(url: str) -> str:
    """The address without user name, password and query, fit for a log line.

    Args:
        url: Any address; one that cannot be read as such is masked as a whole.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return MASK
    rest, _, fragment = rest.partition("#")
    rest, question, _ = rest.partition("?")
    # A password may hold an unescaped "/" or "@", so everything up to the last "@" goes. It may hold an unescaped
    # "?" or "#" too: what stands before it is then a piece of the password.
    before, at, after = rest.rpartition("@")
    if not at and "@" in url:
        return f"{scheme}://{MASK}"
    query = f"?{MASK}" if question or fragment else ""
    return f"{scheme}://{MASK if before else ''}{at}{after}{query}"


def mask_urls(text: str) -> str:
    """The text with every address in it masked."""
    return _URL.sub(lambda match: masked(match[0]), text)


def passwords_in(url: str) -> tuple[str, ...]:
    """The passwords that an address holds, as written and decoded: in front of the host and in the query."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return ()
    found = [password, unquote(password)] if password else []
    found += [value for name, value in parse_qsl(parts.query) if "pass" in name.casefold()]
    return tuple(dict.fromkeys(found))


def redis_url_problem(url: str) -> str | None:
    """What is wrong with a Redis address, in words that show nothing of it but its scheme, or None."""
    scheme = url.partition("://")[0]
    if "://" not in url:
        return "is no address"
    if scheme.lower() not in REDIS_SCHEMES:
        return f"has the scheme {scheme[:20]!r}, which is not supported"
    if is_sentinel_url(url):
        return _sentinel_url_problem(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "has no readable host and port; special characters in a password must be percent-encoded"
    if parts.scheme == "unix":
        return None if parts.path.startswith("/") else "names no absolute path of a socket"
    if not parts.hostname:
        return "names no host"
    if port == 0:
        return "names port 0"
    database = parts.path.strip("/")
    if database and not (database.isascii() and database.isdigit()):
        return "has a path that is no database number; special characters in a password must be percent-encoded"
    return None


def _sentinel_url_problem(url: str) -> str | None:
    try:
        read_sentinel_url(url)
    except ValueError as error:
        return str(error)
    return None


def outbox_url_problem(url: str) -> str | None:
    """What is wrong with an outbox's address, in words that show nothing of it but its scheme, or None."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "is no address"
    if scheme == "sqlite":
        path = rest.removeprefix("/")
        is_absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
        return None if rest.startswith("/") and is_absolute else "names no absolute path of a file"
    if scheme not in OUTBOX_POSTGRES_SCHEMES:
        return f"has the scheme {scheme[:20]!r}, which is not supported"
    try:
        is_readable = urlsplit(url).port != 0
    except ValueError:
        is_readable = False
    unreadable = "has no readable host and port; special characters in a password must be percent-encoded"
    return None if is_readable else unreadable


def listen_host(host: str) -> str:
    """An address of this host to listen on, as it is."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("is no IP address") from None
    return host
