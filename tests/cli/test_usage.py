"""How a call is refused that is none: one line that begins with ``error:``, with the nearest word."""

import subprocess
import sys

import pytest

from buttress.cli import main


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a verb; known: analyze, audit, "),
        (["trian"], "no such verb 'trian'; did you mean 'train'?"),
        (["config", "shwo"], "no such verb 'shwo'; did you mean 'show'?"),
        (["train"], "expected CONFIG: YAML file, or "),
        (["export", "run"], "expected --output: folder to make"),
        (["train", "c.yaml", "--rnus", "x"], "no such option --rnus; did you mean --runs?"),
        (
            ["train", "c.yaml", "--epochs", "4"],
            "no such option --epochs; a setting is given without dashes: epochs=",
        ),
        (["resume", "run", "--epochs", "4"], "no such option --epochs"),
        (["resume", "run", "epochs=4"], "got unexpected extra argument (epochs=4)"),
        (["train", "c.yaml", "--run"], "option '--run' requires an argument"),
        (
            ["audit", "run", "--checkpoint", "bset"],
            "--checkpoint: expected best or last, got 'bset'; did you",
        ),
        (["ensemble", "a", "--output", "b", "--trim", "x"], "--trim: 'x' is not a valid float."),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else None,
)
def test_a_call_that_is_none_is_one_error(words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(words) == 2
    *usage, error = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {message}")
    assert all(line.startswith(("usage: buttress", "  ")) for line in usage)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["train", "--help"], ["--version"]], ids=" ".join)
def test_help_is_an_answer(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith(("usage: buttress", "buttress 0."))


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["completion", "zsh"]], ids=" ".join)
def test_help_and_completion_load_no_torch(words: list[str]):
    program = f"import sys; from buttress.cli import main; main({words}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, timeout=60).returncode == 0
