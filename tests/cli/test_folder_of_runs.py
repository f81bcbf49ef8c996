"""A folder of runs in the place of a run: the message names the runs in it, whatever the verb."""

from pathlib import Path

import pytest

from buttress.cli import main


@pytest.mark.parametrize("verb", ["report", "evaluate", "audit", "analyze", "export", "resume", "reproduce"])
@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["at/1", "at/2", "awp"], "runs is no run folder: it holds 3 runs: runs/at/1, runs/at/2, runs/awp; name one"),
        (["at"], "runs is no run folder: it holds a run: runs/at; name one"),
        ([f"{n}/a" for n in range(7)], "it holds 7 runs: runs/0/a, runs/1/a, runs/2/a, runs/3/a, runs/4/a, ...; name"),
        ([], "runs is no run folder: it has no config.yaml and manifest.json"),
    ],
)
def test_a_folder_of_runs_names_its_runs(
    verb: str,
    runs: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    for run in runs:
        Path("runs", run).mkdir(parents=True)
        Path("runs", run, "manifest.json").write_text("{}")
    assert main([verb, "runs", *(["--output", "out"] if verb == "export" else [])]) == 2
    assert message in capsys.readouterr().err
