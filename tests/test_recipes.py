"""Every recipe under configs/: written by its generator, loads, has its lineage's learning rates, and takes a step."""

from pathlib import Path

import pytest
import torch
from recipes import all_recipes, measured

from buttress import Data, Split
from buttress.config.file import load_config
from buttress.training.assembly import assemble

from .recipe_files import files_for

ROOT = Path(__file__).parent.parent
RECIPES = all_recipes()
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
DIGITS = {0: 0.3, 18: 0.3, 19: 0.03, 37: 0.03, 38: 0.003, 47: 0.003}
EPOCHS_ON_DIGITS = {"free_at": 12, "pretraining_rotation": 16}
MNIST5K = {0: 0.1, 12: 0.1, 13: 0.01, 25: 0.01, 26: 0.001, 31: 0.001}
PHOTOS = {0: 0.1, 4: 0.1, 5: 0.01, 7: 0.01, 8: 0.001, 9: 0.001}
OF_PACKAGES = {"mnist5k": (MNIST5K, 32), "photos": (PHOTOS, 10)}
MEASURES = [
    {"pgd-20 best"},
    {"pgd-20 best", "pgd-20 last"},
    {"clean best", "pgd-20 best", "aa best"},
    {"clean", "pgd-20", "aa"},
    {"clean", "pgd-50", "aa"},
]
SHAPES = {
    **{"cifar10": (3, 32, 32, 10), "cifar100": (3, 32, 32, 100), "svhn": (3, 32, 32, 10)},
    **{"digits": (1, 8, 8, 10), "mnist5k": (1, 28, 28, 10), "photos": (3, 32, 32, 6)},
}


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


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_a_recipe_builds_and_takes_a_step(path: Path, tmp_path: Path):
    dataset, method = path.parts[0], path.stem
    channels, height, width, classes = SHAPES[dataset]
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(classes, channels, height, width, generator=generator), torch.arange(classes)
    split = Split(x, y)
    recipe = ROOT / "configs" / path
    name = load_config(recipe).config.model.name
    narrow = ["model.widen=1" if "wrn" in name else "model.width=2"]
    if name == "mlp":
        narrow = ["model.hidden=[4]"]
    if name == "timm":
        narrow = [f"model.options.{size}" for size in ("depth=1", "embed_dim=16", "num_heads=2")]
    # A narrow network is not safe in the channels-last layout (tests/nn/test_layout.py).
    overrides = [*narrow, "model.memory_format=contiguous", "data.batch_size=2", "device=cpu"]
    overrides += files_for(recipe, overrides, Data(split, split, classes), tmp_path)
    file = load_config(recipe, overrides)
    assert file.config.epochs is not None
    schedule, _ = file.schedule(file.config.epochs)
    lr = file.config.optimizer.lr
    expected = ON_DIGITS.get(method, DIGITS) if dataset == "digits" else RATES.get(method, RO)
    epochs = EPOCHS_ON_DIGITS.get(method, 48) if dataset == "digits" else EPOCHS.get(method, 200)
    expected, epochs = OF_PACKAGES.get(dataset, (expected, epochs))
    scale = 0.1 if dataset == "svhn" and expected is RO else 1.0
    for t, rate in expected.items():
        assert lr * schedule.factor(t, file.config.epochs) == pytest.approx(rate * scale, rel=1e-9)
    assert file.config.epochs == epochs
    torch.manual_seed(0)
    extra = split if file.config.data.extra else None
    assembly = assemble(file, Data(split, split, classes, split, extra=extra), {}, tmp_path)
    assembly.engine.set_lr(1.0, 0.0)
    batch = next(assembly.training_set.batches(0))
    result = assembly.engine.step(batch.x, batch.y, index=batch.index, aux=batch.aux)
    assert bool(torch.isfinite(result.losses).all())
    assert file.config.targets is None or file.config.targets.values.keys() in MEASURES
