"""Completion in a shell: what click's protocol answers, and that the script of bash passes it on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from buttress.cli import main

from .conftest import make_workspace

TORCH = "import sys; from buttress.cli import main; code = main(); assert 'torch' not in sys.modules; sys.exit(code)"


@pytest.fixture
def complete(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Words that the last word of a call may become, as bash asks for them."""
    make_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)

    def answers(*words: str) -> list[str]:
        monkeypatch.setenv("_BUTTRESS_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", "\n".join(["buttress", *(word or "''" for word in words)]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        assert main([]) == 0
        return [line.partition(",")[2] for line in capfd.readouterr().out.splitlines() if line]

    return answers


@pytest.mark.parametrize(
    ("words", "some"),
    [
        (["tr"], {"train"}),
        (["plugins", ""], {"list", "show", "check", "new"}),
        (["train", "c.yaml", "--r"], {"--run", "--runs"}),
        (["audit", "--checkpoint", ""], {"best", "last"}),
        (["train", "sm"], {"small.yaml"}),
        (["compare", "small.yaml", "./s"], {"./small.yaml"}),
        (["train", "buttress:digits/tr"], {"digits/trades"}),
        (["train", "buttress", ":", "digits/tr"], {"digits/trades"}),  # bash ends a word at a colon
        (["plugins", "show", "pre"], {"preact_resnet18", "preact_tiny"}),
        (["plugins", "show", "--kind", "attack", "p"], {"pgd"}),
        (["plugins", "new", "a", "--hook", "perturb"], {"perturb_weights"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_words_are_completed(complete, words: list[str], some: set[str]):
    found = complete(*words)
    assert some <= set(found)
    begin = words[-1].rpartition(":")[2].strip("'")
    assert all(word.startswith(begin) for word in found)


def test_another_word_than_a_config_is_left_to_the_shell(complete):
    assert complete("train", "data/") == ["data/"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_the_command(shell: str, capsys: pytest.CaptureFixture[str]):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_BUTTRESS_COMPLETE={shell}_complete" in script
    assert " buttress" in script


def test_bash_runs_the_script_and_no_torch_is_imported(tmp_path: Path):
    command = tmp_path / "buttress"
    command.write_text(f"#!{sys.executable}\n{TORCH}\n")
    command.chmod(0o755)
    line = (
        "source <(buttress completion bash); COMP_WORDS=(buttress plugins show meat); COMP_CWORD=3; "
        '_buttress_completion buttress; echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout, done.stderr) == ("meat\n", "")


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["completion", "bsh"]) == 2
    assert "expected bash, zsh or fish, got 'bsh'; did you mean 'bash'?" in capsys.readouterr().err
