"""What the doctor makes of certificates, memory, disks, connections, versions and orders that nobody sends."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import socketserver
import ssl
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from pydantic import SecretStr

from orderrelay_workers import certificates
from orderrelay_workers.audit import facts
from orderrelay_workers.audit.backlog import Backlog
from orderrelay_workers.audit.facts import ServerFacts, WorkerFacts
from orderrelay_workers.diagnosis import of_backlog, of_certificates, of_database, of_disks, of_redis
from orderrelay_workers.diagnosis.findings import Level
from orderrelay_workers.gate import GateState, Limits
from orderrelay_workers.ledger.engine import open_engine
from orderrelay_workers.metrics_of_certificates import CertificateGauges
from orderrelay_workers.settings import CompanySettings, WorkerSettings
from tests.servers import RedisServer, free_port
from tests.tls_front import tls_front
from tests.unit.test_slowness import ACME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 1, 30, 12, tzinfo=UTC)


# --- certificates


@contextlib.contextmanager
def serving_tls(context: ssl.SSLContext, *, as_postgres: bool = False) -> Iterator[int]:
    """A server that shows its certificate to one client, after PostgreSQL's manner if asked; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            plain, _ = listening.accept()
            with plain, contextlib.suppress(OSError):
                if as_postgres:
                    assert plain.recv(8) == b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
                    plain.sendall(b"S")
                with context.wrap_socket(plain, server_side=True) as secured:
                    secured.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def server_context(*, days: float) -> ssl.SSLContext:
    """TLS of a server whose certificate is good for so many days, and that no client trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    expires_at = datetime.now(UTC) + timedelta(days=days)
    trustme.CA().issue_cert(
        "127.0.0.1", not_before=expires_at - timedelta(days=90), not_after=expires_at
    ).configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [(-1.5, Level.PROBLEM, "has expired at"), (20.5, Level.WARNING, "expires in"), (22, Level.OK, "is good until")],
)
@pytest.mark.parametrize("as_postgres", [False, True])
def test_a_certificate_is_judged_by_its_end(days: float, level: Level, words: str, as_postgres: bool) -> None:
    """Less than three weeks are a warning; one that has ended, which nobody trusts any more, is seen as well."""
    with serving_tls(server_context(days=days), as_postgres=as_postgres) as port:
        der = certificates.certificate_of(certificates.TlsEnd("redis", "127.0.0.1", port, is_postgres=as_postgres))
    expires_at = certificates.expiry(der)
    assert abs(expires_at - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=1)
    finding = of_certificates.judge_certificate("redis", "host:1", expires_at, datetime.now(UTC))
    assert (finding.level, words in finding.text) == (level, True)
    assert bool(finding.to_do) == (level is not Level.OK)


def test_a_date_beyond_2049_is_read() -> None:
    """Certificates write such dates otherwise."""
    with serving_tls(server_context(days=365 * 40)) as port:
        der = certificates.certificate_of(certificates.TlsEnd("vendor", "127.0.0.1", port))
    assert certificates.expiry(der).year > 2050


@pytest.mark.parametrize("cut", [0, 1, 7, 60])
def test_what_is_no_certificate_is_refused(cut: int) -> None:
    """A cut one is not taken for one that has a date."""
    authority = trustme.CA()
    whole = ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())
    with pytest.raises(ValueError, match="no certificate"):
        certificates.expiry(whole[:cut])


def test_every_end_is_looked_at_with_our_certificate_where_one_is_wanted(tmp_path: Path) -> None:
    """A Redis that wants a client's certificate is shown it; a vendor without TLS is a warning, and no crash."""
    authority = trustme.CA()
    context = server_context(days=10.2)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # where the handshake itself fails without one
    ours = authority.issue_cert("a-worker")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    ours.cert_chain_pems[0].write_to_path(str(certificate))
    ours.private_key_pem.write_to_path(str(key))
    company = CompanySettings(company_api_key=SecretStr("k"), connect_api_key=SecretStr("k"), token=SecretStr("t"))
    with serving_tls(context) as port:
        url = f"rediss://127.0.0.1:{port}/0?ssl_certfile={certificate}&ssl_keyfile={key}"
        nobody = f"https://127.0.0.1:{free_port()}"
        settings = WorkerSettings(redis_url=url, broker_url=url, base_url=nobody, companies={"acme": company})
        redis, vendor = of_certificates.look_at_certificates(settings, database_over_tls=False)
    assert (redis.subject, redis.level, "expires in 10 days" in redis.text) == ("redis", Level.WARNING, True)
    assert (vendor.subject, vendor.level, "could not be read" in vendor.text) == ("vendor", Level.WARNING, True)


