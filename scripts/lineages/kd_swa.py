"""KD+SWA: a student of a standard and a robust teacher, whose weights of late epochs are averaged.

Source: Chen, Zhang, Liu, Chang, Wang, "Robust Overfitting may be mitigated by properly learned smoothening", ICLR 2021,
with its public code. The teachers are runs with the settings and the split of the student.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import ro
from .digits import PGD, digits
from .recipe import Body, Recipe

CLEAN: Body = {"attack": {"clean": {}}}
TRAIN = "buttress train configs"


def recipes() -> Iterator[Recipe]:
    yield Recipe(
        "digits/kd_swa",
        "kd_swa on label-noise digits: a fifth of the training labels wrong on purpose.\n"
        "It learns from the weights of two other runs, which have to be made first:\n"
        f"{TRAIN}/digits/clean.yaml data.split_seed=0 'evaluation.attack={{clean: {{}}}}' --run teacher\n"
        f"{TRAIN}/digits/at.yaml data.split_seed=0 --run teacher",
        digits(PGD, kd("digits-clean/teacher", "digits-at/teacher"), {"swa": {"start": 0.4}}, data={"split_seed": 0}),
    )
    for dataset in ("cifar10", "cifar100"):
        yield from cifar(dataset)


def kd(standard: str, robust: str) -> dict[str, dict[str, str]]:
    """The plugin, with the best weights in the folders of two runs."""
    runs = {"standard": standard, "robust": robust}
    return {"kd": {role: f"runs/{run}/weights/best-live.safetensors" for role, run in runs.items()}}


def cifar(dataset: str) -> Iterator[Recipe]:
    """The student in the setting of its paper, and its teachers."""
    head = f"on {dataset}, linf: the setting of its paper (RO lineage), not run here."
    standard, robust, student = (f"{dataset}/linf/{role}" for role in ("kd_standard", "kd_robust", "kd_swa"))
    body = setting(dataset)
    yield Recipe(
        standard,
        f"kd_standard {head}\nThe standard teacher of kd_swa.",
        {**body, "plugins": [body["plugins"][0], "clean"], "evaluation": {**body["evaluation"], **CLEAN}},
    )
    yield Recipe(robust, f"kd_robust {head}\nThe robust teacher of kd_swa.", body)
    first = "\n".join(f"{TRAIN}/{teacher}.yaml --run teacher" for teacher in (standard, robust))
    teachers = kd(*(f"{teacher.replace('/', '-')}/teacher" for teacher in (standard, robust)))
    yield Recipe(
        student,
        f"kd_swa {head}\nIt learns from the weights of two other runs, which have to be made first:\n{first}",
        setting(dataset, teachers, {"swa": {"start": 55}}),
    )


def setting(dataset: str, *plugins: Any) -> Body:
    """The RO lineage with 5,000 images held out, drops at 50 and 150 by epoch, and crops on a canvas of zeros."""
    body = ro.ro(dataset, "linf", *plugins)
    crops, *rest = body["plugins"]
    return {
        **body,
        "data": {**body["data"], "validation": 5000, "split_seed": 0},
        "plugins": [{"augment": {**crops["augment"], "padding": "zeros"}}, *rest],
        "schedule": {"name": "piecewise", "milestones": [50, 150], "factor": 0.1},
        "evaluation": {**body["evaluation"], "best_by": "validation"},
    }
