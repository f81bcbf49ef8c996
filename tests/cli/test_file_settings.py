"""Settings of type ``File``: found beside the config, recorded with their SHA-256, and the same at a resume."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from buttress.components.loaded import load_plugins
from buttress.config.file import load_config
from buttress.errors import ConfigError, RunFolderError
from buttress.training.assembly import check_config
from buttress.training.launch import continue_run, launch

from .conftest import CONFIG, make_workspace

DISTILL = '''
from buttress import hookimpl
from buttress.settings import File


class Distill:
    """Reads teachers.

    Args:
        teacher: a file.
        others: further ones.
    """

    def __init__(self, *, teacher: File | None = None, others: list[File] = []) -> None:
        self.texts = [path.read_text() for path in [*([teacher] if teacher else []), *others]]

    @hookimpl
    def end_epoch(self): ...
'''


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``project/own.yaml`` with teachers beside it, one without a dot in its name; the working folder is elsewhere."""
    for name in ("project", "elsewhere"):
        (tmp_path / name).mkdir()
    project = tmp_path / "project"
    make_workspace(project)
    (project / "teachers").mkdir()
    for name in ("one", "two.pt"):
        (project / "teachers" / name).write_text(name)
    (project / "mine.py").write_text(DISTILL)
    settings = {"teacher": "teachers/one", "others": ["teachers/two.pt"]}
    plugins = [{"pgd": {"steps": 1}}, {"distill": settings}]
    text = {**CONFIG, "epochs": 2, "plugins_file": "mine.py", "plugins": plugins}
    (project / "own.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return project / "own.yaml"


def texts(config: Path, *overrides: str) -> Any:
    return check_config(load_config(config, overrides)).engine.plugins[1].plugin.texts


def test_a_file_is_found_beside_the_config_and_then_in_the_working_folder(config: Path):
    assert texts(config) == ["one", "two.pt"]
    Path("teachers").mkdir()
    Path("teachers/one").write_text("mine")
    assert texts(config) == ["one", "two.pt"]
    assert texts(config, "distill.teacher=teachers/one") == ["mine", "two.pt"]  # as every path of a command line
    (config.parent / "teachers" / "one").unlink()
    assert texts(config) == ["mine", "two.pt"]


def test_a_missing_file_is_refused_at_its_line_with_the_folders(config: Path):
    (config.parent / "teachers" / "two.pt").unlink()
    with pytest.raises(ConfigError) as refused:
        texts(config)
    project, said = config.parent, str(refused.value)
    where = f"teachers/two.pt was looked up in {project} and in {Path.cwd()}"
    assert said.startswith(f"{config}:")
    assert said.endswith(f"plugins.distill.others: expected a file, got nothing: {where}")
    with pytest.raises(ConfigError, match=r"teacher: expected a file, got a folder: .*/teachers$"):
        texts(config, "distill.others=[]", f"distill.teacher={project / 'teachers'}")
    with pytest.raises(ConfigError, match=r"teacher: expected a file, got nothing: /no/where does not exist$"):
        texts(config, "distill.others=[]", "distill.teacher=/no/where")
    with pytest.raises(ConfigError, match=r"teacher: expected .*, got 3$"):
        texts(config, "distill.others=[]", "distill.teacher=3")


@pytest.mark.parametrize("name", ["one", "two.pt"])
def test_a_teacher_that_is_swapped_between_a_stop_and_the_resume_is_refused(config: Path, name: str):
    launch(load_config(config), Path("runs"), "a")
    run = Path("runs/small/a").resolve()
    recorded = json.loads((run / "manifest.json").read_text())["files"]
    teacher = config.parent / "teachers" / name
    assert str(teacher) in {each["file"] for each in recorded.values()}
    assert len(recorded) == 2
    max((run / "checkpoints").glob("*.json")).unlink()  # as after Ctrl-C in the second epoch
    kept = teacher.read_bytes()
    teacher.write_bytes(b"another")
    with pytest.raises(RunFolderError, match=rf"plugins\.distill\.\S+ is {teacher}, .* has been changed since"):
        continue_run(run)
    teacher.unlink()
    with pytest.raises(RunFolderError, match=rf"is {teacher}, and there is no such file"):
        continue_run(run)
    teacher.write_bytes(kept)
    continue_run(run)
    again = check_config(load_config(run / "config.yaml")).resolved
    assert again == yaml.safe_load((run / "config.yaml").read_text())


def test_a_file_given_in_code_is_looked_up_in_the_working_folder(config: Path):
    from buttress.components.plugins_file import read_plugins_file

    local = read_plugins_file(config.parent / "mine.py").components
    Path("here.txt").write_text("here")
    (plugin,) = load_plugins([{"distill": {"teacher": "here.txt"}}], local=local)
    assert plugin.plugin.texts == ["here"]
    assert plugin.settings == {"teacher": str(Path("here.txt").absolute()), "others": []}
