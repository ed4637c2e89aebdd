"""The certificates of what is reached by TLS: where they are shown, and until when each is good."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from redis.exceptions import RedisError

from orderrelay_shared.sentinel_urls import is_sentinel_url, read_sentinel_url

if TYPE_CHECKING:
    from orderrelay_workers.settings import WorkerSettings

#: How long the server may take for the handshake, in seconds.
_PATIENCE_SECONDS: Final = 5.0

#: What a PostgreSQL client sends to ask for TLS; the server answers "S" if it can.
_POSTGRES_ASKS_FOR_TLS: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


@dataclass(frozen=True, slots=True)
class TlsEnd:
    """Something that is reached by TLS.

    Attributes:
        subject: What people call it: vendor, redis, broker, sentinel or database.
        host: Its name.
        port: Its port.
        is_postgres: Whether TLS has to be asked for first.
        own_certificate: Files of the certificate that we show, and of its key, where the server wants one.
    """

    subject: str
    host: str
    port: int
    is_postgres: bool = False
    own_certificate: tuple[str, str] | None = None


def tls_ends(settings: WorkerSettings, *, database_over_tls: bool) -> list[TlsEnd]:
    """What is reached by TLS; an address that is used for two things is looked at once.

    Sentinels are asked where the primary is; while none says so, it is left out.

    Args:
        settings: They name the addresses.
        database_over_tls: Whether the connection to PostgreSQL came to be over TLS.
    """
    ends: list[TlsEnd] = []
    for subject, url in (("redis", settings.redis_url), ("broker", settings.broker_url)):
        if subject == "broker" and url == settings.redis_url:
            continue
        parts = urlsplit(url) if not is_sentinel_url(url) else None
        if parts is None:
            ends += _behind_sentinels(subject, url)
        elif parts.scheme == "rediss":
            own = _own(url, "ssl_certfile", "ssl_keyfile")
            ends.append(TlsEnd(subject, parts.hostname or "localhost", parts.port or 6379, own_certificate=own))
    if database_over_tls:
        parts = urlsplit(settings.database_url)
        own = _own(settings.database_url, "sslcert", "sslkey")
        ends.append(TlsEnd("database", parts.hostname or "localhost", parts.port or 5432, True, own))
    parts = urlsplit(settings.base_url)
    if parts.scheme == "https" and settings.companies:
        ends.append(TlsEnd("vendor", parts.hostname or "", parts.port or 443))
    return ends


def _behind_sentinels(subject: str, url: str) -> list[TlsEnd]:
    from orderrelay_shared import sentinels  # noqa: PLC0415  only where there are any

    address = read_sentinel_url(url)
    if not address.is_tls:
        return []
    files = address.tls_files
    both = "ssl_certfile" in files and "ssl_keyfile" in files
    own = (files["ssl_certfile"], files["ssl_keyfile"]) if both else None
    ends = [TlsEnd("sentinel", host, port, own_certificate=own) for host, port in address.sentinels]
    try:
        host, port = sentinels.primary_of(address, _PATIENCE_SECONDS)
    except RedisError:  # whoever uses it tells
        return ends
    return [*ends, TlsEnd(subject, host, port, own_certificate=own)]


def _own(url: str, certificate: str, key: str) -> tuple[str, str] | None:
    options = parse_qs(urlsplit(url).query)
    if certificate in options and key in options:
        return options[certificate][0], options[key][0]
    return None


def certificate_of(end: TlsEnd) -> bytes:
    """The certificate that a server shows, trusted or not, in DER.

    Raises:
        OSError: It cannot be reached, or does not speak TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Only the date is looked at: one that is not trusted, perhaps as it has expired, must be seen as well.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if end.own_certificate is not None:
        context.load_cert_chain(*end.own_certificate)
    with socket.create_connection((end.host, end.port), timeout=_PATIENCE_SECONDS) as plain:
        if end.is_postgres:
            plain.sendall(_POSTGRES_ASKS_FOR_TLS)
            if plain.recv(1) != b"S":
                raise ConnectionError("the server does not speak TLS")
        with context.wrap_socket(plain, server_hostname=end.host) as secured:
            return secured.getpeercert(binary_form=True) or b""


def expiry(certificate: bytes) -> datetime:
    """Until when a certificate (X.509 in DER) is good; the standard library only reads that of one it trusts.

    Raises:
        ValueError: It is no certificate.
    """
    try:
        content, _ = _content(certificate, 0)
        content, _ = _content(content, 0)  # what is signed
        place = _content(content, 0)[1] if content[0] == _VERSION_TAG else 0
        for _ in ("serial number", "algorithm", "issuer"):
            place = _content(content, place)[1]
        validity, _ = _content(content, place)
        place = _content(validity, 0)[1]  # not before
        tag, (text, _) = validity[place], _content(validity, place)
        form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME_TAG else "%Y%m%d%H%M%SZ"
        return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC)
    except (IndexError, UnicodeDecodeError):
        raise ValueError("it is no certificate") from None


_VERSION_TAG: Final = 0xA0
_UTC_TIME_TAG: Final = 0x17


def _content(data: bytes, start: int) -> tuple[bytes, int]:
    """The content of the DER element that begins there, and where the next one does."""
    length, begin = data[start + 1], start + 2
    if length & 0x80:
        size = length & 0x7F
        length, begin = int.from_bytes(data[begin : begin + size]), begin + size
    if begin + length > len(data):
        raise IndexError
    return data[begin : begin + length], begin + length
