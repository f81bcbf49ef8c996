"""Every built-in plugin, with its smallest config: the stack in which the contract is tested."""

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

CATALOGUE: dict[str, Entry] = {
    "clean": Entry(["clean"], [UNKNOWN]),
    "cross_entropy": Entry(["fgsm", "cross_entropy"], [UNKNOWN]),
    "ema": Entry(
        ["fgsm", {"ema": {"tau": 0.5}}],
        [UNKNOWN, {"tau": 1.1}, {"tau": -0.1}, {"start": -1}, {"start": 1.5}, {"warmup": 1}, {"buffers": "live"}],
        stateful=True,
    ),
    "fgsm": Entry(["fgsm"], [UNKNOWN, {"start": "gaussian"}, {"step_size": -1}, {"attack_mode": "test"}]),
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
    "pgd": Entry(["pgd"], [UNKNOWN, {"steps": 0}, {"step_size": "a/b"}, {"loss": "cw"}, {"restarts": 1.5}]),
    "swa": Entry(["fgsm", {"swa": {"start": 0}}], [UNKNOWN, {"start": 0.0}, {"start": "0"}], stateful=True),
}
