"""The whole product as real processes: a vendor, a ledger and any number of workers, with a verdict in the end."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orderrelay_producers import OrderProducer
from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers.ledger import migrate, schema
from orderrelay_workers.ledger.engine import open_engine, reading
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from orderrelay_workers.simulator import RunningSimulator
    from tests.processes import Processes, RunningProcess

#: The command as a user's shell would start it.
_COMMAND = ("-c", "from orderrelay_shared.command import main; main()")
_CRASH_WORKER = str(Path(__file__).parent / "acceptance" / "crash_worker.py")

#: Short times, as the simulator is quick and tests are impatient. The lease is fence + timeout + 5 s.
_TIMES = {
    "ORDERRELAY_REQUEST_TIMEOUT_SECONDS": "2",
    "ORDERRELAY_START_FENCE_SECONDS": "2",
    "ORDERRELAY_SETTLING_SECONDS": "1",
    "ORDERRELAY_BACKOFF_FIRST_SECONDS": "0.5",
    "ORDERRELAY_LOG_FORMAT": "json",
}
LEASE_SECONDS = 9.0

#: All that can be said of a company; another alias has its own key, and so its own books.
_COMPANY = {
    "CONNECT_API_KEY": "connect-key",
    "LICENSE": "100",
    "USER_NAME": "api-user",
    "PASSWORD": "api-password",
    "RATE_PER_SECOND": "200",
    "BURST": "5",
    "MAX_IN_FLIGHT": "50",
}


def company(alias: str, **changes: str) -> dict[str, str]:
    """The variables of one company; its key is `<alias>-key`."""
    values = {"COMPANY_API_KEY": f"{alias}-key", **_COMPANY, **changes}
    return {f"ORDERRELAY_COMPANIES__{alias.upper()}__{name}": value for name, value in values.items()}


def order(external_id: str, **changes: object) -> dict[str, object]:
    """A small valid order."""
    row = {"CustomerRowType": 2, "ProductNr": "100-5t", "Quantity": 3, "Amount": 350, "Text": "Väktare"}
    return {
        "CustomerNr": "013",
        "InvoiceDate": "2026-01-30",
        "InvoiceRows": [row],
        "ExternalId": external_id,
        **changes,
    }


@dataclass
class Stack:
    """Everything of one test. Workers are started by need; what they wrote is in their logs.

    Attributes:
        processes: Starts and kills them.
        redis_url: The intake and the broker.
        database_url: The ledger, laid out already.
        simulator: The vendor.
        folder: State of the workers' user: spool and the like.
        environment: Variables of every worker; tests add to it.
    """

    processes: Processes
    redis_url: str
    database_url: str
    simulator: RunningSimulator
    folder: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        self.engine = open_engine(self.database_url)
        migrate.migrate(self.engine)
        self.producer = OrderProducer(self.redis_url)
        self.environment = {
            **_TIMES,
            **company("acme"),
            "XDG_STATE_HOME": str(self.folder),
            "ORDERRELAY_REDIS_URL": self.redis_url,
            "ORDERRELAY_DATABASE_URL": self.database_url,
            "ORDERRELAY_BASE_URL": self.simulator.url,
            **self.environment,
        }

    def close(self) -> None:
        """Let connections go."""
        self.producer.close()
        self.engine.dispose()

    def is_writable(self) -> bool:
        """Whether nobody holds the one write lock of SQLite; PostgreSQL has none."""
        if not self.is_sqlite:
            return True
        with contextlib.closing(sqlite3.connect(self.database_url.removeprefix("sqlite:///"), timeout=0.2)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            database.rollback()
            return True

    def set_empty(self, name: str) -> None:
        """Give every worker a setting that is empty, which its environment cannot carry here but an env file can."""
        env_file = self.folder / "orderrelay.env"
        env_file.write_text(f"ORDERRELAY_{name}=\n")
        self.environment["ORDERRELAY_ENV_FILE"] = str(env_file)

    def env_file(self, name: str = "orderrelay") -> EnvFile:
        """An env file for workers to be started with, empty until it is written."""
        return EnvFile(self.folder / f"{name}.env")

    @property
    def is_sqlite(self) -> bool:
        """Whether the ledger is SQLite."""
        return self.database_url.startswith("sqlite")

    # Processes ------------------------------------------------------------------------------------------------------

    def command(self, *args: str, **environment: str) -> RunningProcess:
        """Start `orderrelay` with arguments."""
        return self.processes.start_python([*_COMMAND, *args], {**self.environment, **environment}, name=args[0])

    def worker(self, *args: str, **environment: str) -> RunningProcess:
        """Start a worker; returns when it takes work."""
        return self.await_ready(self.command("worker", *args, **environment))

    def workers(self, count: int) -> list[RunningProcess]:
        """Start workers at once; returns when all take work."""
        started = [self.command("worker") for _ in range(count)]
        return [self.await_ready(process) for process in started]

    def crashing_worker(self, where: str) -> CrashingWorker:
        """Start a worker that kills itself at `before|after module:name`, as soon as it is armed."""
        arming = self.folder / "armed"
        arming.unlink(missing_ok=True)
        process = self.processes.start_python(
            [_CRASH_WORKER, "worker"],
            {**self.environment, "CRASH_AT": where, "CRASH_IF": str(arming)},
            name="crashing",
        )
        return CrashingWorker(self.await_ready(process), arming)

    @staticmethod
    def await_ready(process: RunningProcess) -> RunningProcess:
        """Wait until a worker takes work."""
        wait_until(lambda: not process.is_running or " ready." in process.log, 40, what=f"{process!r} is ready")
        assert process.is_running, f"{process!r} ended:\n{process.log[-4000:]}"
        return process

    # The main job ---------------------------------------------------------------------------------------------------

    def enqueue(self, count: int, prefix: str = "A", company: str = "acme") -> list[str]:
        """Enqueue so many orders; gives their ExternalIds."""
        external_ids = [f"{prefix}-{number}" for number in range(count)]
        report = self.producer.enqueue_many([order(external_id) for external_id in external_ids], company=company)
        assert [line.error for line in report] == [None] * count
        return external_ids

    def wait_for(self, external_ids: Collection[str], *states: JobState, timeout: float = 40.0) -> None:
        """Wait until all these orders are in one of the states; by default in a settled one."""
        wanted = {str(state) for state in states or [state for state in JobState if state.is_settled]}

        def all_there() -> bool:
            found = self.states()
            return all(found.get(external_id) in wanted for external_id in external_ids)

        try:
            wait_until(all_there, timeout, what=f"{len(external_ids)} orders are {sorted(wanted)}")
        except AssertionError as error:
            missing = {x: self.jobs().get(x) for x in external_ids if self.states().get(x) not in wanted}
            told = [f"{x}: {job and (job['state'], job['reason'], dict(job))}" for x, job in missing.items()]
            raise AssertionError("\n".join([f"{error}; not so:", *told[:5]])) from None

    def created(self, company_key_order: int | None = None) -> dict[str, list[int]]:
        """The vendor's books: ExternalId to ids."""
        return self.simulator.books.created(company_key_order)

    def requests(self, kind: str = "order") -> int:
        """How many requests of a kind the vendor saw."""
        return len(self.simulator.arrivals(kind))

    # The ledger -----------------------------------------------------------------------------------------------------

    def rows(self, statement: str, **parameters: object) -> Sequence[sa.Row[Any]]:
        """Rows of an SQL statement."""
        with reading(self.engine) as connection:
            return connection.execute(sa.text(statement), parameters).all()

    def jobs(self) -> dict[str, sa.RowMapping]:
        """Every job by its ExternalId."""
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(schema.job)).mappings()
            return {row["external_id"]: row for row in rows}

    def states(self) -> dict[str, str]:
        """Every job's state by its ExternalId."""
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(schema.job.c.external_id, schema.job.c.state))
            return {row.external_id: row.state for row in rows}

    def attempts(self, kind: str = "order") -> Sequence[sa.RowMapping]:
        """Every attempt of a kind, with its job's ExternalId."""
        query = (
            sa.select(schema.attempt, schema.job.c.external_id)
            .join_from(schema.attempt, schema.job, schema.attempt.c.job_id == schema.job.c.id)
            .where(schema.attempt.c.kind == kind)
            .order_by(schema.attempt.c.id)
        )
        with reading(self.engine) as connection:
            return connection.execute(query).mappings().all()

    def alarms(self) -> list[str]:
        """The kinds of all events that raised an alarm."""
        return [str(row[0]) for row in self.rows("SELECT kind FROM event WHERE alarm ORDER BY id")]

    def assert_every_attempt_answered(self) -> None:
        """No claim lapsed: what became of each request was seen and settled by the worker that made it."""
        assert [a["reason"] for a in self.attempts() if a["ended_at"] is None] == []

    # The verdict ----------------------------------------------------------------------------------------------------

    def assert_all_created_once(
        self, external_ids: Iterable[str], *, exact: bool = True, alarms: Sequence[str] = ()
    ) -> None:
        """The vendor has each order once, the ledger knows its id, and every request has its attempt.

        Args:
            external_ids: All orders of the test that are to be created.
            exact: Whether no claim lapsed before its request left, so that there are as many attempts as requests.
            alarms: The alarms that there should be.
        """
        expected = sorted(external_ids)
        created = self.created()
        jobs = self.jobs()
        assert self.simulator.books.doubled() == {}
        assert sorted(created) == expected
        assert {x: jobs[x]["state"] for x in expected if jobs[x]["state"] != JobState.SUCCEEDED} == {}
        assert {x: [jobs[x]["vendor_id"]] for x in expected} == created
        self.assert_every_request_recorded(exact=exact)
        assert self.alarms() == list(alarms)

    def assert_every_request_recorded(self, *, exact: bool = True) -> None:
        """Every order request that the vendor saw has an attempt, and each job counts its own."""
        attempts = self.attempts()
        left = [a for a in attempts if a["sent"] is not False]
        seen = self.requests()
        assert len(left) == seen if exact else len(left) >= seen, f"{len(left)} attempts, {seen} requests"
        counted = Counter(a["external_id"] for a in attempts if a["outcome"] != Outcome.NOT_CREATED)
        assert counted == Counter({x: job["requests"] for x, job in self.jobs().items() if job["requests"]})
        assert all(a["body_digest"] for a in attempts if a["ended_at"])
        answered = [a for a in left if a["http_status"] == 200 and a["answer_complete"]]
        assert all(a["answer"] is not None for a in answered)

    def assert_kept_with_evidence(self, external_ids: Iterable[str], state: JobState) -> None:
        """These orders are in a state for people, with a reason, and an attempt to show for it."""
        jobs, attempted = self.jobs(), {a["external_id"] for a in self.attempts()}
        for external_id in external_ids:
            assert jobs[external_id]["state"] == state
            assert jobs[external_id]["reason"]
            assert external_id in attempted

    def wait_for_results(self, count: int, timeout: float = 15.0) -> None:
        """Wait until so many operation results are stored."""
        wait_until(
            lambda: self.rows("SELECT count(*) FROM operation_result")[0][0] == count,
            timeout,
            what=f"{count} operation results are stored",
        )


@dataclass(frozen=True)
class EnvFile:
    """Settings of acme that change while workers run."""

    path: Path

    def write(self, **settings: str) -> None:
        """Replace all that it says of acme."""
        lines = [f"ORDERRELAY_COMPANIES__ACME__{name}={value}\n" for name, value in settings.items()]
        self.path.write_text("".join(lines))

    @property
    def environment(self) -> dict[str, str]:
        """The variable that names it."""
        return {"ORDERRELAY_ENV_FILE": str(self.path)}


@dataclass(frozen=True)
class CrashingWorker:
    """A worker that kills itself at one place in its code, once it is armed."""

    process: RunningProcess
    arming: Path

    def arm(self) -> None:
        """From now on it dies there."""
        self.arming.touch()

    def wait_for_crash(self, timeout: float = 20.0) -> None:
        """Wait until it has died by its own SIGKILL."""
        assert self.process.wait(timeout) == -signal.SIGKILL, self.process.log[-4000:]


def environment_of(*companies: Mapping[str, str], **more: str) -> dict[str, str]:
    """One environment of several companies' variables."""
    joined: dict[str, str] = {}
    for variables in companies:
        joined |= variables
    return joined | more
