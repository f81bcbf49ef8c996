"""Adversarial training of vision transformers on CIFAR-10: plain, with ARD and PRM, and with PIAT besides.

Source: Mo et al., "When Adversarial Training Meets Vision Transformers", arXiv:2210.07540, with its public code. The
numbers are those of PIAT's table, whose text has crops and flips alone (the public code adds Mixup and CutMix to AT).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .recipe import Body, Published, Recipe
from .ro import NORMALISATION
from .trades import KL

SOURCE = "Liu et al., arXiv:2511.00836, "
# A transformer of timm at 32x32 in patches of 4x4, whose weights timm resizes.
_RESIZED = (
    'python -c "import timm, torch; torch.save('
    "timm.create_model('{arch}', pretrained=True, img_size=32, patch_size=4).state_dict(), '{file}')\""
)
# ConViT's patches timm does not resize; the position embedding is resized where it is loaded.
_PATCHES_RESIZED = (
    'python -c "import timm, torch; from timm.layers import resample_patch_embed as resample;'
    " s = timm.create_model('{arch}', pretrained=True).state_dict(); k = 'patch_embed.proj.weight';"
    " torch.save({{**s, k: resample(s[k], [4, 4])}}, '{file}')\""
)
ARCHITECTURES = {
    "convit_b": ("ConViT-B", "convit.pt", _PATCHES_RESIZED.format(arch="convit_base", file="convit.pt")),
    "vit_b": ("ViT-B", "vit.pt", _RESIZED.format(arch="vit_base_patch16_224", file="vit.pt")),
    "deit_s": ("DeiT-S", "deit.pt", _RESIZED.format(arch="deit_small_patch16_224", file="deit.pt")),
}
"""Model to its name in the paper, the file of its weights, and the command that makes the file."""
PGD: dict[str, Any] = {"steps": 10, "step_size": "2/255"}
LOSSES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "at": ({}, []),
    "trades": (KL, [{"trades": {"beta": 6.0}}]),
    "mart": ({"start": "gaussian"}, [{"mart": {"lam": 6.0}}]),
}
"""Settings of the attack, and plugins, of each loss."""
Row = tuple[float, float, float]
TARGETS: dict[tuple[str, str], tuple[Row, Row, Row]] = {
    ("convit_b", "at"): ((61.47, 38.64, 34.07), (85.21, 53.25, 49.01), (87.50, 56.25, 51.86)),
    ("convit_b", "trades"): ((82.75, 52.77, 49.61), (83.51, 53.21, 50.11), (86.03, 55.88, 52.35)),
    ("convit_b", "mart"): ((63.61, 42.51, 37.08), (80.32, 53.11, 48.35), (81.20, 56.17, 51.13)),
    ("vit_b", "at"): ((83.07, 52.93, 48.99), (84.64, 53.44, 49.67), (87.83, 56.34, 52.27)),
    ("vit_b", "trades"): ((83.45, 53.07, 49.76), (83.91, 53.52, 50.56), (87.09, 55.97, 52.57)),
    ("vit_b", "mart"): ((77.05, 52.99, 47.95), (78.75, 53.51, 49.01), (82.23, 55.94, 51.03)),
    ("deit_s", "at"): ((81.36, 47.94, 47.28), (83.08, 52.28, 47.92), (83.22, 53.55, 49.31)),
    ("deit_s", "trades"): ((82.32, 52.52, 49.07), (82.81, 52.74, 49.40), (83.43, 53.31, 50.10)),
    ("deit_s", "mart"): ((76.77, 52.06, 47.06), (78.43, 52.98, 47.94), (78.39, 53.83, 48.97)),
}
"""Clean, PGD-20 and AutoAttack accuracy of the plain method, with ARD and PRM, and with PIAT besides."""
MEASURES = ("clean", "pgd-20", "aa")


def recipes() -> Iterator[Recipe]:
    for (model, loss), rows in TARGETS.items():
        prefix = model.partition("_")[0]
        for stack, target in zip(stacks(loss), rows, strict=True):
            if model == "convit_b":  # only among the rows of the paper's tables
                continue
            method = f"{prefix}_{stack}"
            head = f"{method} on cifar10, linf: the setting of its paper, not run here.\n{from_imagenet(model)}"
            published = Published(SOURCE + ARCHITECTURES[model][0], dict(zip(MEASURES, target, strict=True)))
            yield Recipe(f"cifar10/linf/{method}", head, setting(model, loss, stack), published)


def stacks(loss: str) -> tuple[str, str, str]:
    """Names of the three stacks with a loss: plain, with ARD and PRM, and with PIAT besides."""
    stem = "" if loss == "at" else f"{loss}_"
    return loss, f"{stem}ard_prm", f"piat_{stem}ard_prm"


def from_imagenet(model: str) -> str:
    """Lines of a comment: the file of weights that a recipe needs, and the command that makes it."""
    _, _, command = ARCHITECTURES[model]
    head = "It starts from weights of ImageNet, in a file that lies beside the config, or in the working folder:"
    return f"{head}\n{command}"


def setting(model: str, loss: str, stack: str) -> Body:
    settings, plugins = LOSSES[loss]
    attack = {"ard_prm": {"warmup": 10, **PGD, **settings}} if "ard_prm" in stack else {"pgd": {**PGD, **settings}}
    return body(model, attack, *plugins, *(["piat"] if "piat" in stack else []))


def body(model: str, *plugins: Any) -> Body:
    """40 epochs from weights of ImageNet, a tenth and a hundredth after 35 and 38, patches of 4x4, eval-mode attack."""
    return {
        "data": {"name": "cifar10", "validation": 0, "batch_size": 64},
        "model": {
            "name": model,
            "normalize": NORMALISATION["cifar10"],
            "weights": {"file": ARCHITECTURES[model][1], "except": ["head"]},
        },
        "threat": {"norm": "linf", "eps": "8/255"},
        "plugins": [{"augment": {"pad": 4, "padding": "zeros"}}, *plugins, {"clip_grad": {"norm": 1.0}}],
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {"name": "piecewise", "milestones": [35, 38], "factor": 0.1, "per": "batch"},
        "epochs": 40,
        "evaluation": {"attack": {"pgd": {"steps": 20, "step_size": "2/255"}}, "best_by": "test"},
    }