@contextlib.contextmanager
def a_sentinel(named_port: int) -> Iterator[int]:
    """What looks like a sentinel whose primary "main" is at a port; gives its own."""
    state = {"name": "main", "ip": "127.0.0.1", "port": str(named_port), "flags": "master", "num-other-sentinels": "2"}
    state |= dict.fromkeys(("runid", "quorum", "num-slaves"), "1")
    words = "".join(f"${len(word)}\r\n{word}\r\n" for pair in state.items() for word in pair)
    answer = f"*1\r\n%{len(state)}\r\n{words}".encode()  # as RESP3 has it

    class Answering(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while asked := self.request.recv(4096):
                for command in asked.upper().split(b"*")[1:]:
                    if b"HELLO" in command:
                        self.request.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n")
                    else:
                        self.request.sendall(answer if b"MASTERS" in command else b"+OK\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answering) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


def test_sentinels_and_the_primary_that_they_name_are_looked_at(tmp_path: Path) -> None:
    """Each sentinel's certificate, one that is away as a warning, and that of the primary."""
    authority = trustme.CA()
    of_sentinel = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(of_sentinel)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    gone = free_port()
    with (
        serving_tls(server_context(days=10.2)) as primary,
        a_sentinel(primary) as plain,
        tls_front(plain, of_sentinel) as port,
    ):
        url = f"sentinel://127.0.0.1:{port},127.0.0.1:{gone}/main/0?ssl=true&ssl_ca_certs={trusted}"
        settings = WorkerSettings(redis_url=url, broker_url=url, base_url="http://host")
        found = of_certificates.look_at_certificates(settings, database_over_tls=False)
    assert [(finding.subject, finding.level) for finding in found] == [
        ("sentinel", Level.OK),
        ("sentinel", Level.WARNING),
        ("redis", Level.WARNING),
    ]
    assert "could not be read" in found[1].text
    assert f"127.0.0.1:{primary} expires in 10 days" in found[2].text


def test_metrics_tell_when_a_certificate_ends(sqlite_url: str) -> None:
    """What was read stands while the server is away, and whether all could be read is known, to try it again."""
    engine = open_engine(sqlite_url)
    with serving_tls(server_context(days=10)) as port:
        url = f"rediss://127.0.0.1:{port}/0"
        settings = WorkerSettings(redis_url=url, broker_url=url, base_url="http://host")
        gauges = CertificateGauges(settings, engine)
        assert told_by(gauges) == []
        assert gauges.look()
    [(labels, expires_at)] = told_by(gauges)
    assert labels == {"end": "redis"}
    assert abs(expires_at - (datetime.now(UTC) + timedelta(days=10)).timestamp()) < 60
    assert not gauges.look()
    assert told_by(gauges) == [(labels, expires_at)]
    engine.dispose()


def told_by(gauges: CertificateGauges) -> list[tuple[dict[str, str], float]]:
    """Labels and value of each sample."""
    return [(sample.labels, sample.value) for family in gauges.collect() for sample in family.samples]


def test_without_tls_there_is_no_certificate_to_look_at() -> None:
    """Plain addresses are left alone."""
    for url in ("redis://host/0", "sentinel://host:1/main"):
        settings = WorkerSettings(redis_url=url, broker_url=url, base_url="http://host")
        assert certificates.tls_ends(settings, database_over_tls=False) == []


def test_only_a_database_connection_over_tls_has_a_certificate(postgres_url: str, sqlite_url: str) -> None:
    """PostgreSQL itself says whether this connection is over TLS; a file has none."""
    for url in (postgres_url, sqlite_url):
        engine = open_engine(url)
        assert facts.is_over_tls(engine) is False
        engine.dispose()
    settings = WorkerSettings(database_url="postgresql://u:p@db/orders?sslcert=/c.pem&sslkey=/k.pem")
    (end,) = certificates.tls_ends(settings, database_over_tls=True)
    assert end == certificates.TlsEnd("database", "db", 5432, is_postgres=True, own_certificate=("/c.pem", "/k.pem"))


# --- Redis' memory

_REDIS = of_redis.RedisFacts("7.2.4", "master", True, "always", False, True, "noeviction", used_bytes=100 * 1024**2)


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, Level.OK, "no limit told"),
        ({"host_bytes": 1000 * 1024**2}, Level.OK, "10% of the 1,000 MiB of its host's memory"),
        ({"most_bytes": 130 * 1024**2}, Level.WARNING, "77% of the 130 MiB of maxmemory"),
        ({"most_bytes": 101 * 1024**2}, Level.PROBLEM, "no order is accepted any more"),
        ({"most_bytes": 101 * 1024**2, "host_bytes": 10**12}, Level.PROBLEM, "of maxmemory"),
    ],
)
def test_a_redis_that_gets_full_is_told(changes: dict[str, Any], level: Level, words: str) -> None:
    """A full Redis accepts nothing, so that is told while there is time."""
    finding = of_redis.judge_memory(dataclasses.replace(_REDIS, **changes))
    assert (finding.level, words in finding.text) == (level, True), finding


def test_a_failed_snapshot_stops_the_intake() -> None:
    """By its default a Redis whose snapshot failed takes no writes; with an append-only file that does not matter."""
    failed = dataclasses.replace(_REDIS, append_only=False, last_snapshot_failed=True)
    assert any("last snapshot failed" in finding.text for finding in of_redis.judge(failed, "redis://host"))
    kept = dataclasses.replace(failed, append_only=True)
    assert not any("last snapshot failed" in finding.text for finding in of_redis.judge(kept, "redis://host"))


