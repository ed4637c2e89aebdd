"""Generated answers through everything that reads answers: no crash, the right class, no secret in any reason."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orderrelay_shared.operation_results import OperationResult, OperationResultInvalid
from orderrelay_shared.states import Outcome
from orderrelay_workers.masking import Mask
from orderrelay_workers.vendor.answers import read_login_answer, read_lookup_answer, read_order_answer
from tests.fuzz import oracle
from tests.fuzz.answers import SECRETS, AnswerMaker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orderrelay_workers.vendor.answers import LoginVerdict, LookupVerdict, Verdict
    from tests.fuzz.answers import Generated

#: Pieces of secrets, so that one that is masked in part only is found too.
_PIECES: Final = frozenset(
    piece for value in SECRETS.values() for piece in (value, value.split(" ")[0], value.split(" ")[-1])
)  # fmt: skip
_MASK: Final = Mask(SECRETS.values())


@dataclass(frozen=True)
class Defect:
    """One answer that was read wrongly; `number` is its place among those of the seed."""

    seed: int
    number: int
    problem: str
    made: Generated

    def __str__(self) -> str:
        """All that is needed to see it again."""
        exchange = self.made.exchange
        shown = exchange.partial if exchange.body is None else exchange.body
        return (
            f"seed {self.seed}, answer {self.number}: {self.problem}\n"
            f"    HTTP {exchange.status} {dict(exchange.headers)} {shown[:600]!r} {exchange.failure or ''}"
        )


def read_all(seed: int, count: int) -> Iterator[Defect]:
    """Make so many answers and read each in every way; gives what went wrong."""
    maker = AnswerMaker(seed)
    for number in range(count):
        made = maker.make()
        yield from (Defect(seed, number, problem, made) for problem in problems(made))


def first_defects(seed: int, count: int, most: int = 5) -> list[str]:
    """The first few defects, as text."""
    return [str(defect) for defect in itertools.islice(read_all(seed, count), most)]


def problems(made: Generated) -> Iterator[str]:
    """What is wrong with how one answer is read."""
    try:
        order = read_order_answer(made.exchange)
        lookup = read_lookup_answer(made.exchange)
        login = read_login_answer(made.exchange)
    except Exception as error:  # noqa: BLE001  any of them is the finding
        yield f"{type(error).__name__}: {str(error)[:200]}"
        return
    for name, problem in (
        ("order", oracle.order_problem(made, order)),
        ("look-up", oracle.lookup_problem(made, lookup)),
        ("login", oracle.login_problem(made, login)),
    ):
        if problem is not None:
            yield f"the {name} {problem}"
    if oracle.must_be_rejected(made) and order.outcome is not Outcome.REJECTED:
        yield f"the order is {order.outcome}, but it was refused"
    yield from _told_too_much(made, order, lookup, login)
    yield from _typed_wrongly(made)


def _told_too_much(made: Generated, order: Verdict, lookup: LookupVerdict, login: LoginVerdict) -> Iterator[str]:
    texts = [order.reason, order.error_message, order.order_number, order.reference, lookup.reason, login.reason]
    for text in filter(None, texts):
        if made.echoes and (leaked := [piece for piece in _PIECES if piece in text]):
            yield f"a reason tells {leaked}: {text}"
        if any(value in _MASK.text(text) for value in SECRETS.values()):
            yield f"not even the log's mask hides it: {text}"
        if len(text) > 1000 or not text.isprintable():
            yield f"a reason is not one short line: {text[:200]!r}"
    if any(value in repr(x) for value in SECRETS.values() for x in (made.exchange, login.token)):
        yield "a repr tells a secret"
    for seconds in (order.retry_after_seconds, lookup.retry_after_seconds, login.retry_after_seconds):
        if seconds is not None and not 0 <= seconds <= 86400:
            yield f"it waits {seconds} s"


def _typed_wrongly(made: Generated) -> Iterator[str]:
    body = made.exchange.body or b""
    try:
        result = OperationResult.from_json(body)
    except OperationResultInvalid:
        return
    except Exception as error:  # noqa: BLE001  any of them is the finding
        yield f"from_json: {type(error).__name__}: {str(error)[:200]}"
        return
    try:
        again = OperationResult.from_json(result.to_json())
    except ValueError as error:
        if "too deeply" not in str(error):
            yield f"to_json: {error}"
        return
    except Exception as error:  # noqa: BLE001  as above
        yield f"to_json: {type(error).__name__}: {str(error)[:200]}"
        return
    if again != result:
        yield "an operation result does not come back from JSON as it was"
