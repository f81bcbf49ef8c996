"""Optimizers of configs, for tests: the section ``optimizer`` alone, and engines with it."""

from typing import Any

from torch import nn

from buttress import Engine
from buttress.config.file import ConfigFile
from buttress.config.yaml_source import dump_yaml, parse_yaml
from buttress.training.optimizer import ConfiguredOptimizer, configured_optimizer

from ..core.helpers import LINF, clean_attack


def configured(settings: dict[str, Any], name: str = "optimizer.yaml") -> ConfiguredOptimizer:
    config = {
        "name": "optimizer",
        "data": {"name": "digits"},
        "model": {"name": "mlp"},
        "threat": {"norm": "linf", "eps": "1/10"},
        "plugins": ["clean"],
        "epochs": 1,
        "device": "cpu",
        "optimizer": {"lr": 0.1, **settings},
    }
    return configured_optimizer(ConfigFile(parse_yaml(dump_yaml(config), name)))


def engine_with(model: nn.Module, settings: dict[str, Any], *plugins: Any, **options: Any) -> Engine:
    """An engine whose optimizer is that of a config with these settings; it does not attack."""
    return Engine(model, configured(settings).factory, [clean_attack(), *plugins], LINF, **options)
