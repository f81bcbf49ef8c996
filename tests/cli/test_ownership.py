"""A run goes on from its own checkpoints alone, and never writes to where a stranger's names lead."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buttress.cli import main
from buttress.config.file import load_config
from buttress.errors import CheckpointError, InputError, RunFolderError
from buttress.storage.names import expect_inside, expect_plain_name, is_plain_name
from buttress.storage.run_folder import RunFolder
from buttress.storage.seals import read_sealed, write_sealed
from buttress.training.assembly import assemble
from buttress.training.checkpoint import list_checkpoints
from buttress.training.dataset import load_data
from buttress.training.existing import existing_folder
from buttress.training.manifest import read_manifest
from buttress.training.named_files import expect_same_files
from buttress.training.ownership import owner_of
from buttress.training.resumable_state import ResumableState
from buttress.training.same_data import expect_same_data
from buttress.training.selection import summarize

from .conftest import Verb, make_workspace, stopped_at

WORDS = ["small.yaml", "plugins=[{pgd: {steps: 1}}, ema]", "model={name: mlp, hidden: [4]}", "epochs=2"]


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the finished runs ``a`` and ``b``, of two configs; not to be written to."""
    folder = tmp_path_factory.mktemp("owned")
    make_workspace(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *WORDS, "--run", "a"]) == 0
        assert main(["train", *WORDS, "threat.eps=1/10", "--run", "b"]) == 0
    return folder / "runs" / "small"


@pytest.fixture
def runs(workspace: Path, trained_once: Path) -> Path:
    """A copy of those runs, in the working folder."""
    return Path(shutil.copytree(trained_once, "runs/small"))


def newest(run: Path) -> Path:
    return list_checkpoints(run / "checkpoints")[0]


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    """Change a sealed file, and seal it again."""
    body = read_sealed(path)
    change(body)
    write_sealed(path, body)


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file but the logs."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "log.txt"}


# Names


@pytest.mark.parametrize("name", ["a", "best-live.safetensors", "0", "console", "a.b"])
def test_a_plain_name_is_taken(name: str):
    assert is_plain_name(name)


@pytest.mark.parametrize(
    "name", ["", "..", "../a", "/a", "a/b", "a\\b", "a.", "nul", "CON.txt", "com1", "a" * 101, "a\n", "\0", 3, None]
)  # fmt: skip
def test_what_may_lead_elsewhere_is_no_plain_name(name: object):
    assert not is_plain_name(name)


def test_a_link_in_between_does_not_lead_outside(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "weights").symlink_to(tmp_path)
    assert expect_inside(tmp_path / "run" / "file", tmp_path / "run")
    with pytest.raises(RunFolderError, match="leads out of"):
        expect_inside(tmp_path / "run" / "weights" / "file", tmp_path / "run")


@pytest.mark.parametrize("name", ["../../notes.safetensors", "/notes.safetensors", "notes.txt"])
def test_weights_of_a_stranger_s_checkpoint_overwrite_no_file_outside_of_the_run(expect: Verb, runs: Path, name: str):
    evil, run = b"echo pwned\n", Path(shutil.copytree(runs / "a", "downloads/run"))
    (run / "notes.safetensors").write_bytes(evil)
    mine = Path("downloads/notes.safetensors")
    mine.write_text("precious\n")
    for path in list_checkpoints(run / "checkpoints"):
        rewrite(path, lambda body: body["state"]["weights"].update({name: hashlib.sha256(evil).hexdigest()}))
    said = expect("resume", str(run), code=2)
    assert f"weights.{name}" in said
    assert "expected letters, digits, . _ - (no path)" in said or "should match pattern" in said
    assert mine.read_text() == "precious\n"


def test_a_stranger_s_name_of_no_plain_kind_is_refused_with_its_file():
    assert expect_plain_name("mine.py", Path("config.yaml")) == "mine.py"
    with pytest.raises(CheckpointError, match=r"config\.yaml names the file '\.\./mine\.py': expected letters, digits"):
        expect_plain_name("../mine.py", Path("config.yaml"))


