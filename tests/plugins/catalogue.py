"""Every built-in plugin, with its smallest config: the stack in which the contract is tested; and every attack."""

from typing import Any, NamedTuple


class Entry(NamedTuple):
    """One plugin.

    Args:
        stack: the smallest stack of plugins in which it works, as a config lists them; it is the one called ``name``.
        wrong: settings that it must refuse, each alone.
        stateful: it has a state_dict.
    """

    stack: list[Any]
    wrong: list[dict[str, Any]]
    stateful: bool = False


UNKNOWN = {"no_such_setting": 1}
# Layer groups of the small network that the contract is tested on.
GROUPS = {"1": ["conv.*"], "2": ["bn.*", "linear.*"]}
WEIGHTS = [UNKNOWN, {"gamma": -0.1}, {"gamma": "big"}, {"start": 1.5}, {"exit_order": "never"}]
LAYERS = [UNKNOWN, {"layers": "3"}, {"groups": {"one": ["conv.*"]}}, {"head_group": 1.5}]

CATALOGUE: dict[str, Entry] = {
    "alp": Entry(["fgsm", "alp"], [UNKNOWN, {"weight": -1}, {"mixed": 1}]),
    "amp": Entry(
        ["fgsm", {"amp": {"steps": 2}}],
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
        ["fgsm", {"augment": {"pad": 1, "rotation": 15.0}}],
        [UNKNOWN, {"pad": -1}, {"padding": "ones"}, {"flip": 1}, {"rotation": 181.0}],
    ),
    "awp": Entry(["fgsm", "awp"], [*WEIGHTS, {"tensors": "convolutions"}, {"norm": "l2"}, {"lsc": [1.0]}]),
    "clean": Entry(["clean"], [UNKNOWN]),
    "cross_entropy": Entry(["fgsm", "cross_entropy"], [UNKNOWN]),
    "cutout": Entry(["fgsm", {"cutout": {"size": 2}}], [UNKNOWN, {"size": 0}, {"value": "black"}]),
    "drop_easy": Entry(["fgsm", {"drop_easy": {"c_min": 0.5}}], [UNKNOWN, {"c_min": -1}, {"mean_over": "all"}]),
    "ema": Entry(
        ["fgsm", {"ema": {"tau": 0.5}}],
        [UNKNOWN, {"tau": 1.1}, {"tau": -0.1}, {"start": -1}, {"start": 1.5}, {"warmup": 1}, {"buffers": "live"}],
        stateful=True,
    ),
    "fgsm": Entry(["fgsm"], [UNKNOWN, {"start": "gaussian"}, {"step_size": -1}, {"attack_mode": "test"}]),
    "freeze_layers": Entry(
        ["fgsm", {"freeze_layers": {"layers": [1], "groups": GROUPS}}], [*LAYERS, {"freeze_bn": "yes"}]
    ),
    "l1": Entry(["fgsm", "l1"], [UNKNOWN, {"weight": -1}]),
    "l2_groups": Entry(["fgsm", "l2_groups"], [UNKNOWN, {"weight_decay": -1}, {"legacy_lr": 1}]),
    "mart": Entry(["fgsm", "mart"], [UNKNOWN, {"lam": -1}]),
    "meat": Entry(
        ["fgsm", {"meat": {"start": 0, "history": "memory"}}],
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
    "mixup": Entry(["fgsm", {"mixup": {"num_classes": 3}}], [UNKNOWN, {"num_classes": 1}, {"alpha": 0.0}]),
    "nmse": Entry(["fgsm", "nmse"], [UNKNOWN, {"mu": -1}, {"detach_weight": "no"}]),
    "pgd": Entry(["pgd"], [UNKNOWN, {"steps": 0}, {"step_size": "a/b"}, {"loss": "cw"}, {"restarts": 1.5}]),
    "piat": Entry(
        ["fgsm", "piat"],
        [UNKNOWN, {"lam": 1.5}, {"a": 1.1}, {"b": -1}, {"c": "ten"}, {"n0": 2}, {"buffers": "live"}, {"skip_first": 1}],
        stateful=True,
    ),
    "rat_lr": Entry(
        ["fgsm", {"rat_lr": {"layers": [2], "groups": GROUPS, "form": "corrected"}}],
        [*LAYERS, {"form": "both"}, {"lr": 0.0}],
        stateful=True,
    ),
    "rat_wp": Entry(["fgsm", {"rat_wp": {"layers": [2], "groups": GROUPS}}], [*WEIGHTS, *LAYERS]),
    "rwp": Entry(
        ["fgsm", {"rwp": {"c_min": "inf", "k2": 2}}],
        [*WEIGHTS, {"c_min": -1}, {"c_min": "all"}, {"k2": 0}, {"variant": "mine"}, {"norm": "l2"}, {"inclusive": 1},
         {"accumulate": "mean"}],
    ),
    "swa": Entry(["fgsm", {"swa": {"start": 0}}], [UNKNOWN, {"start": 0.0}, {"start": "0"}], stateful=True),
    "trades": Entry(["fgsm", "trades"], [UNKNOWN, {"beta": -1}, {"clean_forwards": 3}]),
}  # fmt: skip

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
