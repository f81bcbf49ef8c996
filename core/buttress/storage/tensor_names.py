"""Names of tensors, and what wrappers of a model add to them: prefixes, markers, a counter."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import product

# Parts of names that torch's own wrappers add: compile, FSDP, activation checkpointing.
_MARKERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
AVERAGES = "n_averaged"
"""Counter that torch.optim.swa_utils.AveragedModel saves beside the weights."""


def without_markers(names: Iterable[str]) -> dict[str, str]:
    """Full names by their names without markers; by themselves where two would become one."""
    names = list(names)
    plain = {".".join(part for part in name.split(".") if part not in _MARKERS): name for name in names}
    return plain if len(plain) == len(names) else {name: name for name in names}


def without_prefixes(names: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """``names``, then the same without the first prefix that all have in common, and so on."""
    current = dict(names)
    while True:
        yield current
        firsts = {name.partition(".")[::2] for name in current}
        if len({first for first, _ in firsts}) != 1 or not all(rest for _, rest in firsts):
            return
        current = {name.partition(".")[2]: full for name, full in current.items()}


def matching_names(first: Collection[str], other: Collection[str]) -> dict[str, str]:
    """The names in ``other`` by the names in ``first``, with the least of prefixes and markers left out on either side.

    Names that only one side has are missing.
    """
    if set(first) == set(other):
        return {name: name for name in first}
    pairs = product(without_prefixes(without_markers(first)), without_prefixes(without_markers(other)))
    matches = ({full: theirs[name] for name, full in own.items() if name in theirs} for own, theirs in pairs)
    return max(matches, key=len)
