"""``data.replays``: each batch is trained several times in a row, also by a run that stopped in between."""

import json
from pathlib import Path

import yaml

from .conftest import CONFIG, Verb, stopped_at

WATCH = """
from pathlib import Path

from buttress import hookimpl


class Watch:
    \"\"\"Writes down the examples of every step, after their augmentation.

    Args:
        label: name of the file in the working folder to which they are written, without its suffix.
    \"\"\"

    def __init__(self, *, label: str) -> None:
        self.file = Path(f"{label}.txt")

    @hookimpl
    def generate_adv(self, batch, ctx):
        line = f"{ctx.epoch}.{ctx.step} {batch.index.tolist()} {batch.aux} {batch.x.double().sum().item()!r}"
        with self.file.open("a") as file:
            file.write(line + "\\n")
        return batch.x.clone()
"""


def config(workspace: Path, name: str) -> str:
    plugins = ["augment", {"cutout": {"size": 3}}, {"watch": {"label": name}}, {"ema": {"tau": 0.9}}]
    changes = {"plugins": plugins, "plugins_file": "watch.py", "epochs": 2, "log_every": 1}
    settings = {**CONFIG, **changes, "data": {**CONFIG["data"], "replays": 3}}  # type: ignore[dict-item]
    (workspace / "watch.py").write_text(WATCH)
    (workspace / f"{name}.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return f"{name}.yaml"


def test_batches_are_replayed_and_a_run_resumes_in_the_middle_of_them(workspace: Path, expect: Verb):
    expect("train", config(workspace, "whole"), "--run", "whole", "--runs", "out")
    lines = [line.split(" ", 1) for line in (workspace / "whole.txt").read_text().splitlines()]
    steps = lines[-24:]  # the forecast trains before the run begins
    assert [place for place, _ in steps] == [f"{epoch}.{step}" for epoch in range(2) for step in range(12)]
    seen = [batch for _, batch in steps]
    assert [seen[3 * number] for number in range(8) for _ in range(3)] == seen
    assert len(set(seen)) == 8
    metrics = map(json.loads, (workspace / "out" / "small" / "whole" / "metrics.jsonl").read_text().splitlines())
    assert [record["global_step"] for record in metrics if record["event"] == "train"] == list(range(1, 25))

    with stopped_at(13):
        expect("train", config(workspace, "parts"), "--run", "parts", "--runs", "out", code=1)
    expect("resume", "out/small/parts")
    again = (workspace / "parts.txt").read_text().splitlines()[-24:]
    assert again == [" ".join(line) for line in steps]
    weights = [workspace / "out" / "small" / run / "weights" / "last-live.safetensors" for run in ("whole", "parts")]
    assert weights[0].read_bytes()[-1000:] == weights[1].read_bytes()[-1000:]
