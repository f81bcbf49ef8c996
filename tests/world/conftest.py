from collections.abc import Iterator

import pytest

from .ranks import Ranks


@pytest.fixture(scope="session")
def started_ranks() -> Iterator[dict[int, Ranks]]:
    """Ranks by their number. They stay until the last test, whatever the order of tests: a start takes seconds."""
    started: dict[int, Ranks] = {}
    yield started
    for each in started.values():
        each.close()


@pytest.fixture(params=[2, 3], ids=["two", "three"])
def ranks(request: pytest.FixtureRequest, started_ranks: dict[int, Ranks]) -> Ranks:
    """Two ranks, and three."""
    size = request.param
    if size not in started_ranks:
        started_ranks[size] = Ranks(size)
    return started_ranks[size]
