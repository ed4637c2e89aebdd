"""The gate over all workers: one script call decides, Redis' clock is the only clock, answers are waits.

Redis is expendable: with the gate's keys gone it is closed until a worker seeds it again from the ledger, and with
Redis gone every call raises and nothing is sent. What this process has in flight is counted here, exactly, and every
call says it anew, so a call that got lost leaves no place taken for longer than until the next one.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Final, cast

import structlog
from redis.exceptions import TimeoutError as RedisTimeout

from orderrelay_shared import keys
from orderrelay_workers import metrics
from orderrelay_workers.gate.permits import Kind, Permits, Refusal
from orderrelay_workers.gate.reading import HOLD_FIELDS, LEARNED_FIELDS, THROTTLE_FIELDS, limit_fields, read_state

if TYPE_CHECKING:
    import uuid
    from collections.abc import Generator, Iterable, Mapping, Sequence

    import redis

    from orderrelay_workers.gate.permits import ClosedTime, GateState, Limits, Report

_SCRIPTS: Final = ("admit", "report", "give_back", "seed", "adjust", "forget", "state")

#: As in admit.lua: no slot further ahead is given away, in seconds.
LONGEST_HORIZON_SECONDS: Final = 60.0

#: How long one thread waits for another's call about the same company before it gives up, in seconds.
_TURN_SECONDS: Final = 5.0

_CLOSED_FIELDS: Final = ("closed_from_us", "closed_until_us", "closed_reason")

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Outstanding:
    """This process's requests in flight for one company, and the turn to tell Redis about them."""

    count: int = 0
    #: What Redis last confirmed; None while that is not known.
    told: int | None = None
    #: Retries that were granted and not made; they go back with the next question.
    retries_unused: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)


