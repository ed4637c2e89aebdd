"""What goes wrong, when, and how often: the fault plan, read from JSON, and the choice it makes for each request."""

from __future__ import annotations

import difflib
import itertools
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from orderrelay_workers.simulator.faults import FAULTS, Act, Fault, On, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LOOKUP_FAILURES = ("lookup-500", "lookup-404", "lookup-html")

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0)]
Limit = Annotated[int, Field(ge=1)]


class PlanInvalid(ValueError):
    """A fault plan cannot be used; the text is one line that says what is wrong and what is allowed."""


class Rule(BaseModel):
    """One fault and when it strikes: at every request that fits, unless `share` or `every` says less often.

    Attributes:
        fault: A name of the catalogue.
        share: The share of the fitting requests that it strikes, 0 to 1. Shares of several rules do not overlap.
        every: It strikes each n-th fitting request.
        external_id_prefix: Only requests whose ExternalId begins so.
        customer_nr_prefix: Only order requests whose CustomerNr begins so.
        company_key: Only requests with this companyApiKey.
        times: It strikes at most so often.
        seconds: How long, where the fault has a time; default the fault's own.
        from_seconds: It strikes only from so long after the plan was put in force.
        to_seconds: And no longer than until then; None for ever.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: str
    share: Share | None = None
    every: Annotated[int, Field(ge=1)] | None = None
    external_id_prefix: str | None = None
    customer_nr_prefix: str | None = None
    company_key: str | None = None
    times: Annotated[int, Field(ge=0)] | None = None
    seconds: Annotated[float, Field(ge=0.0, le=3600.0)] | None = None
    from_seconds: Seconds = 0.0
    to_seconds: Seconds | None = None

    @field_validator("fault")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name in FAULTS:
            return name
        near = nearest(name)
        raise ValueError(f"no fault is called {name!r}" + (f"; did you mean {near!r}?" if near else ""))

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        fault = FAULTS[self.fault]
        if self.share is not None and self.every is not None:
            raise ValueError("give share or every, not both")
        if self.to_seconds is not None and self.to_seconds <= self.from_seconds:
            raise ValueError(f"to_seconds has to be more than from_seconds, which is {self.from_seconds:g}")
        if fault.act is Act.RESET_UNREAD and (self.external_id_prefix or self.customer_nr_prefix):
            raise ValueError(f"{self.fault} strikes before the order is read, so it cannot go by what is in it")
        if self.customer_nr_prefix is not None and fault.on is not On.ORDER:
            raise ValueError(f"{self.fault} strikes no order request, so it cannot go by CustomerNr")
        if self.external_id_prefix is not None and fault.on is On.LOGIN:
            raise ValueError(f"{self.fault} strikes logins, which have no ExternalId")
        return self

    @property
    def seconds_of_fault(self) -> float:
        """How long, in seconds."""
        return FAULTS[self.fault].seconds if self.seconds is None else self.seconds

    def strikes_at(self, seconds: float) -> bool:
        """Whether it strikes so long after the plan was put in force."""
        return self.from_seconds <= seconds and (self.to_seconds is None or seconds < self.to_seconds)


class FaultPlan(BaseModel):
    """All that the simulator does besides answering well at once. Its default is a vendor in good health.

    Attributes:
        rules: Faults, the first that strikes wins.
        latency_ms: Time before each order, look-up and login is worked on; fixed, or [lowest, highest].
        lookup_lag_seconds: A look-up finds an order only so long after it was created.
        lookup_failing_share: The share of look-ups that fail with 500, 404 or an HTML page, 0 to 1.
        latency_rise_above: With more order requests at work than this, latency rises ...
        latency_rise_ms: ... by so many milliseconds for each of them.
        rate_limit_per_second: More order requests of a company than this within any second are answered 429; None for
            no limit. A list moves the limit: [[seconds since the plan was put in force, limit or null], ...].
        rate_limit_retry_after: What such a 429 says of when to come back: "none", "seconds" or "date" (an HTTP date).
        rate_limit_wait_seconds: How long it then asks to wait.
        away_seconds: [from, to], seconds since the plan was put in force: every connection is refused between them.
        seed: The same seed and the same requests in the same order give the same faults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...] = ()
    latency_ms: Annotated[float, Field(ge=0.0)] | tuple[float, float] = 0.0
    lookup_lag_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    lookup_failing_share: Share = 0.0
    latency_rise_above: Annotated[int, Field(ge=0)] = 0
    latency_rise_ms: Annotated[float, Field(ge=0.0)] = 0.0
    rate_limit_per_second: Limit | tuple[tuple[Seconds, Limit | None], ...] | None = None
    rate_limit_retry_after: Literal["none", "seconds", "date"] = "none"
    rate_limit_wait_seconds: Seconds = 1.0
    away_seconds: tuple[Seconds, Seconds] | None = None
    seed: int = 0

    @field_validator("latency_ms")
    @classmethod
    def _is_a_range(cls, value: float | tuple[float, float]) -> float | tuple[float, float]:
        if isinstance(value, tuple) and not 0 <= value[0] <= value[1]:
            raise ValueError("must be [lowest, highest], neither below 0")
        return value

    @field_validator("away_seconds")
    @classmethod
    def _is_away_and_back(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError("must be [from, to], to later than from")
        return value

    @field_validator("rate_limit_per_second")
    @classmethod
    def _steps_go_forward(
        cls, value: int | tuple[tuple[float, int | None], ...] | None
    ) -> int | tuple[tuple[float, int | None], ...] | None:
        if isinstance(value, tuple):
            begins = [step[0] for step in value]
            if not begins or any(later <= earlier for earlier, later in itertools.pairwise(begins)):
                raise ValueError("the steps must be one or more, each later than the one before")
        return value

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        # Rules begin and end, so the sum can be largest only where one begins.
        begins = {0.0, *(rule.from_seconds for rule in self.rules)}
        for kind, seconds in itertools.product(On, begins):
            total = sum(
                rule.share or 0.0
                for rule in self.rules
                if FAULTS[rule.fault].on is kind
                and rule.strikes_at(seconds)
                and rule.external_id_prefix is rule.customer_nr_prefix is rule.company_key is None
            )
            total += self.lookup_failing_share if kind is On.LOOKUP else 0.0
            if total > 1.0 + 1e-9:
                raise ValueError(f"the shares of the {kind} faults add up to {total:g}; at most 1 is possible")
        return self

    def limit_at(self, seconds: float) -> int | None:
        """The hidden limit so long after the plan was put in force; None for none."""
        steps = self.rate_limit_per_second
        if not isinstance(steps, tuple):
            return steps
        reached = [limit for begins, limit in steps if begins <= seconds]
        return reached[-1] if reached else None

    @classmethod
    def read(cls, source: str | Path) -> FaultPlan:
        """A plan from a JSON file, or from JSON text that begins with "{".

        Raises:
            PlanInvalid: The file cannot be read, or what it says is no plan.
        """
        if isinstance(source, str) and source.lstrip().startswith("{"):
            return cls.from_json(source)
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise PlanInvalid(f"the plan {str(source)!r} cannot be read: {reason}") from error
        return cls.from_json(text)

    @classmethod
    def from_json(cls, text: str | bytes) -> FaultPlan:
        """A plan from JSON text.

        Raises:
            PlanInvalid: The text is no plan.
        """
        return _told(lambda: cls.model_validate_json(text))

    def changed(self, **changes: object) -> FaultPlan:
        """The plan with some of its attributes replaced.

        Raises:
            PlanInvalid: The result is no plan.
        """
        return _told(lambda: type(self).model_validate({**self.model_dump(), **changes}))


def _told(make: Callable[[], FaultPlan]) -> FaultPlan:
    """What `make` returns, its errors in one line for people."""
    try:
        return make()
    except ValidationError as error:
        # pydantic words each problem for programmers; the first one is told, with the nearest name that exists.
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        text = first["msg"].removeprefix("Value error, ")
        if place.startswith("latency_ms."):
            # pydantic names here which of the two shapes it tried, which tells a reader nothing.
            place, text = "latency_ms", "must be milliseconds, as 200, or a range, as [50, 400]"
        if place.startswith("rate_limit_per_second."):
            place, text = "rate_limit_per_second", "must be orders a second, as 50, or steps, as [[0, 50], [90, 80]]"
        if first["type"] == "extra_forbidden":
            fields = [*FaultPlan.model_fields, *Rule.model_fields]
            near = difflib.get_close_matches(str(first["loc"][-1]), fields, n=1, cutoff=0.3)
            text = "is no property of a plan" + (f"; did you mean {near[0]!r}?" if near else "")
        raise PlanInvalid(f"the plan is wrong: {place + ': ' if place else ''}{text}") from error


class Subject:
    """What a rule can go by in one request."""

    __slots__ = ("company_key", "customer_nrs", "external_ids")

    def __init__(
        self, company_key: str = "", external_ids: Sequence[str] = (), customer_nrs: Sequence[str] = ()
    ) -> None:
        self.company_key = company_key
        self.external_ids = external_ids
        self.customer_nrs = customer_nrs


class Draw:
    """One request's luck: a number from 0 to 1, and how much of it earlier rules have used up."""

    __slots__ = ("number", "used")

    def __init__(self, number: float) -> None:
        self.number = number
        self.used = 0.0


class _Counted:
    """A rule and how often it was asked and struck."""

    __slots__ = ("fits", "rule", "struck")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.fits = 0
        self.struck = 0

    def is_about(self, subject: Subject) -> bool:
        rule = self.rule
        if rule.company_key is not None and rule.company_key != subject.company_key:
            return False
        prefix = rule.external_id_prefix
        if prefix is not None and not any(text.startswith(prefix) for text in subject.external_ids):
            return False
        prefix = rule.customer_nr_prefix
        return prefix is None or any(text.startswith(prefix) for text in subject.customer_nrs)

    def strikes(self, draw: Draw) -> bool:
        rule = self.rule
        self.fits += 1
        if rule.share is not None:
            lower = draw.used
            draw.used += rule.share
            hit = lower <= draw.number < draw.used
        else:
            hit = rule.every is None or self.fits % rule.every == 0
        if not hit or (rule.times is not None and self.struck >= rule.times):
            return False
        self.struck += 1
        return True


class Chooser:
    """A plan at work: which fault strikes which request. Its counts begin at zero, and so does its time.

    Args:
        plan: The plan, put in force now.
        clock: Seconds, monotonic.
    """

    def __init__(self, plan: FaultPlan, clock: Callable[[], float] = time.monotonic) -> None:
        self.plan = plan
        self._clock = clock
        self._began = clock()
        self._random = {kind: random.Random(f"{plan.seed}:{kind}") for kind in On}
        self._latency = random.Random(f"{plan.seed}:latency")
        self._unread: list[_Counted] = []
        self._read: dict[On, list[_Counted]] = {kind: [] for kind in On}
        for rule in plan.rules:
            self._count(rule)

    def _count(self, rule: Rule) -> None:
        fault = FAULTS[rule.fault]
        (self._unread if fault.act is Act.RESET_UNREAD else self._read[fault.on]).append(_Counted(rule))

    def add(self, rule: Rule) -> None:
        """Put one more rule behind those of the plan, whose counts and time go on.

        Raises:
            PlanInvalid: They do not go together.
        """
        self.plan = self.plan.changed(rules=[*self.plan.rules, rule])
        self._count(rule)

    def draw(self, kind: On) -> Draw:
        """A new request's luck."""
        return Draw(self._random[kind].random())

    def latency_seconds(self, at_work: int = 0) -> float:
        """How long a request is to wait while so many order requests are at work."""
        plan = self.plan
        latency = self._latency.uniform(*plan.latency_ms) if isinstance(plan.latency_ms, tuple) else plan.latency_ms
        return (latency + plan.latency_rise_ms * max(0, at_work - plan.latency_rise_above)) / 1000

    def limit(self) -> int | None:
        """The hidden limit on a company's orders a second, now; None for none."""
        return self.plan.limit_at(self._seconds())

    def _seconds(self) -> float:
        """How long the plan has been in force."""
        return self._clock() - self._began

    def strikes_read(self, kind: On) -> bool:
        """Whether any rule can strike such a request after it is read; if not, there is no need to ask."""
        return bool(self._read[kind])

    def unread(self, draw: Draw, subject: Subject) -> tuple[Fault, Rule] | None:
        """The fault that strikes an order request before its body is read, if one does."""
        return self._first(self._unread, draw, subject) if self._unread else None

    def read(self, kind: On, draw: Draw, subject: Subject) -> tuple[Fault, Rule] | None:
        """The fault that strikes a request that was read, if one does."""
        found = self._first(self._read[kind], draw, subject)
        share = self.plan.lookup_failing_share
        if found is None and kind is On.LOOKUP and draw.used <= draw.number < draw.used + share:
            part = int((draw.number - draw.used) / share * len(_LOOKUP_FAILURES))
            rule = Rule(fault=_LOOKUP_FAILURES[min(part, len(_LOOKUP_FAILURES) - 1)])
            return FAULTS[rule.fault], rule
        return found

    def _first(self, rules: Sequence[_Counted], draw: Draw, subject: Subject) -> tuple[Fault, Rule] | None:
        seconds = self._seconds()
        for counted in rules:
            if counted.rule.strikes_at(seconds) and counted.is_about(subject) and counted.strikes(draw):
                return FAULTS[counted.rule.fault], counted.rule
        return None
