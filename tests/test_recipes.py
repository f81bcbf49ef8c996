"""Every recipe under configs/: written by its generator, loads, has its lineage's learning rates, and takes steps."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from recipes import all_recipes, measured

from buttress.cli import main
from buttress.config.file import load_config
from buttress.training.assembly import assemble
from buttress.training.dataset import load_data

from .paper_rows import ODD, PUBLISHED, ROWS, TABLES
from .recipe_files import DataFiles, cut_down, data_files, files_for

ROOT = Path(__file__).parent.parent
RECIPES = all_recipes()
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's takes a tenth of the time, where it is there
PAPERS = [path for path in RECIPES if path.parts[0] == "papers"]
TRANSFORMERS = [path.stem for path in RECIPES if path.stem.startswith(("deit_", "vit_"))]
PRETRAINING, KD = ["pretraining", "pretraining_amp"], ["kd_swa", "kd_standard", "kd_robust"]
RO = {0: 0.1, 99.999: 0.1, 100: 0.01, 149.999: 0.01, 150: 0.001, 200: 0.001}
MEAT = {0: 0.1, 40: 0.1, 60: 0.055, 80: 0.01, 100: 0.0055, 119: 0.001225}
PIAT = {0: 0.01, 60: 0.01, 75: 0.0055, 90: 0.001, 105: 0.00055, 119: 0.00013}
BY_INSTANCE = {0: 0.1, 58: 0.1, 59: 0.01, 88: 0.01, 89: 0.001, 108: 0.001, 109: 0.0005, 119: 0.0005}
COSINE = {0: 0.1, 50: 0.0853553390593, 100: 0.05, 150: 0.0146446609407}
FROM_IMAGENET = {0: 1e-3, 25: 5.005e-4, 50: 1e-6}
OF_TRANSFORMERS = {0: 0.1, 34.99: 0.1, 35: 0.01, 37.99: 0.01, 38: 0.001, 40: 0.001}
OF_KD = {0: 0.1, 49.9: 0.1, 50: 0.01, 149.9: 0.01, 150: 0.001, 199: 0.001}
# Learning rates by hand, at times in epochs.
RATES = {
    "trades": {0: 0.1, 73: 0.1, 74: 0.01, 75: 0.01},
    "mart": {0: 0.01, 73: 0.01, 74: 0.001, 88: 0.001, 89: 0.0001, 98: 0.0001, 99: 0.00001, 119: 0.00001},
    "piat_nmse": PIAT,
    "alp": PIAT,
    "fat": BY_INSTANCE,
    "meat_fat": BY_INSTANCE,
    "gairat": BY_INSTANCE,
    "mail": {0: 0.01, 74: 0.01, 75: 0.001, 89: 0.001, 90: 0.0001, 99: 0.0001, 100: 0.00001, 119: 0.00001},
    "piat_mail": {0: 0.1, 90: 0.1, 135: 0.01, 157.5: 0.0055, 179: 0.0012},
    "randomized_at": {0: 0.1, 98: 0.1, 99: 0.01, 148: 0.01, 149: 0.001, 199: 0.001},
    "fast": {0: 0.0, 7.5: 0.2, 15: 0.0},
    "n_fgsm": {0: 0.0, 15: 0.2, 30: 0.0},
    "grad_align": {0: 0.0, 12: 0.3, 30: 0.0},
    "free_at": {0: 0.1, 12: 0.1, 13: 0.01, 18: 0.01, 19: 0.001, 25: 0.001},
    "meat": MEAT,
    "meat_idbh": MEAT,
    **dict.fromkeys(["rst", "rst_rwp", "rst_amp"], COSINE),
    **dict.fromkeys(PRETRAINING, FROM_IMAGENET),
    **dict.fromkeys(KD, OF_KD),
    **dict.fromkeys(TRANSFORMERS, OF_TRANSFORMERS),
}
EPOCHS = {
    **{"trades": 76, "mart": 120, "piat_nmse": 120, "alp": 120, "meat": 120, "meat_idbh": 120},
    **{"fat": 120, "meat_fat": 120, "gairat": 120, "mail": 120, "piat_mail": 180},
    **{"fast": 15, "n_fgsm": 30, "grad_align": 30, "free_at": 26},
    **dict.fromkeys(PRETRAINING, 50),
    **dict.fromkeys(TRANSFORMERS, 40),
}
CYCLIC = {0: 0.0, 12: 0.15, 24: 0.3, 36: 0.15, 48: 0.0}
FREE = {0: 0.3, 3: 0.3, 4: 0.03, 8: 0.03, 9: 0.003, 11: 0.003}
VIT = {0: 0.003, 18: 0.003, 19: 0.0003, 37: 0.0003, 38: 0.00003, 47: 0.00003}
FINE_TUNING = {0: 0.03, 24: 0.015, 48: 0.0}
ON_DIGITS = {
    **dict.fromkeys(["vit_at", "ard_prm", "trades_ard_prm", "piat_ard_prm"], VIT),
    **dict.fromkeys(["fast", "n_fgsm", "grad_align"], CYCLIC),
    **dict.fromkeys(PRETRAINING, FINE_TUNING),
    "free_at": FREE,
    "pretraining_rotation": {0: 0.1, 6: 0.01, 12: 0.001, 15: 0.001},
}
PIAT_WIDE = {0: 0.1, 90: 0.1, 112.5: 0.055, 135: 0.01, 157.5: 0.0055, 179: 0.0012}
PIAT_TRANSFORMERS = {0: 0.1, 35: 0.1, 36: 0.01, 37: 0.01, 38: 0.001, 39: 0.001}
# Rates and epochs of the rows of papers' tables: by network, or else by method, or else by paper.
Course = tuple[dict[float, float], int]
OF_NETWORK: dict[str, Course] = {
    "wrn_32_10": (PIAT_WIDE, 180),
    **dict.fromkeys(["convit_b", "vit_b", "deit_s"], (PIAT_TRANSFORMERS, 40)),
}
OF_METHOD: dict[str, Course] = {
    **dict.fromkeys(PRETRAINING, (FROM_IMAGENET, 50)),
    **dict.fromkeys(["rst", "rst_awp", "rst_rwp", "rst_amp"], (COSINE, 200)),
}
OF_PAPER: dict[str, Course] = {
    "meat": (MEAT, 120),
    "piat": (PIAT, 120),
    **dict.fromkeys(["amp", "rwp", "rat"], (RO, 200)),
}
DIGITS = {0: 0.3, 18: 0.3, 19: 0.03, 37: 0.03, 38: 0.003, 47: 0.003}
EPOCHS_ON_DIGITS = {"free_at": 12, "pretraining_rotation": 16}
MNIST5K = {0: 0.1, 11: 0.1, 12: 0.01, 24: 0.01, 25: 0.001, 31: 0.001}
PHOTOS = {0: 0.1, 4: 0.1, 5: 0.01, 7: 0.01, 8: 0.001, 9: 0.001}
OF_PACKAGES = {"mnist5k": (MNIST5K, 32), "photos": (PHOTOS, 10)}
MEASURE = re.compile(r"(clean|fgsm|pgd-20|pgd-50|pgd-100|cw|spsa|aa)( best| last)?")


CONFIGS: dict[Path, dict[str, Any]] = {path: yaml.load(text, LOADER) for path, text in RECIPES.items()}
"""Every recipe as plain values, for tests that only read them."""


def body(config: dict[str, Any]) -> str:
    """A recipe without its name, its comment and the published numbers."""
    return json.dumps({key: value for key, value in config.items() if key not in ("name", "targets")}, sort_keys=True)


BODIES = {body(config): path for path, config in CONFIGS.items()}
"""Distinct trainings, each with one of the recipes that have it."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        yield data_files(tmp_path_factory.mktemp("data"), patch)


