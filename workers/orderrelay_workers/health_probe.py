"""`python -m orderrelay_workers.health_probe [live|ready]`: asks the worker in this container how it is.

For probes that are commands, such as a container's health check; those that can ask over HTTP need it not. It
prints the worker's answer, and exits 0 if that is yes, 1 if it is no or nobody answers, 2 if there is no port to ask.
"""

from __future__ import annotations

import http.client
import os
import sys

#: The longest wait for the answer, in seconds.
_TIMEOUT_SECONDS = 4


def main() -> int:
    """Ask, print, and give the exit code."""
    question = sys.argv[1] if len(sys.argv) > 1 else "live"
    # Not the settings, which would take half a second to read at each probe.
    port = int(os.environ.get("ORDERRELAY_HEALTH_PORT") or 0)
    host = os.environ.get("ORDERRELAY_HEALTH_HOST") or "127.0.0.1"
    if question not in {"live", "ready"} or not port:
        sys.stderr.write("usage: health_probe [live|ready], with ORDERRELAY_HEALTH_PORT as the worker has it\n")
        return 2
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  asked for by the worker, not opened
    connection = http.client.HTTPConnection(loopback, port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", f"/{question}")
        answer = connection.getresponse()
        sys.stdout.write(answer.read().decode())
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"no answer from {loopback}:{port}: {type(error).__name__}\n")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
