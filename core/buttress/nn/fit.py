"""Compare named weights with a model; prefixes and markers of wrappers around either make no difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import product

from torch import Tensor, nn

from buttress.errors import nearest
from buttress.storage.tensor_names import AVERAGES, without_markers, without_prefixes

# Batch norm's counter, which files from before torch 0.4.1 lack; it matters without a momentum only.
_COUNTER = "num_batches_tracked"
# Number of names of a kind that a message lists.
_LISTED = 3


@dataclass(frozen=True)
class _Alignment:
    """Full names in the model and in the weights by their common name; names of ``fresh`` are in neither."""

    own: Mapping[str, str]
    given: Mapping[str, str]

    @property
    def common(self) -> list[str]:
        return [name for name in self.own if name in self.given]


class Fit:
    """How well ``weights`` fit a model. Nothing is loaded before ``load``.

    Prefixes that all names have in common (``module.``, ``model.``, also stacked) and markers of torch's wrappers
    (``_orig_mod.``) are left out on either side, where the names agree without them.

    Args:
        model: the model.
        weights: tensors by name.
        fresh: names or patterns of tensors that are not loaded; a module stands for all tensors below it.
    """

    def __init__(self, model: nn.Module, weights: Mapping[str, Tensor], fresh: Sequence[str] = ()) -> None:
        self._model, self._weights = model, weights
        self._fresh = dict.fromkeys(fresh, False)  # with whether the pattern matches a name
        self._own = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
        own = self._without_fresh(without_markers(self._own))
        given = self._without_fresh(without_markers(name for name in weights if name != AVERAGES or name in self._own))
        pairs = product(without_prefixes(own), without_prefixes(given))
        alignments = (_Alignment(self._without_fresh(a), self._without_fresh(b)) for a, b in pairs)
        self._names = max(alignments, key=self._agreement)  # among equals the first, with the least stripped off

    @property
    def is_whole(self) -> bool:
        """Whether every parameter and buffer gets its value, except those left fresh."""
        return bool(self._names.common) and not (self._unknown or self._missing or self._unexpected or self._reshaped)

    @property
    def score(self) -> tuple[int, int]:
        """Number of tensors that agree in name and shape, and number that agree in name; higher is better."""
        return self._agreement(self._names)

    def load(self) -> None:
        """Give the model the weights; only where ``is_whole``."""
        self._model.load_state_dict(self._assignment, strict=False)

    def loads_the_same_as(self, other: "Fit") -> bool:
        """Whether both give the model equal values."""
        mine, theirs = self._assignment, other._assignment
        return mine.keys() == theirs.keys() and all(_equal(tensor, theirs[name]) for name, tensor in mine.items())

    def refusal(self, name: str) -> str:
        """The reason why weights called ``name`` do not fit, and the cure."""
        if self._unknown:
            known = {part for each in (*self._names.own, *self._names.given) for part in (each, _module(each))}
            hint = nearest(self._unknown[0], known)
            return f"except: {self._unknown[0]!r} names nothing in the model or in {name}{hint}"
        if not self._own or not (self._names.own or self._names.given):
            return f"{name}: except leaves nothing to load; leave weights out to start with a fresh model"
        if self._is_head:
            return (
                f"{name} fits but for the head: {_listed(self._differences)}; to train with a fresh head give "
                f"weights: {{file: {name}, except: [{', '.join(self._modules)}]}}"
            )
        kinds = (("missing", self._missing), ("unexpected", self._unexpected), ("other shape", self._shapes))
        parts = "; ".join(f"{kind} {_listed(names)}" for kind, names in kinds if names)
        return f"{name} holds the weights of another model: {parts}; choose the model that they were trained with"

    def _without_fresh(self, names: Mapping[str, str]) -> dict[str, str]:
        matching = {name: [each for each in self._fresh if _matches(name, each)] for name in names}
        self._fresh.update((pattern, True) for patterns in matching.values() for pattern in patterns)
        return {name: full for name, full in names.items() if not matching[name]}

    def _agreement(self, names: _Alignment) -> tuple[int, int]:
        common = names.common
        return sum(self._same_shape(names, name) for name in common), len(common)

    def _same_shape(self, names: _Alignment, name: str) -> bool:
        return self._own[names.own[name]].shape == self._weights[names.given[name]].shape

    @property
    def _assignment(self) -> dict[str, Tensor]:
        return {self._names.own[name]: self._weights[self._names.given[name]] for name in self._names.common}

    @cached_property
    def _missing(self) -> list[str]:
        lacking = sorted(set(self._names.own) - set(self._names.given))
        return [self._names.own[name] for name in lacking if name.rpartition(".")[2] != _COUNTER]

    @cached_property
    def _unexpected(self) -> list[str]:
        return [self._names.given[name] for name in sorted(set(self._names.given) - set(self._names.own))]

    @cached_property
    def _reshaped(self) -> list[str]:
        return [self._names.own[name] for name in self._names.common if not self._same_shape(self._names, name)]

    @property
    def _unknown(self) -> list[str]:
        """The patterns of ``fresh`` that match no name on either side."""
        return [pattern for pattern, names_something in self._fresh.items() if not names_something]

    @property
    def _is_head(self) -> bool:
        """Whether only the model's last tensors differ, and most tensors agree."""
        differing = {*self._missing, *self._reshaped}
        order = [name for name in self._names.own.values() if name.rpartition(".")[2] != _COUNTER]
        last = set(order[len(order) - len(differing) :])
        return bool(differing) and last == differing and 2 * len(differing) <= len(order)

    @property
    def _shapes(self) -> list[str]:
        pairs = {name: (list(self._own[name].shape), list(self._assignment[name].shape)) for name in self._reshaped}
        return [f"{name} is {own} in the model and {given} in the file" for name, (own, given) in pairs.items()]

    @property
    def _differences(self) -> list[str]:
        missing = [f"{name} {list(self._own[name].shape)} is in the model alone" for name in self._missing]
        unexpected = [f"{name} {list(self._weights[name].shape)} is in the file alone" for name in self._unexpected]
        return self._shapes + missing + unexpected

    @property
    def _modules(self) -> list[str]:
        """The modules of the tensors that differ, by the names that ``fresh`` takes."""
        shared = [*self._names.own.items(), *self._names.given.items()]
        differing = {*self._missing, *self._reshaped, *self._unexpected}
        return list(dict.fromkeys(_module(name) for name, full in shared if full in differing))


def _equal(one: Tensor, two: Tensor) -> bool:
    if one.dtype != two.dtype or one.shape != two.shape:
        return False
    return bool(((one == two) | (one.isnan() & two.isnan())).all())


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _module(name: str) -> str:
    """The module of a tensor, or the tensor's own name where it belongs to no module."""
    return name.rpartition(".")[0] or name


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_LISTED]) + (" ..." if len(texts) > _LISTED else "")
