"""Reads what `orderrelay demo --json` printed; fails unless its last line tells of a good run."""

from __future__ import annotations

import json
import sys

result = json.loads(sys.stdin.read().splitlines()[-1])
must_be_none = ("lost", "doubled", "waiting", "unknown")
bad = {name: result[name] for name in must_be_none if result[name] != 0}
if bad or not result["created"]:
    sys.exit(f"The demonstration did not end well: {bad or 'nothing was created'}")
print(f"demo: {result['created']} created, 0 lost, 0 doubled in {result['seconds']} s")
