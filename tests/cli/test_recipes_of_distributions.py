"""Recipes that an installed distribution brings along: listed and used by name, without importing its code."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from buttress.cli import main
from buttress.comparing.sweep import plan
from buttress.config.file import load_config
from buttress.config.recipes import recipes, resolve_config_path
from buttress.errors import ConfigError

from .conftest import CONFIG


def install(folder: Path, name: str, entry_points: str, files: dict[str, str]) -> None:
    """A distribution, as pip would leave it in ``folder``."""
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[buttress.recipes]\n{entry_points}\n")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


RECIPE = "# A small run.\n" + yaml.safe_dump(CONFIG, sort_keys=False)


@pytest.fixture
def acme(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of ``Acme-Defense``, whose package must not be imported."""
    site = workspace / "site"
    files = {
        "acme/__init__.py": "raise SystemExit('imported')\n",
        "acme/recipes/small.yaml": RECIPE,
        "acme/recipes/deep/down/other.yaml": RECIPE.replace("name: small", "name: other").partition("\n")[2],
        "acme/recipes/deep/notes.txt": "no recipe",
    }
    install(site, "Acme-Defense", "recipes = acme.recipes", files)
    monkeypatch.syspath_prepend(site)
    return site


def of(distribution: str) -> list[tuple[str, str, str]]:
    return [
        (str(recipe), recipe.version, recipe.summary) for recipe in recipes() if recipe.distribution == distribution
    ]


def test_recipes_are_found_by_metadata_alone(acme: Path):
    assert of("Acme-Defense") == [
        ("Acme-Defense:deep/down/other", "1.2", ""),
        ("Acme-Defense:small", "1.2", "A small run."),
    ]
    assert resolve_config_path(Path("acme-defense:small")) == acme / "acme" / "recipes" / "small.yaml"
    assert not [name for name in sys.modules if name.split(".")[0] == "acme"]


def test_they_are_listed(acme: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["recipes", "list", "acme"]) == 0
    lines = ["Acme-Defense 1.2", "", "Acme-Defense:deep/down/other", "Acme-Defense:small", "    A small run."]
    assert capsys.readouterr().out.splitlines() == lines
    assert main(["recipes", "list", "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["recipe"] == "Acme-Defense:small"]
    assert row == {
        "recipe": "Acme-Defense:small",
        "distribution": "Acme-Defense",
        "version": "1.2",
        "summary": "A small run.",
        "path": str(acme / "acme" / "recipes" / "small.yaml"),
        "name": "small",
        "paper": None,
        "tables": [],
        "row": None,
        "dataset": "npz",
        "norm": "linf",
        "model": "preact_tiny",
        "plugins": ["pgd", "meat", "ema", "swa"],
        "source": None,
        "published": {},
    }


ROW = """
targets:
  source: Doe et al., 2026
  paper: acme24
  tables: [main, ablation]
  row: ACME+
  note: published, not measured here
  values: {clean: 80, pgd-20 best: 50.5, pgd-20 last: 49, odd: .nan}
"""


@pytest.fixture
def row(acme: Path) -> Path:
    """A recipe of ``Acme-Defense`` that is a row of a paper's tables."""
    path = acme / "acme" / "recipes" / "row.yaml"
    path.write_text(RECIPE + ROW)
    return path


def test_rows_of_papers_are_listed_with_what_is_published(row: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["recipes", "list", "--paper", "acme24", "--dataset", "npz", "--model", "preact_tiny", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    facts = {"paper": "acme24", "tables": ["main", "ablation"], "row": "ACME+", "source": "Doe et al., 2026"}
    assert facts.items() <= listed.items()
    assert listed["published"] == {"clean": 80.0, "pgd-20 best": 50.5, "pgd-20 last": 49.0}
    assert main(["recipes", "list", "--paper", "acme24"]) == 0
    table = ["", "recipe            pgd-20", "----------------  -----------", "Acme-Defense:row  50.50/49.00"]
    assert capsys.readouterr().out.splitlines() == [
        "In %, best/last; published by the authors, not measured here.",
        "",
        "main (Doe et al., 2026)",
        *table,
        "",
        "ablation (Doe et al., 2026)",
        *table,
    ]
    assert main(["recipes", "list", "--model", "preact_tiny", "small"]) == 0
    assert "Acme-Defense:small\n" in capsys.readouterr().out
    assert main(["recipes", "list", "small", "--paper", "acme24"]) == 0
    assert capsys.readouterr().out == "no such recipe holds 'small'\n"


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("paper", "acme42", "no recipe has the paper 'acme42'; did you mean 'acme24'?"),
        ("model", "preact_tine", "no recipe has the model 'preact_tine'; did you mean 'preact_tiny'?"),
        ("dataset", "cifar11", "no recipe has the data set 'cifar11'; did you mean 'cifar10'?"),
    ],
)
def test_a_paper_that_no_recipe_has_is_refused(
    option: str, name: str, message: str, row: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["recipes", "list", "row", f"--{option}", name]) == 2
    assert capsys.readouterr().err == f"error: --{option}: {message}\n"


@pytest.mark.parametrize(
    "broken", ["\x00", "- 1", "a: [", "a: !!python/name:os.system x", "a: 1\n" * 40_000, "[" * 2000]
)
def test_a_file_that_is_no_config_is_listed_without_facts(broken: str, row: Path, capsys: pytest.CaptureFixture[str]):
    row.write_text(broken)
    assert main(["recipes", "list", "acme", "--json"]) == 0
    (listed,) = [each for each in json.loads(capsys.readouterr().out) if each["recipe"] == "Acme-Defense:row"]
    assert (listed["name"], listed["plugins"], listed["published"]) == (None, [], {})


def test_they_are_listed_by_a_pattern(acme: Path, capsys: pytest.CaptureFixture[str]):
    for pattern, names in (
        ("DOWN", ["deep/down/other"]),
        ("acme*:*a*l", ["small"]),
        ("acme", ["deep/down/other", "small"]),
    ):
        assert main(["recipes", "list", pattern, "--json"]) == 0
        names_shown = [row["recipe"] for row in json.loads(capsys.readouterr().out)]
        assert names_shown == [f"Acme-Defense:{name}" for name in names]
    assert main(["recipes", "list", "nothing-has-this"]) == 0
    assert capsys.readouterr().out == "no recipe holds 'nothing-has-this'\n"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("smal.yaml", r"; did you mean small\.yaml\?"),
        ("configs/deep/down/other.yaml", "; it comes with Acme-Defense as a recipe: Acme-Defense:deep/down/other"),
        ("nowhere/like/this.yaml", "; see for those that come along: buttress recipes list"),
    ],
)
def test_a_path_that_is_not_there_is_answered_with_what_may_be_meant(acme: Path, path: str, hint: str):
    with pytest.raises(ConfigError, match=rf"^{path}: cannot be read: no such file{hint}$"):
        resolve_config_path(Path(path))


