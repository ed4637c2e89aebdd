"""What docs/first-order.md has a newcomer type is typed, from the start of Redis on, and says what is shown there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.deployed import SCRIPTS
from tests.documents import all_blocks, typed_lines
from tests.servers import free_port, redis_binary

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Processes

#: What is another at each run: instants, the vendor's numbers, its reference.
_CHANGES = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|(?<=number )\d+|(?<=vendor id )\d+|(?<=reference )[0-9a-f-]{36}"
)

#: A reader is no faster than the servers that were just started, and looks again until the order is there.
_WAIT = "for port in 7411 8900; do until (: < /dev/tcp/127.0.0.1/$port) 2> /dev/null; do sleep 0.1; done; done"
_LOOK_AGAIN = "until orderrelay status webshop-1001 | grep --quiet succeeded; do sleep 0.1; done"


def test_the_commands_lead_to_a_first_order(processes: Processes, tmp_path: Path) -> None:
    """As they stand, but for ports and the place of the ledger, which may be taken on this machine."""
    [block] = [
        block for block in all_blocks("console") if "orderrelay worker" in block.text and "first" in block.document
    ]
    lines = typed_lines(block)
    lines = lines[next(n for n, line in enumerate(lines) if line.startswith("redis-server")) :]
    shown = block.text[block.text.index("1 accepted") :]
    lines.insert(next(n for n, line in enumerate(lines) if line.startswith("export")), _WAIT)
    lines.insert(lines.index("orderrelay status webshop-1001"), _LOOK_AGAIN)
    redis, vendor = str(free_port()), str(free_port())
    # What servers say while the reader types is not shown.
    lines = [re.sub(r" &$", " >> servers &", line) for line in lines]
    script = "\n".join(lines).replace("orderrelay simulator", f"orderrelay simulator --port {vendor}")
    script = script.replace("7411", redis).replace("8900", vendor).replace("/tmp/try.db", str(tmp_path / "try.db"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(redis_binary())
    script = f"cd {tmp_path}; PATH={tmp_path}/bin:{SCRIPTS}:$PATH; {{\n{script}\n}} > shown 2> told"
    shell = processes.start(["bash", "-c", script], {"XDG_STATE_HOME": str(tmp_path)}, name="typed")
    assert shell.wait(100) == 0, (tmp_path / "told").read_text()
    said = (tmp_path / "shown").read_text()
    said = said[said.index("1 accepted") :]
    assert _CHANGES.sub("…", said) == _CHANGES.sub("…", re.sub(r"^\$ .*\n", "", shown, flags=re.MULTILINE))
