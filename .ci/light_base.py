"""Run by the Python of a base install: fails unless a producer can work without any package of the workers.

Importing the producers' commands, and what they have for tests, is part of that.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata

import orderrelay_producers
import orderrelay_producers.commands
import orderrelay_producers.testing

MOST_PACKAGES = 25

heavy = ("aiohttp", "alembic", "celery", "httpx", "kombu", "psycopg", "sqlalchemy", "structlog")
present = [name for name in heavy if importlib.util.find_spec(name) is not None]
if present:
    sys.exit(f"The base install brings {', '.join(present)}")
packages = sorted({found.name for found in metadata.distributions()} - {"orderrelay", "pip", "setuptools"})
if len(packages) > MOST_PACKAGES:
    sys.exit(f"The base install brings {len(packages)} packages, more than {MOST_PACKAGES}: {', '.join(packages)}")
names = len(orderrelay_producers.__all__)
print(f"base install: {names} public names, {len(packages)} packages: {', '.join(packages)}")