def test_the_files_are_those_that_the_generator_writes():
    on_disk = {
        path.relative_to(ROOT / "configs"): path.read_text(encoding="utf-8")
        for path in (ROOT / "configs").rglob("*.yaml")
        if path.parent != ROOT / "configs"
    }
    assert on_disk == RECIPES


def test_make_compare_needs_no_file_of_another_run():
    configs = [load_config(ROOT / "configs" / path).config for path in measured()]
    assert len(configs) > 40
    assert all(config.model.weights is None for config in configs)
    assert all("kd" not in plugin for config in configs for plugin in config.plugins)


def test_every_row_of_every_table_is_a_recipe():
    assert {path.as_posix() for path in PAPERS} == ROWS
    targets = [CONFIGS[path]["targets"] for path in PAPERS]
    assert Counter((each["paper"], table) for each in targets for table in each["tables"]) == TABLES


@pytest.mark.parametrize("row", PUBLISHED)
def test_the_published_numbers_are_those_of_the_paper(row: str):
    values = CONFIGS[Path(f"papers/{row}.yaml")]["targets"]["values"]
    assert {measure: values[measure] for measure in PUBLISHED[row]} == PUBLISHED[row]


def test_the_numbers_of_a_method_s_own_recipe_are_those_of_a_row():
    """Both name the same tables; the recipes of fast methods name a benchmark's."""
    rows = [CONFIGS[path] for path in PAPERS]
    for path in sorted(set(CONFIGS) - set(PAPERS)):
        published = CONFIGS[path].get("targets", {"source": "FastAT benchmark"})
        if not published["source"].startswith("FastAT benchmark"):
            data, norm = CONFIGS[path]["data"]["name"], CONFIGS[path]["threat"]["norm"]
            alike = [row for row in rows if (row["data"]["name"], row["threat"]["norm"]) == (data, norm)]
            assert any(published["values"].items() <= row["targets"]["values"].items() for row in alike), path


