"""What the doctor says of the certificates of what is reached by TLS."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from orderrelay_workers.certificates import certificate_of, expiry, tls_ends
from orderrelay_workers.diagnosis.findings import Finding, ok, problem, warning

if TYPE_CHECKING:
    from orderrelay_workers.settings import WorkerSettings

#: A certificate that ends sooner is worth a warning, in days.
_SOON_DAYS: Final = 21


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