def test_a_recipe_stands_wherever_a_config_does(acme: Path, capsys: pytest.CaptureFixture[str]):
    for words in (("train", "--dry-run"), ("config", "show"), ("config", "validate")):
        verb, rest = (words[:1], words[1:]) if words[0] == "train" else (words, ())
        assert main([*verb, "acme-defense:small", "epochs=1", *rest]) == 0
    assert "epochs: 1\n" in capsys.readouterr().out
    variants = plan([Path("acme-defense:small"), Path("Acme_Defense:deep/down/other")], ["epochs=1"])
    assert [variant.label for variant in variants] == ["small", "other"]
    assert variants[0].file("c", 0).config.epochs == 1


def test_a_mistake_in_a_recipe_has_the_line_of_its_file(acme: Path):
    path = acme / "acme" / "recipes" / "small.yaml"
    path.write_text(RECIPE.replace("epochs: 4", "epochs: none"))
    line = path.read_text().splitlines().index("epochs: none") + 1
    with pytest.raises(ConfigError, match=rf"acme/recipes/small\.yaml:{line}: epochs: expected a valid integer"):
        load_config(Path("acme-defense:small"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "acme-defense:smal",
            r"acme-defense has no recipe 'smal'; did you mean 'small'\? \(see: buttress recipes list",
        ),
        ("acme-defense:", "acme-defense has no recipe ''; known: deep/down/other, small"),
        ("acme-defence:small", "no such file, and no distribution 'acme-defence' with recipes; did you mean 'Acme-Def"),
        ("acme-defense:../../../small", "acme-defense has no recipe '../../../small'"),
        (
            "acme-empty:small",
            "entry point here = nowhere_at_all.recipes of acme-empty 1.2 names no folder; repair or un",
        ),
        (
            "acme-twice:small",
            "acme-twice has two recipes 'small': give one of the files, .*one/small.yaml and .*two/smal",
        ),
    ],
)
def test_a_wrong_recipe_is_refused(word: str, message: str, acme: Path, capsys: pytest.CaptureFixture[str]):
    install(acme, "acme-empty", "here = nowhere_at_all.recipes", {})
    install(acme, "acme-twice", "a = one\nb = two", {"one/small.yaml": RECIPE, "two/small.yaml": RECIPE})
    assert of("acme-empty") == []
    with pytest.raises(ConfigError, match=message):
        resolve_config_path(Path(word))
    assert main(["train", word]) == 2
    assert capsys.readouterr().err.startswith(f"error: {word}: ")


def test_a_file_comes_before_a_recipe_of_its_name(acme: Path, workspace: Path):
    (workspace / "acme-defense:small").write_text(RECIPE.replace("epochs: 4", "epochs: 7"))
    assert load_config(Path("acme-defense:small")).config.epochs == 7