def test_a_real_redis_tells_its_memory(redis_server: RedisServer) -> None:
    """A small maxmemory that a real server has reached is a problem."""
    redis_server.start()
    with redis_server.connect() as client:
        client.config_set("maxmemory", "500kb")
        try:
            _, found = of_redis.look_at_redis(redis_server.url, of_redis.Asked())
        finally:
            client.config_set("maxmemory", "0")
    assert [finding.level for finding in found if "of memory used" in finding.text] == [Level.PROBLEM]


# --- disks


def test_little_disk_and_spooled_answers_are_told(tmp_path: Path) -> None:
    """Answers in the spool wait for a worker on this host; a folder that does not exist yet is no trouble."""
    spool = tmp_path / "state" / "spool"
    assert [finding.subject for finding in of_disks.look_at_disks(spool, tmp_path / "o.db")] == ["database", "spool"]
    (spool / "ledger").mkdir(parents=True)
    (spool / "ledger" / "worker.jsonl").touch()
    *_, finding = of_disks.look_at_disks(spool, None)
    assert (finding.level, "orderrelay worker" in finding.to_do) == (Level.WARNING, True)
    assert of_disks.judge_disk("spool", spool, 1024**3 - 1, "why").level is Level.WARNING
    assert of_disks.judge_disk("spool", spool, 1024**3, "why").level is Level.OK


# --- PostgreSQL's room


@pytest.mark.parametrize(
    ("changes", "workers", "level", "words"),
    [
        ({}, 5, Level.OK, "20 of 97 connections in use"),
        ({}, 6, Level.WARNING, "6 workers may open 16 each"),
        ({"connections": 90}, 1, Level.WARNING, "may soon get none"),
        ({"version_number": 130020}, 0, Level.PROBLEM, "is too old"),
    ],
)
def test_a_servers_room_is_told(changes: dict[str, Any], workers: int, level: Level, words: str) -> None:
    """Workers that get no connection wait; the command to type says how many there must be."""
    server = ServerFacts("16.4", "on", "on", "on", False, 160004, 100, 3, 20, 0)
    finding = of_database.judge_room(dataclasses.replace(server, **changes), workers)[0]
    assert (finding.level, words in finding.text) == (level, True), finding


def test_a_real_server_tells_its_room(postgres_url: str) -> None:
    """The question is one that a real server answers."""
    engine = open_engine(postgres_url)
    server = facts.server(engine)
    engine.dispose()
    assert server.version_number >= 140_000
    assert 0 < server.connections <= server.max_connections
    assert (server.reserved_connections >= 3, server.size_bytes > 0) == (True, True)


# --- workers and what they serve


def test_workers_of_several_versions_are_told() -> None:
    """Versions that differ are a deploy that did not end; so is a command of another version."""
    mixed = of_database.judge_workers(WorkerFacts((("a", "1.0"), ("b", "1.1")), 0), "1.1")
    assert (mixed.level, "version 1.0 and 1.1" in mixed.text) == (Level.WARNING, True)
    other = of_database.judge_workers(WorkerFacts((("a", "1.0"),), 0), "1.1")
    assert (other.level, "this command is 1.1" in other.text) == (Level.WARNING, True)
    assert of_database.judge_workers(WorkerFacts((("a", "1.0"),), 0), "1.0").level is Level.OK


_OVERDUE = Backlog(NOW, {2: 7}, NOW - timedelta(seconds=61), workers=1)
_OPEN = GateState(Limits(10, 1, 50))


@pytest.mark.parametrize(
    ("backlog", "state", "told"),
    [
        (_OVERDUE, _OPEN, True),
        (_OVERDUE, None, True),
        (dataclasses.replace(_OVERDUE, workers=0), _OPEN, False),
        (dataclasses.replace(_OVERDUE, next_due_at=NOW - timedelta(seconds=59)), _OPEN, False),
        (_OVERDUE, dataclasses.replace(_OPEN, in_flight=1), False),
        (_OVERDUE, dataclasses.replace(_OPEN, drain_per_second=0.5), False),
        (_OVERDUE, dataclasses.replace(_OPEN, throttled_seconds=3.0), False),
        (_OVERDUE, dataclasses.replace(_OPEN, closed_seconds=3.0), False),
        (_OVERDUE, dataclasses.replace(_OPEN, paused="why"), False),
    ],
)
def test_orders_that_nobody_sends_are_told(backlog: Backlog, state: GateState | None, told: bool) -> None:
    """Due, free to go, workers are there, and nothing moves: then none of them serves the company."""
    finding = of_backlog.judge_backlog(ACME, backlog, state)
    assert (finding is not None) == told
    if finding is not None:
        assert finding.level is Level.PROBLEM
        assert "7 orders" in finding.text
        assert "ORDERRELAY_COMPANIES__ACME__" in finding.to_do