@pytest.mark.parametrize("name", ["../mine.py", "/mine.py"])
def test_a_stranger_s_file_of_plugins_is_a_plain_name(expect: Verb, runs: Path, name: str):
    rewrite(runs / "a" / "manifest.json", lambda body: body.update(plugins_file={"name": name, "sha256": ""}))
    assert "plugins_file.name is not what buttress writes there: expected letters" in expect(
        "report", str(runs / "a"), code=2
    )


def test_a_track_of_a_stranger_is_a_plain_name(runs: Path):
    with pytest.raises(CheckpointError, match=r"has no track '../x': expected letters"):
        RunFolder(runs / "a").saved_weights("best", "../x")


# Whose


def test_a_checkpoint_of_another_run_is_refused_and_nothing_is_lost(expect: Verb, runs: Path):
    shutil.rmtree(runs / "a" / "checkpoints")
    shutil.copytree(runs / "b" / "checkpoints", runs / "a" / "checkpoints")
    before = contents(runs)
    said = expect("resume", str(runs / "a"), code=2)
    assert f"{newest(runs / 'a')} belongs to another run: expected id " in said
    assert "must hold the checkpoints of its own run alone: move this one to where it came from" in said
    assert before == contents(runs)


def test_a_checkpoint_of_another_run_is_not_passed_over(expect: Verb, runs: Path):
    rewrite(newest(runs / "a"), lambda body: body.update(run="0" * 32))
    assert "belongs to another run" in expect("resume", str(runs / "a"), code=2)


def test_a_checkpoint_of_another_config_is_refused_where_the_manifest_is_damaged(expect: Verb, runs: Path):
    shutil.copy(runs / "b" / "config.yaml", runs / "a" / "config.yaml")
    (runs / "a" / "manifest.json").write_text("{}")
    assert "was written under another config.yaml: expected sha256 " in expect("resume", str(runs / "a"), code=2)


def test_a_run_whose_manifest_is_damaged_keeps_its_id(expect: Verb, runs: Path):
    run = runs / "a"
    body = read_sealed(newest(run))
    (run / "manifest.json").write_text("{}")
    for path in list_checkpoints(run / "checkpoints")[:1]:
        path.unlink()
    expect("resume", str(run))
    assert read_sealed(newest(run))["run"] == body["run"] is not None


def test_a_checkpoint_that_is_called_by_another_step_is_refused(expect: Verb, runs: Path):
    path = newest(runs / "a")
    for part in (path, path.with_suffix(".safetensors")):
        part.rename(part.with_stem("step-00000009"))
    said = expect("resume", str(runs / "a"), code=2)
    assert "step-00000009.json holds step 8, and is called otherwise; give it its own name back" in said


def test_both_copies_of_a_run_can_be_resumed_and_end_alike(expect: Verb):
    with stopped_at(5):
        expect("train", *WORDS, "--run", "a", code=1)
    shutil.copytree("runs/small/a", "runs/small/copy")
    for run in ("a", "copy"):
        expect("resume", f"runs/small/{run}")
    for name in ("metrics.jsonl", "weights/last-live.safetensors", "summary.json"):
        assert Path("runs/small/a", name).read_bytes() == Path("runs/small/copy", name).read_bytes()


def test_two_runs_of_one_config_have_ids_of_their_own(runs: Path):
    ids = {read_manifest(runs / name / "manifest.json").id for name in ("a", "b")}
    assert len(ids) == 2
    assert owner_of(RunFolder(runs / "a")).run in ids


# Whatever stands in them

MUTATIONS: dict[str, Any] = {
    "null": None,
    "text": "text",
    "list": [],
    "number": 10**400,
    "nested": json.loads("[" * 200 + "]" * 200),
}


