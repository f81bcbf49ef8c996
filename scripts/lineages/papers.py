"""Numbers that papers publish, and the recipe of a paper's setting."""

from __future__ import annotations

from .recipe import Body, Published, Recipe

SETTINGS = [(dataset, norm) for dataset in ("cifar10", "cifar100", "svhn") for norm in ("linf", "l2")]
"""Data sets and norms of the recipes that every method has."""

RWP_PAPER = "Yu et al., arXiv:2205.14826, PreActResNet-18"
PIAT_PAPER = "Liu et al., arXiv:2511.00836, ResNet-18"
AMP_PAPER = "Yan et al., AT-AMP, PreActResNet-18, 5 runs"
RAT_PAPER = "Nguyen et al., TMLR 2024, PreActResNet-18"
MEAT_PAPER = "Hu et al., arXiv:2406.14259, WRN-34-10"
PIAT_WIDE = "Liu et al., arXiv:2511.00836, WRN-32-10"
# PGD-20 accuracy in %: best, last (None: not published). (method, data set, norm) in the papers named.
TARGETS: dict[tuple[str, str, str], tuple[str, float, float | None]] = {
    ("at", "svhn", "linf"): (RWP_PAPER, 53.36, 44.49),
    ("at", "cifar10", "linf"): (RWP_PAPER, 52.79, 44.44),
    ("at", "cifar100", "linf"): (RWP_PAPER, 27.22, 20.82),
    ("at", "svhn", "l2"): (RWP_PAPER, 66.87, 65.03),
    ("at", "cifar10", "l2"): (RWP_PAPER, 69.15, 65.93),
    ("at", "cifar100", "l2"): (RWP_PAPER, 41.33, 35.27),
    ("awp", "svhn", "linf"): (RWP_PAPER, 59.12, 55.87),
    ("awp", "cifar10", "linf"): (RWP_PAPER, 55.39, 54.73),
    ("awp", "cifar100", "linf"): (RWP_PAPER, 30.71, 30.28),
    ("awp", "svhn", "l2"): (RWP_PAPER, 72.57, 67.73),
    ("awp", "cifar10", "l2"): (RWP_PAPER, 72.69, 72.08),
    ("awp", "cifar100", "l2"): (RWP_PAPER, 45.60, 44.66),
    ("rwp", "svhn", "linf"): (RWP_PAPER, 61.15, 57.45),
    ("rwp", "cifar10", "linf"): (RWP_PAPER, 58.55, 58.01),
    ("rwp", "cifar100", "linf"): (RWP_PAPER, 31.17, 30.64),
    ("rwp", "svhn", "l2"): (RWP_PAPER, 73.35, 69.48),
    ("rwp", "cifar10", "l2"): (RWP_PAPER, 74.47, 73.84),
    ("rwp", "cifar100", "l2"): (RWP_PAPER, 45.71, 45.05),
    ("amp", "svhn", "linf"): (AMP_PAPER, 58.47, 57.38),
    ("amp", "svhn", "l2"): (AMP_PAPER, 72.36, 67.86),
    ("amp", "cifar10", "linf"): (AMP_PAPER, 53.85, 53.26),
    ("amp", "cifar10", "l2"): (AMP_PAPER, 71.25, 71.13),
    ("amp", "cifar100", "linf"): (AMP_PAPER, 30.52, 29.69),
    ("amp", "cifar100", "l2"): (AMP_PAPER, 44.93, 44.63),
    ("l1", "cifar10", "linf"): (AMP_PAPER, 51.92, 48.74),
    ("l2", "cifar10", "linf"): (AMP_PAPER, 51.71, 47.38),
    ("mixup", "cifar10", "linf"): (AMP_PAPER, 52.83, 49.76),
    ("cutout", "cifar10", "linf"): (AMP_PAPER, 52.79, 50.35),
    ("l1", "cifar10", "l2"): (AMP_PAPER, 67.96, 63.73),
    ("l2", "cifar10", "l2"): (AMP_PAPER, 67.87, 63.69),
    ("mixup", "cifar10", "l2"): (AMP_PAPER, 70.19, 68.27),
    ("cutout", "cifar10", "l2"): (AMP_PAPER, 69.56, 67.59),
    ("rat_lr", "cifar10", "linf"): (RAT_PAPER, 51.57, 49.07),
    ("rat_lr", "cifar10", "l2"): (RAT_PAPER, 68.97, 68.21),
    ("rat_lr", "cifar100", "linf"): (RAT_PAPER, 26.57, 26.18),
    ("rat_lr", "cifar100", "l2"): (RAT_PAPER, 38.31, 37.76),
    ("rat_lr", "svhn", "linf"): (RAT_PAPER, 53.32, 43.41),
    ("rat_lr", "svhn", "l2"): (RAT_PAPER, 66.47, 62.10),
    ("rat_wp", "cifar10", "linf"): (RAT_PAPER, 54.85, 53.98),
    ("rat_wp", "cifar10", "l2"): (RAT_PAPER, 70.77, 69.49),
    ("rat_wp", "cifar100", "linf"): (RAT_PAPER, 30.91, 30.42),
    ("rat_wp", "cifar100", "l2"): (RAT_PAPER, 45.23, 44.93),
    ("rat_wp", "svhn", "linf"): (RAT_PAPER, 57.91, 54.32),
    ("rat_wp", "svhn", "l2"): (RAT_PAPER, 71.66, 65.68),
    ("trades", "cifar10", "linf"): (MEAT_PAPER, 55.48, 53.19),
    ("trades", "cifar100", "linf"): (MEAT_PAPER, 30.43, 28.78),
    ("mart", "cifar10", "linf"): (PIAT_PAPER, 53.70, 48.63),
    ("mart", "cifar100", "linf"): (PIAT_PAPER, 30.10, 25.96),
    ("mart", "svhn", "linf"): (PIAT_PAPER, 57.70, 54.29),
    ("alp", "cifar10", "linf"): (PIAT_PAPER, 52.37, 48.62),
    ("alp", "cifar100", "linf"): (PIAT_PAPER, 28.12, 24.66),
    ("alp", "svhn", "linf"): (PIAT_PAPER, 59.13, 55.12),
    ("piat_nmse", "cifar10", "linf"): (PIAT_PAPER, 53.74, 52.81),
    ("piat_nmse", "cifar100", "linf"): (PIAT_PAPER, 31.45, 30.87),
    ("piat_nmse", "svhn", "linf"): (PIAT_PAPER, 61.21, 59.84),
    ("fat", "cifar10", "linf"): (MEAT_PAPER, 48.73, 46.58),
    ("meat_fat", "cifar10", "linf"): (MEAT_PAPER, 52.62, 50.99),
    ("gairat", "cifar10", "linf"): (MEAT_PAPER, 57.63, 54.50),
    ("gairat", "cifar100", "linf"): (MEAT_PAPER, 26.28, 25.63),
    ("mail", "cifar10", "linf"): (PIAT_PAPER, 51.15, 47.14),
    ("mail", "cifar100", "linf"): (PIAT_PAPER, 27.99, 24.69),
    ("mail", "svhn", "linf"): (PIAT_PAPER, 57.47, 54.60),
    ("randomized_at", "cifar10", "linf"): (PIAT_PAPER, 52.25, 50.09),
    ("randomized_at", "cifar100", "linf"): (PIAT_PAPER, 28.69, 27.67),
    ("cfa", "cifar10", "linf"): (PIAT_PAPER, 53.24, 51.69),
    ("piat_mail", "cifar10", "linf"): (PIAT_WIDE, 57.53, None),
    ("piat_mail", "cifar100", "linf"): (PIAT_WIDE, 33.65, None),
    ("consistency", "cifar10", "linf"): (MEAT_PAPER, 58.28, 54.13),
    ("consistency", "cifar100", "linf"): (MEAT_PAPER, 27.41, 27.27),
    ("idbh", "cifar10", "linf"): (MEAT_PAPER, 57.60, 56.98),
    ("idbh", "cifar100", "linf"): (MEAT_PAPER, 32.61, 31.19),
    ("meat_idbh", "cifar10", "linf"): (MEAT_PAPER, 61.08, 60.93),
    ("meat_idbh", "cifar100", "linf"): (MEAT_PAPER, 35.93, 35.13),
    ("meat", "cifar10", "linf"): (MEAT_PAPER, 60.08, 58.89),
    ("meat", "cifar100", "linf"): (MEAT_PAPER, 35.03, 33.11),
}


def of_paper(lineage: str, method: str, dataset: str, norm: str, body: Body) -> Recipe:
    """The recipe of a method, with the numbers in ``TARGETS`` if there are any."""
    head = f"{method} on {dataset}, {norm}: the setting of its paper ({lineage} lineage), not run here."
    published = None
    if target := TARGETS.get((method, dataset, norm)):
        source, best, last = target
        published = Published(source, {"pgd-20 best": best, **({} if last is None else {"pgd-20 last": last})})
    else:
        head += "\nThe papers publish no number for it."
    return Recipe(f"{dataset}/{norm}/{method}", head, body, published)
