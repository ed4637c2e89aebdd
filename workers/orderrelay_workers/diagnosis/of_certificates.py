"""The certificates of what is reached by TLS: until when each is good."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from orderrelay_workers.diagnosis.findings import Finding, ok, problem, warning

if TYPE_CHECKING:
    from orderrelay_workers.settings import WorkerSettings

#: A certificate that ends sooner is worth a warning, in days.
_SOON_DAYS: Final = 21

#: How long the server may take for the handshake, in seconds.
_PATIENCE_SECONDS: Final = 5.0

#: What a PostgreSQL client sends to ask for TLS; the server answers "S" if it can.
_POSTGRES_ASKS_FOR_TLS: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


@dataclass(frozen=True, slots=True)
class TlsEnd:
    """Something that is reached by TLS.

    Attributes:
        subject: What the doctor calls it: vendor, redis, broker or database.
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


def look_at_certificates(settings: WorkerSettings, *, database_over_tls: bool) -> list[Finding]:
    """Look at the certificate of everything that is reached by TLS. Nothing but the handshake is sent.

    Args:
        settings: They name the addresses.
        database_over_tls: Whether the connection to PostgreSQL came to be over TLS.
    """
    found: list[Finding] = []
    for end in tls_ends(settings, database_over_tls=database_over_tls):
        try:
            expires_at = expiry(certificate_of(end))
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            # Whether it can be reached at all, and is trusted, is told by what really uses it.
            text = f"the certificate of {end.host}:{end.port} could not be read ({type(error).__name__})"
            found.append(warning(end.subject, text, f"openssl s_client -connect {end.host}:{end.port}"))
        else:
            found.append(judge_certificate(end.subject, f"{end.host}:{end.port}", expires_at, datetime.now(UTC)))
    return found


def tls_ends(settings: WorkerSettings, *, database_over_tls: bool) -> list[TlsEnd]:
    """What is reached by TLS; an address that is used for two things is looked at once."""
    ends: list[TlsEnd] = []
    for subject, url in (("redis", settings.redis_url), ("broker", settings.broker_url)):
        parts = urlsplit(url)
        if parts.scheme == "rediss" and (subject == "redis" or url != settings.redis_url):
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


def judge_certificate(subject: str, name: str, expires_at: datetime, now: datetime) -> Finding:
    """What it means that a certificate is good until then."""
    days = (expires_at - now).total_seconds() / 86_400
    at = f"{expires_at:%Y-%m-%dT%H:%M:%SZ}"
    renew = "ask the vendor to renew it" if subject == "vendor" else "renew it, and have the server load it"
    if days <= 0:
        return problem(subject, f"the certificate of {name} has expired at {at}: connections are refused", renew)
    if days <= _SOON_DAYS:
        text = f"the certificate of {name} expires in {days:.0f} days, at {at}: from then on nothing gets through"
        return warning(subject, text, renew)
    return ok(subject, f"the certificate of {name} is good until {at}, {days:.0f} days")
