"""Add runs up: `python -m tests.chaos.tally FILE`, a file that `--json FILE` wrote. Prints Markdown for documents."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path


def main(path: Path) -> None:
    """Print what was done in all runs of a file, and what came of it."""
    runs = [json.loads(line) for line in path.read_text().splitlines()]
    added = {
        name: sum((Counter(run[name]) for run in runs), Counter[str]())
        for name in ("events", "faults", "states", "order_requests", "lookups", "alarms")
    }
    totals = {name: sum(run[name] for run in runs) for name in ("orders", "lost", "doubled", "unknown", "ambiguous")}
    databases = Counter(run["options"]["database"] for run in runs)
    print(f"{len(runs)} runs ({_words(databases)}), seeds {', '.join(str(run['options']['seed']) for run in runs)}; ")
    print(f"{totals['orders']} orders: {_words(added['states'])}. {added['order_requests'].total()} order requests")
    print(f"({_words(added['order_requests'])}), {added['lookups'].total()} look-ups ({_words(added['lookups'])}).")
    print(f"Lost {totals['lost']}, doubled {totals['doubled']}, left unknown {totals['unknown']}; violations: ", end="")
    print(sum(len(run["violations"]) for run in runs))
    print(f"Alarms: {_words(added['alarms']) or 'none'}. Faults of the vendor: {_words(added['faults'])}.\n")
    print("| done to it | times |\n| --- | --: |")
    for name, count in sorted(added["events"].items()):
        print(f"| {name} | {count} |")
    print("\n| seed | database | orders | death to decision, s: orders, p50, p99 | undisturbed: orders, p50, p99 |")
    print("| --: | --- | --: | --- | --- |")
    for run in runs:
        every, calm = (_times(run, name) for name in ("all", "nor a look-up that failed"))
        options = run["options"]
        print(f"| {options['seed']} | {options['database']} | {run['orders']} | {every} | {calm} |")


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _times(run: dict[str, dict[str, dict[str, float]]], name: str) -> str:
    found = run["death_to_decision"].get(name)
    return f"{found['count']:.0f}, {found['p50']:.1f}, {found['p99']:.1f}" if found else "none"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
