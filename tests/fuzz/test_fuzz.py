"""A slice of the fuzzing, from a random seed that a failure tells; all of it: `make fuzz`."""

from __future__ import annotations

import itertools
import os
import secrets
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared.states import Outcome
from orderrelay_workers.audit import results
from orderrelay_workers.ledger import schema
from orderrelay_workers.vendor.answers import read_order_answer
from tests.fuzz import orders
from tests.fuzz.answers import AnswerMaker
from tests.fuzz.reading import first_defects
from tests.ledgers import open_ledger

if TYPE_CHECKING:
    from orderrelay_workers.vendor.exchange import Exchange

#: How many answers and orders are read; a twentieth of the answers goes through each database.
COUNT = int(os.environ.get("ORDERRELAY_FUZZ_COUNT", "4000"))
SEED = int(os.environ.get("ORDERRELAY_FUZZ_SEED") or secrets.randbelow(10**9))


@pytest.mark.timeout(1200)
def test_every_answer_is_read_rightly() -> None:
    """No answer crashes a reader, proves what it does not, or brings a secret into a reason."""
    assert "\n".join(first_defects(SEED, COUNT)) == ""


@pytest.mark.timeout(1200)
def test_every_order_is_refused_in_words_or_kept() -> None:
    """An order is refused as OrderInvalid, or comes back from its body the same, with the same digest."""
    assert "\n".join(itertools.islice(orders.problems(SEED, COUNT), 5)) == ""


@pytest.mark.timeout(1200)
def test_every_order_is_enqueued_as_it_is_or_refused() -> None:
    """The producer refuses exactly what breaks a rule; of all else the very bytes are in the intake."""
    assert "\n".join(itertools.islice(orders.enqueuing_problems(SEED, COUNT), 5)) == ""


@pytest.mark.timeout(1200)
def test_every_answer_is_kept_verbatim(database_url: str) -> None:
    """Whatever is answered, it is settled and typed without a crash, and its bytes are in the ledger as they came."""
    maker = AnswerMaker(SEED)
    count = max(COUNT // 20, 100)
    with open_ledger(database_url) as ledger:
        sent: dict[tuple[object, object], Exchange] = {}
        for first in range(0, count, 100):
            ledger.book(*range(first, first + 100))
            ends = [(claim, _unheld(maker)) for claim in ledger.claim(100)]
            ledger.settle(*ends)
            sent |= {(claim.job_id, claim.token): exchange for claim, exchange in ends}
        results.store_all(ledger.engine)
        assert not results.any_waiting(ledger.engine), f"seed {SEED}"
        kept: dict[tuple[object, object], object] = {
            (row["job_id"], row["token"]): row["answer"] for row in ledger.rows(schema.attempt)
        }
    for key, exchange in sent.items():
        came = exchange.partial or None if exchange.body is None else exchange.body
        assert kept[key] == came, f"seed {SEED}"


def _unheld(maker: AnswerMaker) -> Exchange:
    """The next answer that names no order: the generator knows only one id, and one job may hold it."""
    while True:
        exchange = maker.make().exchange
        if read_order_answer(exchange).outcome is not Outcome.CREATED:
            return exchange
