"""Every built-in plugin, with the settings that its promises are examined with, and those that it must refuse; and
every attack."""

from typing import Any, NamedTuple


class Entry(NamedTuple):
    """One plugin.

    Args:
        settings: with which it shows its effect on the small bench of ``buttress.testing``.
        wrong: settings that it must refuse, each alone.
        stateful: it has a state_dict.
    """

    settings: dict[str, Any]
    wrong: list[dict[str, Any]]
    stateful: bool = False


UNKNOWN = {"no_such_setting": 1}
WEIGHTS = [UNKNOWN, {"gamma": -0.1}, {"gamma": "big"}, {"start": 1.5}, {"exit_order": "never"}]
LAYERS = [UNKNOWN, {"layers": "3"}, {"groups": {"one": ["conv.*"]}}, {"head_group": 1.5}]

CATALOGUE: dict[str, Entry] = {
    "alp": Entry({}, [UNKNOWN, {"weight": -1}, {"mixed": 1}]),
    "amp": Entry(
        {"steps": 2},
        [
            UNKNOWN,
            {"delta": -1.0},
            {"ball": "layer"},
            {"steps": 0},
            {"xi": 0.0},
            {"clip_norm": 0.0},
            {"bn_update": "first"},
            {"reattack_final": 2},
            {"start": -1},
        ],
    ),
    "augment": Entry(
        {"pad": 1, "rotation": 15.0},
        [UNKNOWN, {"pad": -1}, {"padding": "ones"}, {"flip": 1}, {"rotation": 181.0}],
    ),
    "awp": Entry({}, [*WEIGHTS, {"tensors": "convolutions"}, {"norm": "l2"}, {"lsc": [1.0]}]),
    "clean": Entry({}, [UNKNOWN]),
    "cross_entropy": Entry({}, [UNKNOWN]),
    "cutout": Entry({"size": 4}, [UNKNOWN, {"size": 0}, {"value": "black"}]),
    "drop_easy": Entry({"c_min": 2.3}, [UNKNOWN, {"c_min": -1}, {"mean_over": "all"}]),
    "ema": Entry(
        {"tau": 0.5},
        [UNKNOWN, {"tau": 1.1}, {"tau": -0.1}, {"start": -1}, {"start": 1.5}, {"warmup": 1}, {"buffers": "live"}],
        stateful=True,
    ),
    "fgsm": Entry({}, [UNKNOWN, {"start": "gaussian"}, {"step_size": -1}, {"attack_mode": "test"}]),
    "freeze_layers": Entry(
        {}, [*LAYERS, {"freeze_bn": "yes"}]
    ),
    "l1": Entry({}, [UNKNOWN, {"weight": -1}]),
    "l2_groups": Entry({}, [UNKNOWN, {"weight_decay": -1}, {"legacy_lr": 1}]),
    "mart": Entry({}, [UNKNOWN, {"lam": -1}]),
    "meat": Entry(
        {"start": 0},
        [
            UNKNOWN,
            {"start": -1},
            {"start": 1.0},
            {"start": True},
            {"median": "middle"},
            {"bn_data": "test"},
            {"history": "ram"},
            {"memory_gib": 0},
            {"track": 3},
        ],
        stateful=True,
    ),
    "mixup": Entry({}, [UNKNOWN, {"num_classes": 1}, {"alpha": 0.0}]),
    "nmse": Entry({}, [UNKNOWN, {"mu": -1}, {"detach_weight": "no"}]),
    "pgd": Entry({}, [UNKNOWN, {"steps": 0}, {"step_size": "a/b"}, {"loss": "cw"}, {"restarts": 1.5}]),
    "piat": Entry(
        {},
        [UNKNOWN, {"lam": 1.5}, {"a": 1.1}, {"b": -1}, {"c": "ten"}, {"n0": 2}, {"buffers": "live"}, {"skip_first": 1}],
        stateful=True,
    ),
    "rat_lr": Entry(
        {"form": "corrected"},
        [*LAYERS, {"form": "both"}, {"lr": 0.0}],
        stateful=True,
    ),
    "rat_wp": Entry({}, [*WEIGHTS, *LAYERS]),
    "rwp": Entry(
        {"c_min": "inf", "k2": 2},
        [*WEIGHTS, {"c_min": -1}, {"c_min": "all"}, {"k2": 0}, {"variant": "mine"}, {"norm": "l2"}, {"inclusive": 1},
         {"accumulate": "mean"}],
    ),
    "swa": Entry({"start": 0}, [UNKNOWN, {"start": 0.0}, {"start": "0"}], stateful=True),
    "trades": Entry({}, [UNKNOWN, {"beta": -1}, {"clean_forwards": 3}]),
}  # fmt: skip

# What ``TinyNet`` and its small images of three classes need besides.
GROUPS = {"1": ["conv.*"], "2": ["bn.*", "linear.*"]}
_ON_TINY_NET: dict[str, dict[str, Any]] = {
    "cutout": {"size": 2},
    "drop_easy": {"c_min": 0.5},
    "freeze_layers": {"layers": [1], "groups": GROUPS},
    "meat": {"history": "memory"},
    "rat_lr": {"layers": [2], "groups": GROUPS},
    "rat_wp": {"layers": [2], "groups": GROUPS},
}


def stack_of(name: str) -> list[Any]:
    """The smallest stack in which a plugin works on ``TinyNet``, as a config lists it."""
    entry = {name: {**CATALOGUE[name].settings, **_ON_TINY_NET.get(name, {})}}
    return [entry] if name in ATTACKS else ["fgsm", entry]


# Attacks of evaluations: settings small enough for tests, and wrong ones, each alone.
ATTACKS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "autoattack": ({}, [UNKNOWN, {"num_classes": 3}]),
    "clean": ({}, [UNKNOWN]),
    "cw": ({"steps": 3}, [UNKNOWN, {"steps": 0}, {"step_size": -1}, {"kappa": -1.0}, {"start": "gaussian"}]),
    "fgsm": ({"start": "uniform"}, [UNKNOWN, {"start": "gaussian"}]),
    "ifgsm": ({"steps": 3}, [UNKNOWN, {"steps": 0}, {"step_size": "a/b"}]),
    "mifgsm": ({"steps": 3}, [UNKNOWN, {"steps": 0}, {"decay": -0.1}]),
    "pgd": ({"steps": 3}, [UNKNOWN, {"steps": 0}]),
    "spsa": (
        {"steps": 2, "samples": 8},
        [UNKNOWN, {"steps": 0}, {"samples": 0}, {"radius": 0.0}, {"lr": 0.0}, {"forward_size": 1}],
    ),
}
