"""Adversarial training on crops of photographs: real images in colour that come with a package."""

from __future__ import annotations

from collections.abc import Iterator

from .recipe import Recipe


def recipes() -> Iterator[Recipe]:
    head = "PGD-AT on crops of six photographs: images in colour, as small as CIFAR's, without a download.\n"
    head += "Needs scikit-image."
    body = {
        "data": {"name": "photos", "train_per_class": 100, "validation": 300, "batch_size": 60},
        "model": {"name": "preact_tiny", "memory_format": "channels_last"},
        "threat": {"norm": "linf", "eps": "8/255"},
        "plugins": [{"pgd": {"steps": 10, "step_size": "2/255"}}],
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "piecewise", "milestones": [0.5, 0.8], "factor": 0.1},
        "epochs": 10,
        "evaluation": {"every": 2, "attack": {"pgd": {"steps": 20, "step_size": "1/255"}}, "best_by": "validation"},
        "checkpoint": {"every": 5, "keep": 2},
    }
    yield Recipe("photos/at", head, body)
