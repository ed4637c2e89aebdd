"""What a file of orders costs to enqueue, in each format: `python -m tests.bench.files --help`.

Prints one JSON object a case: orders a second by the clock, CPU of the command per 1,000 orders, and its peak memory.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import redis

from orderrelay_workers.demo.private_redis import PrivateRedis, find_binary
from tests.bench.producing import make_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_COMMAND = "from orderrelay_shared.start import main; main()"

#: Order-level columns stand in the first row of an order only.
_HEAD = ("CustomerNr", "InvoiceDate", "ReferenceOur", "ReferenceYour")
_ROW = ("CustomerRowType", "ProductNr", "Quantity", "Amount", "Text")


def main() -> None:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=200_000, help="in each file")
    parser.add_argument("--formats", default="jsonl,csv,json", help="which, with commas between them; also jsonl.gz")
    parser.add_argument("--without-external-id", action="store_true", help="let the orders have none")
    parser.add_argument("--dry-run", action="store_true", help="send nothing")
    parser.add_argument("--folder", type=Path, default=None, help="where the files are made")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as folder,
        PrivateRedis(find_binary(), Path(folder)) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        for form in arguments.formats.split(","):
            file = Path(folder) / f"orders.{form}"
            opened: Callable[..., Any] = gzip.open if form.endswith(".gz") else open
            with opened(file, "wt", encoding="utf-8", newline="") as stream:
                orders = (
                    make_order(number, with_external_id=not arguments.without_external_id)
                    for number in range(arguments.orders)
                )
                _WRITERS[form.removesuffix(".gz")](stream, orders)
            words = ["--dry-run"] if arguments.dry_run else []
            print(json.dumps(_run(form, file, words, arguments.orders, server.url)), flush=True)
            file.unlink()
            client.flushall(asynchronous=True)


def _write_lines(stream: TextIO, orders: Iterator[dict[str, Any]]) -> None:
    stream.writelines(json.dumps(order, ensure_ascii=False) + "\n" for order in orders)


def _write_array(stream: TextIO, orders: Iterator[dict[str, Any]]) -> None:
    before = "[\n"
    for order in orders:
        stream.write(before + json.dumps(order, ensure_ascii=False))
        before = ",\n"
    stream.write("\n]\n")


def _write_table(stream: TextIO, orders: Iterator[dict[str, Any]]) -> None:
    writer = csv.writer(stream, delimiter=";")
    names = ("OrderKey", "ExternalId", *_HEAD, *_ROW)
    writer.writerow(names)
    for number, order in enumerate(orders):
        head = [order.get(name, "") for name in ("ExternalId", *_HEAD)]
        for row in order["InvoiceRows"]:
            writer.writerow([number, *head, *(str(row[name]).replace(".", ",") for name in _ROW)])
            head = [""] * len(head)


_WRITERS: dict[str, Callable[[TextIO, Iterator[dict[str, Any]]], None]] = {
    "jsonl": _write_lines,
    "json": _write_array,
    "csv": _write_table,
}


def _run(form: str, file: Path, words: list[str], orders: int, url: str) -> dict[str, object]:
    environment = {**os.environ, "ORDERRELAY_REDIS_URL": url, "ORDERRELAY_MAX_WAITING": str(10**9)}
    command = [sys.executable, "-c", _COMMAND, "enqueue", str(file), "--json", *words]
    began_at = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        # Of this process alone; its children so far would be counted with it otherwise.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began_at
    assert process.returncode == 0
    return {
        "format": form,
        "file_mb": round(file.stat().st_size / 1e6),
        "per_second": round(orders / seconds),
        "cpu_s_per_1000": round((usage.ru_utime + usage.ru_stime) / orders * 1000, 4),
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
        **json.loads(told),
    }


if __name__ == "__main__":
    main()