def mutated(tree: Any, top: bool = True) -> Iterator[tuple[str, Any]]:
    """The tree with each of its parts removed or replaced, one after the other; the place, and the whole tree.

    Parts at the top are replaced by every kind, those below by one kind each, in turn.
    """
    for number, (key, value) in enumerate(list(tree.items() if isinstance(tree, dict) else enumerate(tree))):
        if isinstance(tree, dict) and (top or number % 2):
            yield f"{key} removed", {other: each for other, each in tree.items() if other != key}
        for name in MUTATIONS if top else [list(MUTATIONS)[number % len(MUTATIONS)]]:
            yield f"{key} {name}", _with(tree, key, MUTATIONS[name])
        if isinstance(value, (dict, list)):
            for place, inner in mutated(value, top=False):
                yield f"{key}.{place}", _with(tree, key, inner)


def _with(tree: Any, key: Any, value: Any) -> Any:
    changed = dict(tree) if isinstance(tree, dict) else list(tree)
    changed[key] = value
    return changed


def refusal(action: Callable[[], object]) -> str:
    """What the action says where it refuses its input; any other error is one of the test."""
    try:
        action()
    except InputError as problem:
        return str(problem)
    return ""


def test_whatever_stands_in_a_sealed_manifest_is_one_error_or_harmless(runs: Path):
    folder = RunFolder(runs / "a")
    body, data = read_sealed(folder.manifest), read_manifest(folder.manifest).fingerprint or {}

    def read() -> None:
        existing_folder(folder.path)
        expect_same_data(folder, data, lambda text: None)
        expect_same_files(folder)
        owner_of(folder)

    refused = 0
    for place, changed in mutated(body):
        write_sealed(folder.manifest, changed)
        said = refusal(read)
        assert not said or str(folder.path) in said, place
        refused += bool(said)
    assert refused > 50


def test_whatever_stands_in_a_sealed_checkpoint_is_one_error_or_harmless(runs: Path):
    folder = RunFolder(runs / "a")
    file = load_config(folder.config)
    data, settings = load_data(file)
    assembly = assemble(file, data, settings, folder.history)
    state = ResumableState(assembly.engine, assembly.length, data.fingerprint, folder, 2, lambda text: None)
    path, refused = newest(folder.path), 0
    for older in list_checkpoints(folder.checkpoints)[1:]:
        older.unlink()

    def read() -> None:
        state.restore()
        state.put_back_files(path)
        summarize(state.records, "validation")

    for place, changed in mutated(read_sealed(path)):
        write_sealed(path, changed)
        said = refusal(read)
        assert not said or str(folder.path) in said, place
        refused += bool(said)
    assert refused > 50


SAMPLE = {
    "config removed": lambda body: body.pop("config"),
    "config a list": lambda body: body.update(config=[]),
    "hardware text": lambda body: body.update(hardware="text"),
    "plugins nested": lambda body: body.update(plugins=MUTATIONS["nested"]),
    "data null": lambda body: body.update(data=None),
    "format large": lambda body: body.update(format=10**400),
}


@pytest.mark.parametrize("change", SAMPLE)
@pytest.mark.parametrize("verb", ["resume", "evaluate", "report", "reproduce", "export --output shelf"])
def test_a_manifest_that_is_none_is_one_error_of_every_verb(expect: Verb, runs: Path, verb: str, change: str):
    rewrite(runs / "a" / "manifest.json", SAMPLE[change])
    word, *options = verb.split()
    said = expect(word, str(runs / "a"), *options, code=2)
    assert "manifest.json" in said
    assert "Traceback" not in said


def test_a_checkpoint_that_is_none_is_passed_over(expect: Verb, runs: Path):
    rewrite(newest(runs / "a"), lambda body: body["state"].pop("records"))
    said = expect("resume", str(runs / "a"))
    assert "records is not what buttress writes there: field required; trying the one before it" in said
