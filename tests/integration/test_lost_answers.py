"""A link to PostgreSQL that has silently lost an answer: nobody waits for it for ever."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from orderrelay_workers.ledger import engine as engines
from tests.chaos.proxy import ChaosProxy
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def link(postgres_url: str) -> Iterator[ChaosProxy]:
    """What lies between a worker and its database."""
    port = sa.make_url(postgres_url).port
    assert port is not None
    proxy = ChaosProxy(port)
    yield proxy
    proxy.close()


@pytest.fixture
def engine(postgres_url: str, link: ChaosProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Engine]:
    """An engine beyond the link, whose statements may take a second."""
    monkeypatch.setattr(engines, "_ANSWER_LOST_SECONDS", 0.5)
    url = sa.make_url(postgres_url).set(port=link.port).render_as_string(hide_password=False)
    opened = engines.open_engine(url, statement_seconds=1)
    yield opened
    opened.dispose()


def test_a_lost_answer_ends_as_a_database_that_is_away(engine: sa.Engine, link: ChaosProxy) -> None:
    """The statement fails, its connection is gone, and once the link works again so does the next statement."""
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        link.is_swallowing = True
        with pytest.raises(exc.OperationalError) as raised:
            connection.execute(sa.text("SELECT 2"))
        assert engines.is_away(raised.value)
        assert connection.invalidated
    link.heal()
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 3")).scalar_one() == 3


def test_a_lost_commit_is_not_waited_for_either(engine: sa.Engine, link: ChaosProxy) -> None:
    """Nobody knows whether it was done; that is for the caller, who is told."""
    ended = threading.Event()

    def write() -> None:
        try:
            with engine.begin() as connection:
                connection.execute(sa.text("CREATE TABLE lost (number integer)"))
                link.is_swallowing = True
        except exc.DBAPIError:
            ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    wait_until(ended.is_set, 10, what="the commit was given up")
    thread.join()


def test_connections_of_the_pool_that_died_together_cost_one_wait(engine: sa.Engine, link: ChaosProxy) -> None:
    """After the first that is given up, the others of its age are not tried."""
    held = [engine.connect() for _ in range(4)]
    for connection in held:
        connection.execute(sa.text("SELECT 1"))
        connection.close()
    link.is_swallowing = True
    with pytest.raises(exc.DBAPIError), engine.connect() as connection:
        connection.execute(sa.text("SELECT 2"))
    link.heal()
    tried = threading.Event()

    def try_again() -> None:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 3"))
        tried.set()

    thread = threading.Thread(target=try_again)
    thread.start()
    thread.join(1.2)  # less than one more wait
    assert tried.is_set()
