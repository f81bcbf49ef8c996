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
ARCHITECTURES = {"deit": ("DeiT-S", "deit_small_patch16_224"), "vit": ("ViT-B", "vit_base_patch16_224")}
"""Beginning of a recipe's name to the network in the paper, and in timm."""
PGD: dict[str, Any] = {"steps": 10, "step_size": "2/255"}
LOSSES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "at": ({}, []),
    "trades": (KL, [{"trades": {"beta": 6.0}}]),
    "mart": ({"start": "gaussian"}, [{"mart": {"lam": 6.0}}]),
}
"""Settings of the attack, and plugins, of each loss."""
Row = tuple[float, float, float]
TARGETS: dict[tuple[str, str], tuple[Row, Row, Row]] = {
    ("deit", "at"): ((81.36, 47.94, 47.28), (83.08, 52.28, 47.92), (83.22, 53.55, 49.31)),
    ("deit", "trades"): ((82.32, 52.52, 49.07), (82.81, 52.74, 49.40), (83.43, 53.31, 50.10)),
    ("deit", "mart"): ((76.77, 52.06, 47.06), (78.43, 52.98, 47.94), (78.39, 53.83, 48.97)),
    ("vit", "at"): ((83.07, 52.93, 48.99), (84.64, 53.44, 49.67), (87.83, 56.34, 52.27)),
    ("vit", "trades"): ((83.45, 53.07, 49.76), (83.91, 53.52, 50.56), (87.09, 55.97, 52.57)),
    ("vit", "mart"): ((77.05, 52.99, 47.95), (78.75, 53.51, 49.01), (82.23, 55.94, 51.03)),
}
"""Clean, PGD-20 and AutoAttack accuracy of the plain method, with ARD and PRM, and with PIAT besides."""


def recipes() -> Iterator[Recipe]:
    for (prefix, loss), (plain, masked, interpolated) in TARGETS.items():
        stem = "" if loss == "at" else f"{loss}_"
        yield recipe(prefix, loss, f"{prefix}_{loss}", plain)
        yield recipe(prefix, loss, f"{prefix}_{stem}ard_prm", masked)
        yield recipe(prefix, loss, f"{prefix}_piat_{stem}ard_prm", interpolated)


def recipe(prefix: str, loss: str, method: str, target: Row) -> Recipe:
    network, arch = ARCHITECTURES[prefix]
    make = f"timm.create_model('{arch}', pretrained=True, img_size=32, patch_size=4)"
    head = f"{method} on cifar10, linf: the setting of its paper, not run here.\n"
    head += "It starts from weights of ImageNet, in a file that lies beside the config, or in the working folder:\n"
    head += f"python -c \"import timm, torch; torch.save({make}.state_dict(), '{prefix}.pt')\""
    settings, plugins = LOSSES[loss]
    attack = {"ard_prm": {"warmup": 10, **PGD, **settings}} if "ard_prm" in method else {"pgd": {**PGD, **settings}}
    sections = body(arch, prefix, attack, *plugins, *(["piat"] if "piat" in method else []))
    published = Published(SOURCE + network, dict(zip(("clean", "pgd-20", "aa"), target, strict=True)))
    return Recipe(f"cifar10/linf/{method}", head, sections, published)


def body(arch: str, prefix: str, *plugins: Any) -> Body:
    """40 epochs from weights of ImageNet, a tenth and a hundredth after 35 and 38, patches of 4x4, eval-mode attack."""
    return {
        "data": {"name": "cifar10", "validation": 0, "batch_size": 64},
        "model": {
            "name": "timm",
            "arch": arch,
            "options": {"img_size": 32, "patch_size": 4},
            "normalize": NORMALISATION["cifar10"],
            "weights": {"file": f"{prefix}.pt", "except": ["head"]},
        },
        "threat": {"norm": "linf", "eps": "8/255"},
        "plugins": [{"augment": {"pad": 4, "padding": "zeros"}}, *plugins, {"clip_grad": {"norm": 1.0}}],
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {"name": "piecewise", "milestones": [35, 38], "factor": 0.1, "per": "batch"},
        "epochs": 40,
        "evaluation": {"attack": {"pgd": {"steps": 20, "step_size": "2/255"}}, "best_by": "test"},
    }
