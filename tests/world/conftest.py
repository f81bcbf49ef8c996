from collections.abc import Iterator

import pytest

from .ranks import Ranks


@pytest.fixture(scope="session", params=[2, 3], ids=["two", "three"])
def ranks(request: pytest.FixtureRequest) -> Iterator[Ranks]:
    made = Ranks(request.param)
    yield made
    made.close()
