"""``scripts/gpu_check`` without a GPU: every part's stand-in, faults of parts, machines that lack something."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from gpu.parts import PARTS, PREPARATION, SECONDS, Part
from gpu.running import Outcome

from gpu import __main__ as check
from gpu import packages

ROOT = Path(__file__).parents[2]


def started(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [ROOT / "scripts" / "gpu_check", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )


def test_every_part_runs_in_small_without_a_gpu_and_writes_its_results(tmp_path: Path):
    done = started(tmp_path / "results", "--dry", "--commit", "abc123")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "results" / "summary.md").read_text(encoding="utf-8")
    for part in PARTS:
        content = json.loads((tmp_path / "results" / f"{part.name}.json").read_text(encoding="utf-8"))
        assert content["state"] == ("left out" if part.name == "build" else "passed")
        assert (content["result"] is None) == (part.name == "build")
        assert content["machine"]["commit"] == "abc123"
        assert f"| {part.name} | {part.title} | {content['state']} |" in page
    tests = json.loads((tmp_path / "results" / "tests.json").read_text(encoding="utf-8"))
    assert tests["result"]["collected"] > 100


def test_without_a_gpu_nothing_but_the_dry_form_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr(check.place, "enter", lambda site: None)
    assert check.main([str(tmp_path / "results")]) == 2
    assert "sees no CUDA device; --dry tries every part on the CPU" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected FOLDER, for the results"),
        (["."], ".: expected a new or empty folder"),
        (["results", "--parts", "speed"], "invalid choice: 'speed'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        check.main(arguments)
    assert message in capsys.readouterr().err


# Parts that fail


def scripts(tmp_path: Path, **texts: str) -> list[Part]:
    """Parts that run these texts, in order; each has a second."""
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    return [Part(name, name.title(), 1, str(tmp_path / f"{name}.py"), "", "--dry") for name in texts]


def test_a_part_that_fails_stops_no_other_and_is_recorded(tmp_path: Path):
    parts = scripts(
        tmp_path,
        raises="print('half')\nraise ValueError('too many')",
        exits="import sys\nsys.exit(3)",
        writes="import pathlib, sys\npathlib.Path(sys.argv[-1]).write_text('[1, 2]')",
        breaks="import pathlib, sys\npathlib.Path(sys.argv[-1]).write_text('[1, ')",
    )
    options = check.parsed([str(tmp_path / "results"), "--dry"])
    outcomes = check.run(parts, options, began=0)
    assert [outcomes[part][:2] for part in parts] == [
        ("failed", "exit code 1: ValueError: too many"),
        ("failed", "exit code 3"),
        ("passed", ""),
        ("passed", ""),
    ]
    contents = [json.loads((tmp_path / "results" / f"{part.name}.json").read_text("utf-8")) for part in parts]
    assert [content["result"] for content in contents] == [None, None, [1, 2], None]
    assert contents[0]["output"] == "half\n"
    page = (tmp_path / "results" / "summary.md").read_text(encoding="utf-8")
    assert "| raises | Raises | failed | 0 | exit code 1: ValueError: too many |" in page
    assert "## raises: Raises\n\n```text\nhalf\n```" in page


@pytest.mark.parametrize(("state", "code"), [("passed", 0), ("left out", 0), ("failed", 1), ("timed out", 1)])
def test_the_exit_code_says_whether_every_part_passed(
    state: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(check, "prepare", lambda options, site: None)
    monkeypatch.setattr(check, "run", lambda *_: {1: Outcome("passed"), 2: Outcome(state)})
    assert check.main([str(tmp_path / "results")]) == code


def test_a_part_has_its_time_and_what_those_before_it_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    limits = []
    monkeypatch.setattr(check, "monotonic", lambda: 10.0)
    monkeypatch.setattr(check, "apart", lambda command, limit, folder: limits.append(limit) or Outcome("passed"))
    parts = scripts(tmp_path, one="", two="")
    options = check.parsed([str(tmp_path / "results")])
    check.run(parts, options, began=4)
    assert limits == [PREPARATION + 1 - 6, PREPARATION + 2 - 6]
    late = check.run(parts, options, began=10 - PREPARATION - 1)
    assert [each.reason for each in late.values()] == ["no time was left", ""]


def test_all_parts_fit_into_nine_minutes():
    assert PREPARATION + sum(part.seconds for part in PARTS) <= SECONDS <= 9 * 60


# Packages


def test_a_machine_that_lacks_packages_is_told_at_once_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    real = packages.version

    def version(name: str) -> str:
        if name == "pluggy":
            raise packages.PackageNotFoundError(name)
        return {"click": "8.1.0", "torch": "2.11.0+cu130"}.get(name) or real(name)

    monkeypatch.setattr(packages, "version", version)
    assert check.main(["--missing"]) == 0
    pinned = capsys.readouterr().out.split()
    assert [each.partition("==")[0] for each in pinned] == ["click", "pluggy"]
    assert set(pinned) <= set(packages.PINS.read_text(encoding="utf-8").split())
    assert check.main([str(tmp_path / "results")]) == 2
    error = capsys.readouterr().err
    assert f"2 packages are missing or too old: {', '.join(pinned)}" in error
    assert "--wheels FOLDER" in error


def test_torch_has_to_be_the_machines_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packages, "version", lambda name: "2.6.0" if name == "torch" else "99")
    with pytest.raises(packages.NotReadyError, match=r"needs its own torch>=2\.7"):
        packages.expect_all()


def test_wheels_are_installed_and_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commands = []
    monkeypatch.setattr(packages.sys, "path", ["old"])
    monkeypatch.setattr(
        packages.subprocess, "run", lambda command, **_: commands.append(command) or subprocess.CompletedProcess([], 0)
    )
    with pytest.raises(packages.NotReadyError, match="expected a folder of wheels, found none"):
        packages.install(tmp_path, tmp_path / "site")
    (tmp_path / "click-8.5.1-py3-none-any.whl").touch()
    packages.install(tmp_path, tmp_path / "site")
    assert commands[0][-1].endswith("click-8.5.1-py3-none-any.whl")
    assert {"--no-index", "--no-deps", "--target"} <= set(commands[0])
    assert packages.sys.path == [str(tmp_path / "site"), "old"]


def test_the_packages_that_may_be_carried_are_all_that_is_needed():
    names, waiting = set[str](), list(packages.needed())
    while waiting:
        name = waiting.pop()
        if name not in names and name not in packages.OWN:
            names.add(name)
            waiting += requirements(name)
    assert packages.NAMES.read_text(encoding="utf-8").split() == sorted(names)


def requirements(name: str) -> list[str]:
    """Names of the packages that an installed one needs here."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    each = map(Requirement, requires(name) or [])
    return [packages.normal(one.name) for one in each if one.marker is None or one.marker.evaluate({"extra": ""})]
