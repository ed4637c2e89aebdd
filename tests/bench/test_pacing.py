"""What the pacing benches reckon with, and the learned rate as their model sees it."""

from __future__ import annotations

import pytest

from orderrelay_workers.gate import Limits
from tests.bench import pacing, pacing_model, pacing_scenarios
from tests.bench import pacing_numbers as numbers


def test_fullest_second_slides() -> None:
    """The fullest second is found between whole seconds too, and its later end is left out."""
    assert numbers.most_in_any([0.5, 0.75, 1.0, 1.25, 1.5]) == 4
    assert numbers.most_in_any([0.0, 1.0, 2.0]) == 1
    assert numbers.most_in_any([]) == 0


def test_per_second_counts_whole_windows() -> None:
    """Each whole window has its own rate; what is left at the end is not shown as a low one."""
    assert numbers.per_second([0.1, 0.2, 1.5, 2.1], 0.0, 2.5) == [2.0, 1.0]
    assert numbers.per_second([0.1, 0.2, 1.5], 0.0, 4.0, 2.0) == [1.5, 0.0]


def test_gaps_and_their_histogram() -> None:
    """Gaps are in milliseconds; each counts from its edge to below the next, the last holds all above."""
    gaps = numbers.gaps_ms([0.0, 0.25, 1.25])
    assert gaps == [250.0, 1000.0]
    assert numbers.histogram([*gaps, 100.0], [0.0, 100.0, 250.0]) == [0, 1, 2]


@pytest.mark.parametrize(("share", "value"), [(0.5, 3), (0.9, 5), (0.0, 1), (1.0, 5)])
def test_quantile(share: float, value: float) -> None:
    """A quantile is one of the values."""
    assert numbers.quantile([5, 1, 4, 2, 3], share) == value


def test_full_speed_is_a_few_seconds_of_nine_tenths_of_the_rate() -> None:
    """It is reached where three seconds hold nine tenths of the rate for the first time."""
    slow, fast = [0.5, 1.0, 1.5], [2.0 + number / 10 for number in range(40)]
    assert numbers.seconds_to_full_speed([*slow, *fast], 0.0, 10.0) == pytest.approx(2.0)
    assert numbers.seconds_to_full_speed(slow, 0.0, 10.0) is None


def test_a_learned_rate_is_judged_step_by_step() -> None:
    """Each step has its own first moment of nearness, and its own refusals."""
    steps = [(0.0, 50.0), (10.0, 100.0)]
    rates = [(float(at), 46.0 if at >= 4 else 20.0) for at in range(10)] + [(float(at), 60.0) for at in range(10, 20)]
    first, second = numbers.follow(steps, 20.0, rates, sent=[1.0, 5.0, 6.0, 11.0], refused=[5.0])
    assert (first.seconds_until_near, first.share_near, first.sent, first.refused) == (4.0, 1.0, 3, 1)
    assert first.used == pytest.approx(1 / 6 / 50)
    assert (second.seconds_until_near, second.share_near, second.sent) == (None, 0.0, 1)


def test_table_is_as_wide_as_it_must_be() -> None:
    """Names and values are right-aligned; what is not known is a dash."""
    lines: list[str] = []
    numbers.table([{"a": 1.0, "long name": None}, {"a": 10.5, "long name": 7}], lines.append)
    assert lines == ["    a  long name", " 1.00          –", "10.50          7"]


def test_learned_rate_finds_a_hidden_limit_and_follows_it() -> None:
    """The gate's scripts come within a tenth of a limit in under a minute, up and down, with few refusals."""
    steps = [(0.0, 20.0), (40.0, 10.0)]
    run = pacing_model.simulate(Limits(200, 1, 50, learn_from=2), steps, 80.0)
    up, down = numbers.follow(steps, 80.0, run.rates, run.sent, run.refused)
    assert up.seconds_until_near is not None
    assert down.seconds_until_near is not None
    assert max(up.seconds_until_near, down.seconds_until_near) < 40
    assert min(up.share_near, down.share_near) > 0.9
    assert min(up.used, down.used) > 0.85
    assert len(run.refused) < 0.05 * len(run.sent)


def test_every_scenario_has_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names each scenario with what it shows."""
    with pytest.raises(SystemExit) as ended:
        pacing.main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(name in shown for name in (*pacing_scenarios.SCENARIOS, "model", "plot"))
