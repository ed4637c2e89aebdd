"""Checks of the addresses among the settings: the vendor's, its paths, and the ledger's."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit


def base_url(url: str) -> str:
    """The vendor's address without a slash at its end; ValueError says what is wrong, and shows nothing of it."""
    try:
        parts = urlsplit(url)
        readable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        readable = False
        parts = urlsplit("")
    if not readable:
        raise ValueError("is no http or https address")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user name or password; credentials belong in the company's own settings")
    if "?" in url or "#" in url:
        raise ValueError("holds a query or fragment; Orderrelay adds the query itself")
    if any(c.isspace() for c in url):
        raise ValueError("holds a space")
    return url.rstrip("/")


def path(path: str) -> str:
    """A path below the vendor's address, without a slash at its beginning; may be empty."""
    if any(c.isspace() or c in "?#\\" for c in path) or "://" in path or ".." in path.split("/"):
        raise ValueError("is no plain path")
    return path.lstrip("/")


def path_not_empty(path: str) -> str:
    """The path, if there is one."""
    if not path:
        raise ValueError("is empty")
    return path


def database_url(url: str) -> str:
    """The ledger's address as SQLAlchemy takes it; ValueError says what is wrong, and shows nothing of it."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError("is no address")
    if scheme in {"sqlite", "sqlite+pysqlite"}:
        return _sqlite_url(rest)
    if scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise ValueError(f"has the scheme {scheme[:20]!r}, which is not supported")
    try:
        port = urlsplit(url).port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("has no readable host and port; special characters in a password must be percent-encoded")
    return f"postgresql+psycopg://{rest}"


def _sqlite_url(rest: str) -> str:
    path = rest.removeprefix("/")
    if path in {"", ":memory:"}:
        raise ValueError("is a database in memory; the ledger must outlive the process, so it needs a file")
    if "?" in path or "#" in path:
        raise ValueError("has options; the ledger sets its own, as its promises rest on them")
    if not rest.startswith("/") or not (PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()):
        raise ValueError(
            "has a relative path; two processes started in different folders would use two ledgers "
            "(an absolute path begins after three slashes: sqlite:////var/lib/orderrelay/orderrelay.db)"
        )
    return f"sqlite:///{path}"
