"""Random input at every reader: an error of buttress or a value, never another exception."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from buttress.components.loaded import load_plugins
from buttress.config.file import ConfigFile, dump_config, load_config
from buttress.config.overrides import apply_override
from buttress.config.yaml_source import parse_yaml
from buttress.errors import ButtressError
from buttress.kernels import median_files
from buttress.storage.reading import read_tensors
from buttress.training.checkpoint import save_checkpoint
from buttress.training.checkpoint_file import FORMAT, load_checkpoint

from .payloads import CONFIG
from .report import Section

DIGITS = st.from_regex(r"[0-9]{1,12}", fullmatch=True)
NUMBERS = st.one_of(
    st.tuples(DIGITS, st.sampled_from(["e", "E", "e-", "e+", "/", ".", "/1e", "_"]), DIGITS).map("".join),
    st.tuples(DIGITS, st.integers(2, 400)).map(lambda pair: pair[0] * pair[1]),
    DIGITS.map(lambda digits: digits.translate({code: code + 0x630 for code in range(48, 58)})),
)
"""Numbers as text: exponents that no computer finishes, fractions, thousands of digits, digits of another script."""
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), NUMBERS,
    st.sampled_from(["8/255", "1/0", "pgd", "fgsm", "circles", "mlp", "2e-3", ".nan", "~", "0x10", "0o8", "$tensor"]),
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["$tensor", "$items", "name", "x"]) | st.text(max_size=8), inner, max_size=4),
    ),
    max_leaves=12,
)
"""Values as JSON and YAML know them, some of them words that a config or a checkpoint uses."""

YAML_TEXT = st.text(st.sampled_from(list("ab01.-+:?,[]{}&*!|>'\"#%@`~ \n\t\\/=<\0é")), max_size=80)


@st.composite
def edited(draw: st.DrawFn, content: bytes) -> bytes:
    """``content`` with up to four stretches replaced by random bytes, removed or doubled."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 20)))
        new = draw(st.one_of(st.binary(max_size=8), st.just(content[start:stop] * 2)))
        content = content[:start] + new + content[stop:]
    return content


def small_checkpoint(work: Path) -> Path:
    """A checkpoint of two tensors, written as runs write theirs."""
    state = {"model": {"w": torch.ones(2, 3), "b": torch.zeros(2)}, "by_int": {0: [1.5, None]}, "rollbacks": 0}
    return save_checkpoint(work, 1, state, keep=9)


def targets(work: Path) -> dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], object]]]:
    """Every reader: what it is given, and how."""
    checkpoint = small_checkpoint(work)
    tensors = checkpoint.with_suffix(".safetensors")
    sound, body = tensors.read_bytes(), json.loads(checkpoint.read_text())
    config, other, copy = work / "c.yaml", work / "step-00000002.json", work / "step-00000002.safetensors"
    source = parse_yaml(CONFIG, "c.yaml")
    copy.write_bytes(sound)

    def read_config(content: bytes) -> object:
        config.write_bytes(content)
        return load_config(config)

    def read_tree(tree: Any) -> object:
        return read_config(json.dumps(tree).encode())

    def with_key(pair: tuple[str, Any]) -> object:
        return read_tree({**source.value, pair[0]: pair[1]})

    def override(text: str) -> object:
        return apply_override(source, text)

    def override_number(text: str) -> object:
        file = ConfigFile(apply_override(source, text))
        return [dump_config(file.config.model_dump(mode="json")), load_plugins(file.config.plugins, kind="plugin")]

    def read_checkpoint(content: bytes) -> object:
        other.write_bytes(content)
        return load_checkpoint(other)

    def read_state(state: Any) -> object:
        """A state that carries the right sha256: a stranger can compute it too."""
        changed = {**{key: value for key, value in body.items() if key != "sha256"}, "format": FORMAT, "state": state}
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()
        return read_checkpoint(json.dumps({**changed, "sha256": digest}).encode())

    def read_safetensors(content: bytes) -> object:
        file = work / "fuzzed.safetensors"
        file.write_bytes(content)
        return read_tensors(file)

    def read_by_pieces(content: bytes) -> object:
        file = work / "pieces.safetensors"
        file.write_bytes(content)
        return median_files([tensors, file])

    keys = st.sampled_from([*source.value, "guards", "checkpoint", "evaluation", "schedule", "format", "targets"])
    numbers = st.sampled_from(["threat.eps", "fgsm.step_size", "optimizer.lr", "epochs", "data.batch_size"])
    words = st.sampled_from(
        ["epochs", "plugins", "plugins.fgsm.start", "fgsm.steps", "data.x.y", "model", "threat.eps"]
    )
    return {
        "config: YAML-like text": (YAML_TEXT.map(str.encode), read_config),
        "config: edited bytes": (edited(CONFIG.encode()), read_config),
        "config: any tree": (TREES, read_tree),
        "config: any value under a key": (st.tuples(keys, TREES), with_key),
        "config: overrides": (st.tuples(words | st.text(max_size=9), YAML_TEXT).map("=".join), override),
        "config: numbers as text": (st.tuples(numbers, NUMBERS).map("=".join), override_number),
        "checkpoint: edited JSON": (edited(checkpoint.read_bytes()), read_checkpoint),
        "checkpoint: any state, sealed": (TREES, read_state),
        "weights: edited safetensors": (edited(sound), read_safetensors),
        "ensemble: edited safetensors": (edited(sound), read_by_pieces),
    }


def fuzz(give: st.SearchStrategy[Any], read: Callable[[Any], object], examples: int, number: int) -> tuple[int, str]:
    """How many inputs were refused, and the first, made small, that was answered by another exception."""
    refused = 0

    def attempt(value: Any) -> None:
        nonlocal refused
        try:
            read(value)
        except ButtressError:
            refused += 1

    configured = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    try:
        seed(number)(configured(given(give)(attempt)))()
    except Exception as problem:
        return refused, f"{type(problem).__name__}: {problem} {getattr(problem, '__notes__', '')}"
    return refused, ""


def section(work: Path, rng: random.Random, examples: int = 1000) -> Section:
    rows: list[tuple[str, int | str]] = []
    lost = []
    for name, (give, read) in targets(work).items():
        refused, wrong = fuzz(give, read, examples, rng.getrandbits(32))
        rows.append((f"{name}: inputs, refused", f"{examples:,}, {refused:,}"))
        lost += [f"{name}: {wrong}"] if wrong else []
    return Section(
        "Fuzzed readers",
        "Random input from hypothesis at the readers of configs, overrides, checkpoints and weights: each answers with "
        "an error of buttress or with a value.",
        rows,
        lost,
    )
