"""Two versions: older run folders go on, newer ones are refused with the cure."""

import json
import shutil
from pathlib import Path

import pytest

from buttress.cli import main
from buttress.config.file import load_config
from buttress.errors import ConfigError, RunFolderError
from buttress.storage.run_folder import RunFolder
from buttress.storage.seals import read_sealed, write_sealed
from buttress.training.checkpoint import list_checkpoints
from buttress.training.checkpoint_file import load_checkpoint
from buttress.training.existing import existing_folder
from buttress.training.launch import continue_run
from buttress.training.records import read_metrics

# Written by the version before checkpoints had format 2 (and configs and manifests any), stopped after 2 of 4 epochs;
# its metrics are those of the whole run.
OLDER = Path(__file__).parent.parent / "golden" / "format1"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLDER, tmp_path / "run"))


def test_a_run_of_the_version_before_goes_on_to_the_results_that_it_had_there(older: Path):
    expected = read_metrics(RunFolder(older)).records
    assert json.loads((older / "checkpoints" / "step-00000008.json").read_text())["format"] == 1
    assert "format" not in json.loads((older / "manifest.json").read_text())
    continue_run(older)
    found = read_metrics(RunFolder(older)).records
    assert len(found) == len(expected)
    for now, then in zip(found, expected, strict=True):
        assert now.keys() == then.keys()
        for key, value in then.items():  # other processors round differently
            assert now[key] == (pytest.approx(value, rel=1e-3, abs=0.03) if isinstance(value, float) else value), key
    numbers = [json.loads(line)["epoch"] for line in (older / "metrics.jsonl").read_text().splitlines()]
    assert (min(numbers), max(numbers)) == (0, 3)  # it goes on counting from 0, as it began, and is read from 1
    assert (min(record["epoch"] for record in found), max(record["epoch"] for record in found)) == (1, 4)
    assert json.loads((older / "summary.json").read_text())["tracks"][0]["best_epoch"] == 4
    assert json.loads(list_checkpoints(older / "checkpoints")[0].read_text())["format"] == 4


def test_an_older_checkpoint_is_read_as_the_newer_format(older: Path):
    assert load_checkpoint(older / "checkpoints" / "step-00000008.json")["rollbacks"] == 0


def test_the_records_of_an_older_checkpoint_count_epochs_from_1_once_they_are_read(older: Path):
    checkpoint = older / "checkpoints" / "step-00000008.json"
    assert {record["epoch"] for record in json.loads(checkpoint.read_text())["state"]["records"]} == {1}
    assert {record["epoch"] for record in load_checkpoint(checkpoint)["records"]} == {2}


def test_a_newer_run_folder_is_refused_with_the_cure(older: Path):
    manifest = older / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 4}))
    with pytest.raises(RunFolderError, match=r"has format 4, this version of buttress reads 1 to 3; use the"):
        existing_folder(older)


@pytest.mark.parametrize("written", ["2", "0", "one", "true", "[1]"])
def test_a_config_of_another_format_is_refused_before_its_keys_are(tmp_path: Path, written: str):
    path = tmp_path / "c.yaml"
    path.write_text(f"name: a\nformat: {written}\nsomething_new: 3\n")
    with pytest.raises(
        ConfigError, match=r"c\.yaml:2: format: this version of buttress reads configs of format 1, got"
    ):
        load_config(path)


@pytest.mark.parametrize("written", [1, 2])
def test_a_manifest_of_every_older_format_is_read(tmp_path: Path, written: int):
    folder = RunFolder(tmp_path / "run")
    folder.create("name: x\n", {"drops": []})
    manifest = {key: value for key, value in read_sealed(folder.manifest).items() if key != "id"}
    write_sealed(folder.manifest, {**manifest, "format": written})
    said: list[str] = []
    existing_folder(folder.path, said.append)
    assert said == []


@pytest.mark.parametrize("written", [0, 99, 2.5, True, "2", [], None])
def test_a_manifest_of_no_known_format_is_refused(tmp_path: Path, written: object):
    folder = RunFolder(tmp_path / "run")
    folder.create("name: x\n", {})
    write_sealed(folder.manifest, {**read_sealed(folder.manifest), "format": written})
    with pytest.raises(RunFolderError, match="reads 1 to"):
        existing_folder(folder.path)


# Written by the version before the rooms of the package were moved, stopped after 2 of 4 epochs: RWP, MEAT and EMA on
# digits, with mean and std as settings of the model. The metrics are those of the whole run.
BEFORE_THE_MOVE = OLDER.parent / "format3"


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BEFORE_THE_MOVE, tmp_path / "run"))


def test_a_run_from_before_the_move_goes_on_to_the_results_that_it_had_there(moved: Path, tmp_path: Path):
    assert main(["resume", str(moved), "--accept-changes"]) == 0
    expected = [json.loads(line) for line in Path(f"{BEFORE_THE_MOVE}-metrics.jsonl").read_text().splitlines()]
    metrics = [json.loads(line) for line in (moved / "metrics.jsonl").read_text().splitlines()]
    times = {"seconds", "time"}
    for now, then in zip(metrics, expected, strict=True):
        assert now.keys() == then.keys()
        for key in then.keys() - times:
            assert now[key] == _near(then[key]), key


def _near(value: object) -> object:
    """The value for a comparison; other processors round differently."""
    return pytest.approx(value, rel=1e-3, abs=0.03) if isinstance(value, float) else value


@pytest.mark.parametrize("track", ["live", "meat", "ema"])
def test_a_run_from_before_the_move_is_evaluated(moved: Path, track: str):
    assert main(["evaluate", str(moved), "--track", track, "--attack", "pgd-2", "--examples", "50"]) == 0
