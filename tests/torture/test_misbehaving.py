"""A few plugins that misbehave, by the command: each is named or harmless, and its run resumes to the same end."""

import re
from pathlib import Path

import pytest

from .misbehaving import EVALUATION, NAMED, TRAINING, Bench, Tally


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("misbehaving"))


@pytest.mark.parametrize(
    ("misdeed", "named"),
    [
        ("writes inputs@generate_adv", 1),
        ("bfloat16, then raises@adjust_grads", 1),
        ("exits with 0@ensemble_weights", 1),
        ("forks and goes on@generate_adv", 0),
    ],
)
def test_a_training_names_who_misbehaves_and_resumes(bench: Bench, misdeed: str, named: int):
    assert misdeed in TRAINING
    tally = Tally()
    bench.train(misdeed, tally)
    assert tally == Tally(named=named, harmless=1 - named, resumed=named)


@pytest.mark.parametrize(
    "misdeed", ["writes inputs by NumPy@generate_adv", "removes a module, then raises@generate_adv"]
)
def test_an_evaluation_names_who_misbehaves(bench: Bench, misdeed: str):
    assert misdeed in EVALUATION
    tally = Tally()
    bench.evaluate(misdeed, tally)
    assert tally == Tally(named=1)


def test_the_author_s_own_error_is_what_is_shown(bench: Bench, tmp_path: Path):
    code, said = bench.command("bfloat16, then raises@generate_adv", "evaluate", str(bench.run), "--attack", "meddler")
    assert code == 1
    assert NAMED in said
    assert re.search(r"\n  MemoryError: the real reason \(meddler\.py:\d+\)\n  The traceback is in \S+\s*$", said)
