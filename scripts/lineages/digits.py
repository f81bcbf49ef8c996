"""Every method on label-noise digits, as in configs/demo.yaml: the recipes that ``make compare`` trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .recipe import Body, Recipe
from .ro import SWEEPS

_PGD: dict[str, Any] = {"steps": 10, "step_size": "1/40"}
_ARD_PRM: dict[str, Any] = {"warmup": 12, **_PGD}  # a quarter of the run, as in the paper
PGD = {"pgd": _PGD}
NEAR = {"pgd": {**_PGD, "start": "gaussian"}}
KL = {"pgd": {**_PGD, "loss": "kl", "start": "gaussian"}}
TRADES, RST = {"trades": {"beta": 6.0}}, {"rst": {"beta": 6.0}}
RWP = {"rwp": {"gamma": 0.02, "c_min": 1.0, "k2": 1}}
MEAT = {"meat": {"start": 0.4}}
CROPS = {"augment": {"pad": 1, "padding": "zeros", "flip": False}}  # a mirrored digit is none
IDBH = {"idbh": {"flip": False, "max_shift": 2}}

STACKS: dict[str, list[Any]] = {
    "at": [PGD, MEAT],
    "piat_nmse": [PGD, "piat", {"nmse": {"mu": 4.0}}],
    "amp": [PGD, {"amp": {"delta": 0.3}}],
    "awp": [PGD, {"awp": {"gamma": 0.02}}],
    "rwp": [PGD, RWP, MEAT],
    "rat_lr": [PGD, {"rat_lr": {"layers": [3, 4]}}],
    "rat_wp": [PGD, {"rat_wp": {"gamma": 0.02, "layers": [3, 4]}}],
    "trades": [KL, TRADES],
    "mart": [NEAR, {"mart": {"lam": 5.0}}],
    "trades_rwp": [KL, TRADES, RWP, MEAT],
    "mail": [KL, {"mail": {"start": 0.4}}],
    "piat_mail": [KL, "piat", {"mail": {"start": 0.4}}],
    "randomized_at": [KL, "randomized_at"],
    "rst": [KL, RST],
    "rst_rwp": [KL, RST, {"rwp": {"gamma": 0.02, "c_min": 2.0, "k2": 1}}],  # labelled losses count twice
    "rst_amp": [KL, RST, {"amp": {"delta": 0.3}}],
    "alp": [PGD, "alp"],
    "drop_easy": [PGD, {"drop_easy": {"c_min": 1.0}}],  # RWP's
    "augment": [PGD, CROPS],
    "cutout": [PGD, {"cutout": {"size": 3}}],
    "mixup": [PGD, "mixup"],
    "label_smoothing": [PGD, "label_smoothing"],
    "cutmix": [PGD, "cutmix"],
    "consistency": [PGD, "consistency", CROPS],
    "autoaugment": [PGD, {"autoaugment": {"cutout": 2}}],
    "idbh": [PGD, IDBH],
    "meat_idbh": [PGD, IDBH, MEAT],
    "l1": [PGD, "l1"],
    "l2": [PGD, {"l2_groups": {"weight_decay": 5e-3}}],
    "clip_grad": [PGD, {"clip_grad": {"norm": 0.5}}],
    "fix_param": [PGD, {"freeze_layers": {"layers": [3, 4]}}],
    "meat_fat": [{"fat": {**_PGD, "rises": [0.42, 0.75]}}, MEAT],
    "gairat": [{"gairat": {**_PGD, "begin": 0.4}}],
    "fgsm": [{"fgsm": {"start": "uniform"}}],
    "apgd": [{"apgd": {"steps": 10}}],
    "fast": ["fast"],
    "n_fgsm": ["n_fgsm"],
    "vit_at": [PGD],
    "ard_prm": [{"ard_prm": _ARD_PRM}],
    "trades_ard_prm": [{"ard_prm": {**_ARD_PRM, **KL["pgd"]}}, TRADES],
    "piat_ard_prm": [{"ard_prm": _ARD_PRM}, "piat", {"nmse": {"mu": 4.0}}],
    "free_at": ["free_at"],
    "grad_align": ["fgsm", {"grad_align": {"lam": 0.2}}],
    "cfa": [{"cfa": _PGD}, {"fawa": {"threshold": 0.2, "attack": "pgd"}}],  # the instructions of the public code
    "clean": ["clean"],
    "fix_lr": [PGD, {"rat_lr": {"layers": [3, 4]}}],
    "awp_layers": [PGD, {"rat_wp": {"gamma": 0.02, "layers": [3, 4]}}],
}
"""Plugins of each method, in the order of ``make compare``, whose other rows are compared with the first."""

# With patches of 2 pixels, or inputs not normalized, it was still at chance after 8 epochs of PGD.
VIT: Body = {
    "model": {
        "name": "timm",
        "arch": "vit_tiny_patch16_224",
        "options": {"img_size": 8, "patch_size": 4, "embed_dim": 64, "depth": 2, "num_heads": 4},
        "normalize": {"mean": [0.3], "std": [0.38]},
    },
    "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 2e-3},
}
CYCLIC: Body = {"schedule": {"name": "cyclic", "peak": 0.5}}  # Wong et al.'s code, and de Jorge et al.'s
# As many images without labels as with them, half of each batch.
EXTRA: Body = {"data": {"unlabelled_per_class": 40, "extra": {"share": "1/2"}}}
SECTIONS: dict[str, Body] = {
    **dict.fromkeys(["vit_at", "ard_prm", "trades_ard_prm", "piat_ard_prm"], VIT),
    **dict.fromkeys(["fast", "n_fgsm", "grad_align"], CYCLIC),
    **dict.fromkeys(["rst", "rst_rwp", "rst_amp"], EXTRA),
    "free_at": {"data": {"replays": 4}, "epochs": 12},  # as many steps
}
"""Sections of a method that are not those of all; settings of the data are added to theirs."""


def recipes() -> Iterator[Recipe]:
    for method in STACKS:
        head = f"{method} on label-noise digits: a fifth of the training labels wrong on purpose."
        if SECTIONS.get(method) is EXTRA:
            head += "\nBeside them come as many images without labels."
        yield Recipe(f"digits/{method}", head + _sweep(method), digits(*STACKS[method], **SECTIONS.get(method, {})))


def measured() -> Iterator[Recipe]:
    """The recipes that ``make compare`` trains, the same training only once."""
    trained: list[Body] = []
    for recipe in recipes():
        if recipe.body not in trained:
            trained.append(recipe.body)
            yield recipe


def digits(*plugins: Any, data: Body | None = None, **sections: Any) -> Body:
    """Label-noise digits, as in configs/demo.yaml; with further settings of the data, and other sections."""
    noisy = {"name": "digits", "train_per_class": 40, "validation": 397, "label_noise": 0.2, "batch_size": 80}
    return {
        "data": {**noisy, **(data or {})},
        "model": {"name": "preact_tiny", "memory_format": "channels_last"},
        "threat": {"norm": "linf", "eps": "1/10"},
        "plugins": list(plugins),
        "optimizer": {"name": "sgd", "lr": 0.3, "momentum": 0.9, "weight_decay": 2e-3},
        "schedule": {"name": "piecewise", "milestones": [0.4, 0.8], "factor": 0.1},
        "epochs": 48,
        "evaluation": {"every": 4, "attack": {"pgd": {"steps": 20, "step_size": "1/80"}}, "best_by": "validation"},
        "checkpoint": {"every": 8, "keep": 2},
        **sections,
    }


def _sweep(method: str) -> str:
    """The lines of a comment that name the command of a diagnostic sweep, if the method is one."""
    if method not in SWEEPS:
        return ""
    return (
        "\nThe sweep over sets of layer groups (Nguyen et al., TMLR 2024, section 3), with the standard run:"
        f"\nbuttress compare configs/digits/at.yaml configs/digits/{method}.yaml \\"
        f"\n  '{SWEEPS[method]}.layers={layer_sets(method)}'"
    )


def layer_sets(method: str) -> str:
    """Sets of layer groups of a diagnostic sweep; all groups with their initial weights would train nothing."""
    sets = "[1],[2],[3],[4],[1,2],[1,3],[1,4],[2,3],[2,4],[3,4],[1,2,3],[1,2,4],[1,3,4],[2,3,4]"
    return sets + (",[1,2,3,4]" if method != "fix_param" else "")
