"""A row of a table of a paper: its numbers as printed, and its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..recipe import Body, Published, Recipe
from ..ro import AWP_START

NETWORKS = {
    "preact_resnet18": "PreActResNet-18",
    "wrn_28_10": "WRN-28-10",
    "wrn_32_10": "WRN-32-10",
    "wrn_34_10": "WRN-34-10",
    "convit_b": "ConViT-B",
    "vit_b": "ViT-B",
    "deit_s": "DeiT-S",
}
"""Model to its name in the comment of a recipe."""
ABOUT_RST = [
    "RST as in its code: batches of 256, the learning rate along a cosine, eps 0.031.",
    "Half of each batch are images with a teacher's labels, from the file cifar10_extra.npz beside the config:",
    "docs/how-to/more_data.md says how to make one.",
]
BEST = "The numbers are taken for those of the best checkpoint; the table does not say so."


@dataclass(frozen=True)
class Paper:
    """A paper with tables.

    Args:
        key: its folder below configs/papers/, and its name for ``buttress recipes list --paper``.
        source: authors and number.
        setting: lines of the comment above every recipe: what the paper gives, and what is this project's choice.
    """

    key: str
    source: str
    setting: tuple[str, ...]

    def row(
        self, tables: str | tuple[str, ...], name: str, stack: str, body: Body, values: Mapping[str, float], *notes: str
    ) -> Recipe:
        """The recipe of a row.

        Args:
            tables: name of the table, or names of the tables that have the row.
            name: name of the row in the paper.
            stack: name of the file.
            body: sections of the config.
            values: measure to the published value.
            notes: further lines of the comment.
        """
        dataset, norm, model = body["data"]["name"], body["threat"]["norm"], body["model"]["name"]
        tables = (tables,) if isinstance(tables, str) else tables
        head = [
            f"{name} on {dataset}, {norm}, {NETWORKS[model]}: a row of the {self.key.upper()} paper.",
            "Not run here.",
        ]
        return Recipe(
            f"papers/{self.key}/{dataset}/{norm}/{model}/{stack}",
            "\n".join([*head, *self.setting, *notes, *odd(values)]),
            body,
            Published(self.source, values, self.key, tables, name),
        )


def numbers(measures: str, printed: str) -> dict[str, float]:
    """``numbers("clean aa", "84.28/85.62 46.33")``: ``{"clean best": 84.28, "clean last": 85.62, "aa best": 46.33}``.

    Args:
        measures: names of the columns.
        printed: values as printed: of the best checkpoint, or of the best and of the last one with a bar between them.
    """
    values: dict[str, float] = {}
    for measure, cell in zip(measures.split(), printed.split(), strict=True):
        for checkpoint, value in zip(("best", "last"), cell.split("/"), strict=False):
            values[f"{measure} {checkpoint}"] = float(value)
    return values


def odd(values: Mapping[str, float]) -> list[str]:
    """A line of a comment if AutoAttack, which is the strongest, leaves more accuracy than another attack."""
    pairs = [(measure, value, values.get(f"aa {measure.rpartition(' ')[2]}", 0.0)) for measure, value in values.items()]
    weaker = " and ".join(
        measure.rpartition(" ")[0] for measure, value, of_autoattack in pairs if of_autoattack > value
    )
    return (
        [f"Oddity: {weaker} below AutoAttack, which is the stronger attack: they are hardly of one model."]
        if weaker
        else []
    )


def of_code(body: Body) -> list[str]:
    """Lines of a comment: what a recipe of the lineage of robust overfitting has from public code, not from a paper."""
    dataset, norm = body["data"]["name"], body["threat"]["norm"]
    lines = []
    if dataset == "cifar100" and any("augment" in plugin for plugin in body["plugins"]):
        lines.append("Images are turned by up to 15 degrees, as in the code of AWP; the paper does not say so.")
    if dataset == "svhn":
        lines.append(
            "The learning rate on SVHN is the paper's; the public code of its lineage has 0.01 (optimizer.lr=0.01)."
        )
    if (dataset, norm) in AWP_START and _settings(body, "awp", "rwp", "rat_wp"):
        lines.append("Weights are perturbed from epoch 5 on, as in the code of AWP; the paper does not say so.")
    return lines


def _settings(body: Body, *plugins: str) -> list[dict[str, Any]]:
    """Settings of the plugins of these names in a body."""
    entries = [plugin for plugin in body["plugins"] if isinstance(plugin, dict)]
    return [entry[name] for entry in entries for name in plugins if name in entry]