def test_a_row_with_more_accuracy_under_the_stronger_attack_says_so():
    odd = set()
    for path in PAPERS:
        values = CONFIGS[path]["targets"]["values"]
        for measure, value in values.items():
            attack, time = measure.partition(" ")[::2]
            if value < values.get(f"aa {time}".strip(), 0):
                assert attack != "clean"
                assert f"{attack} " in re.search("# Oddity: (.*below AutoAttack)", RECIPES[path])[1]
                odd.add(path.with_suffix("").as_posix().removeprefix("papers/"))
    assert odd == ODD


def test_a_comment_says_what_its_paper_does_not():
    for path in PAPERS:
        comment, config = RECIPES[path].partition("name: ")[0], CONFIGS[path]
        plugins = {name for each in config["plugins"] for name in ([each] if isinstance(each, str) else each)}
        augment = next((each["augment"] for each in config["plugins"] if "augment" in each), {})
        of_code = config["data"]["name"] == "svhn" and config["optimizer"]["lr"] == 0.1
        assert ("by up to 15 degrees" in comment) == ("rotation" in augment), path
        assert ("public code of its lineage has 0.01" in comment) == of_code, path
        assert ("PIAT on top of ARD and PRM" in comment) == ({"piat", "ard_prm"} <= plugins), path
        assert max(len(line) for line in comment.splitlines() if "import timm" not in line) <= 120, path


def test_the_lists_of_the_rows_fit_a_terminal(capsys: pytest.CaptureFixture[str]):
    for paper in {paper for paper, _ in TABLES}:
        assert main(["recipes", "list", "--paper", paper]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) > 20
        assert max(map(len, lines)) <= 80


def expected(path: Path) -> Course:
    """Learning rates by hand, at times in epochs, and the number of epochs of a recipe."""
    dataset, method = path.parts[0], path.stem
    if dataset == "digits":
        return ON_DIGITS.get(method, DIGITS), EPOCHS_ON_DIGITS.get(method, 48)
    if dataset in OF_PACKAGES:
        return OF_PACKAGES[dataset]
    if dataset == "papers":
        paper, _, _, network, _ = path.parts[1:]
        return OF_NETWORK.get(network) or OF_METHOD.get(method) or OF_PAPER[paper]
    rates = RATES.get(method, RO)
    scale = 0.1 if dataset == "svhn" and rates is RO else 1.0
    return {t: rate * scale for t, rate in rates.items()}, EPOCHS.get(method, 200)


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_a_recipe_loads_with_the_learning_rates_of_its_lineage(path: Path):
    file = load_config(ROOT / "configs" / path)
    config, (rates, epochs) = file.config, expected(path)
    schedule, _ = file.schedule(epochs)
    for t, rate in rates.items():
        assert config.optimizer.lr * schedule.factor(t, epochs) == pytest.approx(rate, rel=1e-9)
    assert config.epochs == epochs
    assert config.name == path.with_suffix("").as_posix().replace("/", "-")
    values = config.targets.values if config.targets else {}
    assert all(MEASURE.fullmatch(measure) and 0 < value < 100 for measure, value in values.items())
    if path.parts[0] == "papers":
        place = (config.targets.paper, config.data.name, config.threat.norm, config.model.name)
        assert place == path.parts[1:-1]


@pytest.mark.parametrize("path", BODIES.values(), ids=str)
def test_a_recipe_trains_in_its_first_and_in_its_last_epoch(path: Path, files: DataFiles, tmp_path: Path):
    recipe = ROOT / "configs" / path
    written = load_config(recipe).config
    overrides = [*cut_down(written), *files.overrides(written)]
    file = load_config(recipe, overrides)
    data, settings = load_data(file)
    own = files_for(recipe, overrides, data, tmp_path)
    file = load_config(recipe, [*overrides, *own]) if own else file
    assembly = assemble(file, data, settings, tmp_path)
    engine, epochs = assembly.engine, assembly.length.epochs
    for epoch, batch in zip((0, epochs - 1), assembly.training_set.batches(0), strict=False):
        engine.epoch = epoch
        engine.set_lr(assembly.schedule.factor(epoch, epochs), epoch)
        result = engine.step(batch.x, batch.y, index=batch.index, aux=batch.aux)
        assert bool(torch.isfinite(result.losses).all())
    assert engine.global_step == 2
