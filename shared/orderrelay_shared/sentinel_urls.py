"""Addresses of a Redis whose primary is named by sentinels: `sentinel://host:port,host:port/<primary>/<database>`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

#: Their scheme.
SENTINEL: Final = "sentinel"

#: Where a sentinel listens if its port is left out.
_PORT: Final = 26379

_TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_QUERY: Final = ("sentinel_username", "sentinel_password", "ssl", *_TLS_FILES)

#: A host is a name, an IPv4 address, or an IPv6 address in brackets.
_HOST: Final = re.compile(r"(?P<host>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """What such an address says.

    Attributes:
        sentinels: Hosts and ports of the sentinels.
        primary: What the sentinels call the Redis ("master name").
        database: Its number.
        user: Of Redis, with its password; None: none.
        sentinel_user: Of the sentinels, likewise.
        is_tls: Whether Redis and the sentinels are reached by TLS.
        tls_files: Authority, own certificate and its key, by their names in redis-py.
    """

    sentinels: tuple[tuple[str, int], ...]
    primary: str
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_user: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    is_tls: bool = False
    tls_files: dict[str, str] = field(default_factory=dict[str, str])


def is_sentinel_url(url: str) -> bool:
    """Whether an address has the scheme, right or wrong as the rest may be."""
    return url.partition("://")[0].lower() == SENTINEL


def read_sentinel_url(url: str) -> SentinelUrl:
    """Read such an address.

    Raises:
        ValueError: It is wrong; the text says what is, and shows nothing of it.
    """
    try:
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("cannot be read; special characters in a password must be percent-encoded") from None
    before, _, hosts = parts.netloc.rpartition("@")
    user, _, password = before.partition(":")
    sentinels = tuple(_sentinel(host) for host in hosts.split(","))
    primary, database = _primary(parts.path)
    query = _query(given)
    return SentinelUrl(
        sentinels=sentinels,
        primary=primary,
        database=database,
        user=unquote(user) or None,
        password=unquote(password) or None,
        sentinel_user=query.get("sentinel_username") or None,
        sentinel_password=query.get("sentinel_password") or None,
        is_tls=query.get("ssl") == "true",
        tls_files={name: query[name] for name in _TLS_FILES if name in query},
    )


def _sentinel(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    port = int(found["port"] or _PORT) if found else 0
    if found is None or not 0 < port < 65_536:
        raise ValueError(
            "names a sentinel that is no host and port; special characters in a password must be percent-encoded"
        )
    return found["host"].strip("[]"), port


def _primary(path: str) -> tuple[str, int]:
    name, _, database = path.removeprefix("/").partition("/")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise ValueError("names no primary after the sentinels, as sentinels allow it: letters, digits and . - _")
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError("has something other than a database number after the primary")
    return name, int(database or 0)


def _query(given: list[tuple[str, str]]) -> dict[str, str]:
    query = dict(given)
    if len(query) < len(given) or not query.keys() <= set(_QUERY):
        raise ValueError(f"has a query with other names than {', '.join(_QUERY)}, or one of them twice")
    if query.get("ssl", "false") not in {"true", "false"}:
        raise ValueError("has a query whose ssl is neither true nor false")
    if query.get("ssl") != "true" and any(name in query for name in _TLS_FILES):
        raise ValueError("has files for TLS in its query, but not ssl=true")
    return query
