"""Settlements in a file: all of them come back, and no broken line costs another."""

from __future__ import annotations

import json
import stat
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orderrelay_workers import spool
from orderrelay_workers.vendor.answers import read_order_answer, read_order_answers
from orderrelay_workers.vendor.exchange import Failure
from tests.ledgers import a_settlement, created, cut_off, not_sent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orderrelay_workers.ledger.settling import Settlement

BOOT = uuid.uuid4()


def replay(folder: Path) -> list[Settlement]:
    """All that a replay gives, in order."""
    replayed: list[Settlement] = []

    def settle(batch: Sequence[Settlement]) -> None:
        replayed.extend(batch)

    assert spool.replay(folder, settle) == len(replayed)
    return replayed


@pytest.mark.parametrize(
    "exchange",
    [created(77), replace(created(77), body=b"\x00\xff not JSON \n\r\n"), cut_off(), not_sent(Failure.REFUSED)],
    ids=["created", "bytes", "cut off", "not sent"],
)
def test_a_settlement_comes_back_as_it_was(tmp_path: Path, exchange: object) -> None:
    """What is written is replayed unchanged, to the last byte of the answer."""
    settlement = a_settlement(exchange)
    spool.write(tmp_path, BOOT, [settlement])
    assert replay(tmp_path) == [settlement]


def test_an_order_among_several_comes_back_as_it_was(tmp_path: Path) -> None:
    """Of a request with several orders each is replayed with its own place, and so with its own id."""
    answer = created(77, Keys=[77, 78], Strings=["211", "212"])
    both = [
        replace(a_settlement(answer), verdict=verdict, place=place, orders=2)
        for place, verdict in enumerate(read_order_answers(answer, 2))
    ]
    spool.write(tmp_path, BOOT, both)
    assert replay(tmp_path) == both
    assert [one.verdict.vendor_id for one in both] == [77, 78]


def test_an_earlier_version_cannot_take_an_answer_to_several_for_one(tmp_path: Path) -> None:
    """It finds no exchange in such a line, and leaves the order to a look-up instead of giving it the first id."""
    path = spool.write(tmp_path, BOOT, [replace(a_settlement(created(77)), orders=2)])
    assert "exchange" not in json.loads(path.read_bytes())


def test_the_verdict_is_read_anew(tmp_path: Path) -> None:
    """What an answer means is decided at the replay, by the version that replays it."""
    spool.write(tmp_path, BOOT, [a_settlement(created(77))])
    [settlement] = replay(tmp_path)
    assert settlement.verdict == read_order_answer(created(77))


def test_several_writes_are_one_story(tmp_path: Path) -> None:
    """A worker may write more than once, and several workers may leave files; all are replayed."""
    first, second, third = (a_settlement(created(number)) for number in (1, 2, 3))
    spool.write(tmp_path, uuid.UUID(int=1), [first])
    spool.write(tmp_path, uuid.UUID(int=1), [second])
    spool.write(tmp_path, uuid.UUID(int=2), [third])
    assert replay(tmp_path) == [first, second, third]


def test_a_replayed_file_is_gone(tmp_path: Path) -> None:
    """After its replay a file is removed, so that the next start finds nothing."""
    spool.write(tmp_path, BOOT, [a_settlement(created(77))])
    replay(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert replay(tmp_path) == []


def test_what_cannot_be_settled_stays(tmp_path: Path) -> None:
    """A replay that fails, as when the database is away, leaves the file for the next one."""
    settlement = a_settlement(created(77))
    spool.write(tmp_path, BOOT, [settlement])

    def fail(batch: object) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        spool.replay(tmp_path, fail)
    assert replay(tmp_path) == [settlement]


@pytest.mark.parametrize("cut", [2, 20, 200])
def test_a_cut_line_costs_only_itself(tmp_path: Path, cut: int) -> None:
    """A last line that a crash cut short is left out; those before it are replayed."""
    whole, broken = a_settlement(created(77)), a_settlement(created(78))
    path = spool.write(tmp_path, BOOT, [whole])
    spool.write(tmp_path, BOOT, [broken])
    path.write_bytes(path.read_bytes()[:-cut])
    assert replay(tmp_path) == [whole]


def test_it_is_for_its_user_alone(tmp_path: Path) -> None:
    """Answers of the vendor are nobody else's to read."""
    path = spool.write(tmp_path / "spool", BOOT, [a_settlement(created(77))])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_no_folder_is_nothing_to_replay(tmp_path: Path) -> None:
    """A worker that never spooled starts as well."""
    assert replay(tmp_path / "never made") == []
