"""The fundamentals run on the same stack as the acceptance tests, with SQLite and one worker."""

from tests.acceptance.conftest import simulator, sqlite_stack

__all__ = ["simulator", "sqlite_stack"]