class Gate:
    """The gate as one process sees it. Threads may share it; a company's calls go one after another.

    Every method makes one round trip per company, and raises `redis.RedisError` if Redis cannot be reached. A call
    that raised must not be repeated with the same counts: this process has already counted them.

    Args:
        redis: The client; scripts are loaded when first needed, and again after a wipe.
        boot_id: Names this process's life; its places in flight are freed under this name when it is dead.
        probe_lease_seconds: How long a probe may take before another worker probes.
    """

    def __init__(self, redis: redis.Redis, boot_id: uuid.UUID, *, probe_lease_seconds: float) -> None:
        folder = resources.files("orderrelay_workers.gate")
        common = (folder / "common.lua").read_text()
        self._scripts = {
            name: redis.register_script(f"{common}\n{(folder / f'{name}.lua').read_text()}") for name in _SCRIPTS
        }
        self._boot = boot_id.hex
        self._probe_lease_us = _us(probe_lease_seconds)
        self._counting = threading.Lock()
        self._outstanding: dict[str, _Outstanding] = {}

    def admit(
        self,
        company: str,
        kind: Kind,
        want: int,
        *,
        horizon_seconds: float = 1.0,
        lead_seconds: float = 0.0,
        idle: int = 0,
        ahead: int = 0,
    ) -> Permits:
        """Ask for permits.

        Args:
            company: The company's alias.
            kind: The kind of requests.
            want: How many could start; at least 1. Fewer may be granted.
            horizon_seconds: The latest start that is of use, from now; more than `LONGEST_HORIZON_SECONDS` is cut to
                that. A longer horizon reaches slots behind those that others could take.
            lead_seconds: None will start sooner than this, as they have to be claimed first; a slot before that would
                be missed.
            idle: How many of this process's places in flight lie idle; permits take these before new ones.
            ahead: So many permits may be granted beyond the places that are free; for orders.

        Raises:
            ValueError: `want` is less than 1.
        """
        if want < 1:
            raise ValueError(f"{want} permits wanted; ask for at least 1")
        ours = self._ours(company)
        with self._turn(ours, company):
            counted, before, ours.told = ours.count, ours.told, None
            with self._counting:
                unused, ours.retries_unused = ours.retries_unused, 0
            horizon_us = _us(min(max(horizon_seconds, 0.0), LONGEST_HORIZON_SECONDS))
            args = [self._boot, kind.value, want, horizon_us, counted, self._probe_lease_us, 0, unused]
            args += [_us(lead_seconds), idle, ahead]
            permits = _permits(company, kind, self._run("admit", _gate_keys(company), args), lead_seconds)
            self._add(ours, permits.places)
            # A refusal counts nothing.
            ours.told = counted + permits.places if permits.granted else before
        if not (permits.granted and kind is Kind.ORDER):
            self.retries_unused(company, unused)
        return permits

    def admit_again(self, company: str, kind: Kind, want: int, *, horizon_seconds: float = 1.0) -> Permits:
        """Ask for other slots for requests that have their places in flight and were too late for their slots.

        Whatever is not granted is still in flight by the gate's count: report it as finished.
        """
        horizon_us = _us(min(max(horizon_seconds, 0.0), LONGEST_HORIZON_SECONDS))
        args = [self._boot, kind.value, want, horizon_us, 0, self._probe_lease_us, 1, 0, 0, 0, 0]
        return _permits(company, kind, self._run("admit", _gate_keys(company), args), 0.0)

    def retries_unused(self, company: str, number: int) -> None:
        """Note that so many of `Permits.retries` were not made; the gate is told with the next question."""
        with self._counting:
            self._outstanding[company].retries_unused += number

    def give_back(self, permits: Permits, unused: int) -> None:
        """Give back the last permits of a grant, with which no request was started.

        New places in flight that were given for them become free and, if they were a probe, another may go. Their slots
        go back too, unless somebody has reserved behind them meanwhile.

        Args:
            permits: The grant.
            unused: How many of its permits, from its end; 0 does nothing.

        Raises:
            ValueError: More than were granted.
        """
        if not 0 <= unused <= permits.granted:
            raise ValueError(f"{unused} permits given back of {permits.granted} granted")
        if unused == 0:
            return
        args = [unused, _us(permits.interval_seconds), permits.end_us, int(permits.probe)]
        self._tell("give_back", permits.company, permits.kind, args, ended=permits.places_of(unused))

    def report(self, company: str, kind: Kind, report: Report) -> None:
        """Tell how requests of one kind ended, and give their places in flight back."""
        throttle_us = _us(max(report.throttle_seconds or 0.0, 0.0)) or (-1 if report.throttled else 0)
        latency_us = _us(max(report.latency_seconds or 0.0, 0.0))
        args: list[int | str] = [report.good, report.unwell, int(report.probe), report.trip or "", throttle_us]
        args += [report.retries_good, latency_us, report.throttled]
        args.append(report.good if report.orders is None else report.orders)
        changes = cast("list[object]", self._tell("report", company, kind, args, ended=report.finished))
        _log_changes(company, kind, [_text(change) for change in changes])

    def seed(
        self,
        company: str,
        limits: Limits,
        paused: str | None,
        in_flight: Mapping[str, int],
        closed: ClosedTime | None = None,
    ) -> bool:
        """Make the company's gate from what the ledger says, if Redis has none.

        Args:
            company: The company's alias.
            limits: Its limits.
            paused: Why it is paused, or None.
            in_flight: Boot id (hex) of every worker that is not dead -> its claims in progress. This process's own
                entry is not looked at, as it knows better.
            closed: When it is closed, now or next; None: not known.

        Returns:
            Whether the gate was missing.
        """
        ours = self._ours(company)
        with self._turn(ours, company):
            own = ours.count
            fields = limit_fields(limits) | _closed_fields(closed)
            if paused is not None:
                fields["paused"] = paused or "paused"
            args: list[int | str] = [self._boot, own, len(fields), *_flat(fields)]
            for boot, count in in_flight.items():
                if boot != self._boot:
                    args += [boot, count]
            seeded = _int(self._call("seed", _gate_keys(company), args)) == 1
            ours.told = own if seeded else None
            return seeded

    def set_limits(self, company: str, limits: Limits) -> None:
        """Change the limits of a gate that is seeded; slots already given away stay as they are."""
        fields = limit_fields(limits)
        self._adjust(company, fields, [*LEARNED_FIELDS, *({"learn_from"} - fields.keys())])

    def set_closed(self, company: str, closed: ClosedTime) -> None:
        """Tell a gate that is seeded when it is closed: the present or the next such time."""
        fields = _closed_fields(closed)
        self._adjust(company, fields, [name for name in _CLOSED_FIELDS if name not in fields])

    def pause(self, company: str, reason: str) -> None:
        """Refuse everything until `resume`, in a gate that is seeded. The reason is for people; never empty."""
        self._adjust(company, {"paused": reason or "paused"})

    def resume(self, company: str) -> None:
        """End a pause, and forget holds and the vendor's wish to wait: a person says that it works again."""
        of_kinds = [f"{kind.value}_{name}" for kind in Kind for name in HOLD_FIELDS]
        self._adjust(company, {}, ["paused", *THROTTLE_FIELDS, "probes_from_us", *of_kinds])

    def forget_worker(self, companies: Iterable[str], boot_id: uuid.UUID) -> None:
        """Free the places in flight and the probes of a worker that is dead; one that was not takes them again."""
        key_pairs = [key for company in companies for key in _gate_keys(company)]
        if key_pairs:
            self._call("forget", key_pairs, [boot_id.hex, *(kind.value for kind in Kind)])

    def sync_in_flight(self) -> None:
        """Write how many requests this process has in flight; called at each beat.

        It heals what calls that got lost left behind. A worker that is silent for 60 seconds loses its places.
        """
        with self._counting:
            companies = list(self._outstanding.items())
        for company, ours in companies:
            # Nothing in flight, and Redis knows it.
            if ours.count == 0 and ours.told == 0:
                continue
            # Not waiting for the turn keeps the beat on time; whoever has it is telling the count right now.
            if ours.turn.acquire(blocking=False):
                try:
                    self._say("report", company, ours, Kind.ORDER, [0, 0, 0, "", 0, 0, 0, 0, 0])
                finally:
                    ours.turn.release()

    def state(self, company: str) -> GateState | None:
        """The company's gate as it is now, or None if it is not seeded."""
        reply = self._run("state", _gate_keys(company), [])
        return read_state(int(_text(reply[0])), _pairs(reply[1]), _pairs(reply[2]))

    def _ours(self, company: str) -> _Outstanding:
        with self._counting:
            return self._outstanding.setdefault(company, _Outstanding())

    def _add(self, ours: _Outstanding, number: int) -> None:
        with self._counting:
            ours.count = max(0, ours.count + number)

    def _tell(self, script: str, company: str, kind: Kind, args: Sequence[int | str], *, ended: int) -> object:
        """Count requests off, whether or not Redis can be told, then tell it."""
        ours = self._ours(company)
        self._add(ours, -ended)
        with self._turn(ours, company):
            return self._say(script, company, ours, kind, args)

    def _say(
        self, script: str, company: str, ours: _Outstanding, kind: Kind, args: Sequence[int | str]
    ) -> object:  # fmt: skip
        told, ours.told = ours.count, None
        reply = self._call(script, _gate_keys(company), [self._boot, kind.value, told, *args])
        ours.told = told
        return reply

    @contextlib.contextmanager
    def _turn(self, ours: _Outstanding, company: str) -> Generator[None]:
        """One call at a time per company: counts are absolute, so the later call must arrive later."""
        if not ours.turn.acquire(timeout=_TURN_SECONDS):
            raise RedisTimeout(f"Redis did not answer other threads about {company} for {_TURN_SECONDS:.0f} s")
        try:
            yield
        finally:
            ours.turn.release()

    def _adjust(self, company: str, changed: Mapping[str, str], removed: Sequence[str] = ()) -> None:
        self._call("adjust", _gate_keys(company)[:1], [len(changed), *_flat(changed), *removed])

    def _run(self, script: str, script_keys: Sequence[str], args: Sequence[int | str]) -> list[object]:
        return cast("list[object]", self._call(script, script_keys, args))

    def _call(self, script: str, script_keys: Sequence[str], args: Sequence[int | str]) -> object:
        return cast("object", self._scripts[script](keys=script_keys, args=args))


