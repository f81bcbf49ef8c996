"""A config whose training steps take milliseconds, and a bench of it that tests share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from buttress.benching import limits
from buttress.benching.bench import BenchOptions, bench
from buttress.benching.speed import Speed
from buttress.cli.answer import reporter_aside
from buttress.config.file import load_config

from ..cli.conftest import CONFIG, make_workspace

# Every hook of a step has a plugin: the plugins of both models of the loop, and others beside them.
PLUGINS: list[Any] = [
    {"augment": {"pad": 1}},
    {"pgd": {"steps": 3, "loss": "kl"}},
    "trades",
    "awp",
    {"clip_grad": {"norm": 1.0}},
    {"ema": {"tau": 0.9}},
    "swa",
]

Measure = Callable[..., Speed]


@pytest.fixture(scope="module", autouse=True)
def small_limits() -> Iterator[None]:
    """The limits of the machine are measured on little work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "_SIDE", {"cpu": 64})
        patch.setattr(limits, "_COPIED", {"cpu": 2**16})
        yield


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """Measures the small config with other sections, in one round if nothing else is asked for."""
    folder = tmp_path_factory.mktemp("bench")
    make_workspace(folder)

    def run(options: BenchOptions | None = None, /, replays: int = 1, **sections: Any) -> Speed:
        data = {**CONFIG["data"], "path": str(folder / "small.npz"), "replays": replays}
        config = CONFIG | {"data": data} | sections
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        before = sorted(folder.rglob("*"))
        with reporter_aside("loading") as reporter:
            speed = bench(load_config(path), options or BenchOptions(1, 0), reporter)
        assert sorted(folder.rglob("*")) == before  # nothing stays, whatever is measured
        return speed

    return run


@pytest.fixture(scope="module")
def speed(measure: Measure) -> Speed:
    """A bench of the full stack."""
    return measure(BenchOptions(2, 1), plugins=PLUGINS)
