"""Both backends, for every test that asks for them, and the compiled one alone."""

import os
from collections.abc import Iterator

import pytest

from buttress.kernels import native, use_backend


@pytest.fixture(params=["torch", "native"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test on both; without the extension the native one skips, and fails where CI asks for it."""
    if request.param == "native" and not native.operations():
        if os.environ.get("CI"):
            pytest.fail(native.why_not())
        pytest.skip(native.why_not())
    with use_backend(request.param):
        yield request.param


@pytest.fixture
def compiled(backend: str) -> None:
    """Leave the twins out."""
    if backend == "torch":
        pytest.skip("the compiled operators are tested")