def _gate_keys(company: str) -> tuple[str, str]:
    return keys.gate(company), keys.gate_in_flight(company)


def _permits(company: str, kind: Kind, reply: Sequence[object], lead_seconds: float) -> Permits:
    """What admit.lua answers."""
    return Permits(
        company=company,
        kind=kind,
        granted=_int(reply[0]),
        first_wait_seconds=_int(reply[1]) / 1_000_000,
        interval_seconds=_int(reply[2]) / 1_000_000,
        refusal=Refusal(_text(reply[3])) if reply[3] else None,
        wait_seconds=_int(reply[4]) / 1_000_000,
        reason=_text(reply[5]),
        probe=bool(reply[6]),
        end_us=int(_text(reply[7])),
        retries=_int(reply[8]),
        places=_int(reply[9]),
        ahead=_int(reply[10]),
        late_seconds=_int(reply[11]) / 1_000_000,
        keep=_int(reply[12]),
        is_full=bool(reply[13]),
        lead_seconds=lead_seconds,
    )


def _closed_fields(closed: ClosedTime | None) -> dict[str, str]:
    if closed is None or closed.begins_at is None or closed.ends_at is None:
        return {}
    values = (str(_us(closed.begins_at)), str(_us(closed.ends_at)), closed.reason)
    return dict(zip(_CLOSED_FIELDS, values, strict=True))


def _log_changes(company: str, kind: Kind, changes: Sequence[str]) -> None:
    """One line for each change that this report made; none for what stays as it is."""
    for name, value in zip(changes[::2], changes[1::2], strict=False):
        match name:
            case "opened":
                metrics.circuit_opened(company, kind)
                _log.warning("circuit_opened", company=company, kind=kind.value, reason=value)
            case "held":
                _log.info("circuit_stays_open", company=company, kind=kind.value, seconds=_seconds(value))
            case "closed":
                _log.info("circuit_closed", company=company, kind=kind.value)
            case "throttled":
                _log.warning("vendor_asks_to_wait", company=company, kind=kind.value, seconds=_seconds(value))
            case "slower":
                _log.info("rate_learned_down", company=company, per_second=float(value))
            case _:
                pass


def _flat(fields: Mapping[str, str]) -> list[str]:
    return [item for pair in fields.items() for item in pair]


def _seconds(us: str) -> float:
    return int(us) / 1_000_000


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _int(value: object) -> int:
    return int(cast("int", value))


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _pairs(flat: object) -> dict[str, str]:
    texts = [_text(item) for item in cast("list[object]", flat)]
    return dict(zip(texts[::2], texts[1::2], strict=True))
