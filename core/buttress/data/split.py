"""``Data``, the answer of a data set plugin, and its splits: examples in memory or read while training."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from buttress.data.examples import NO_LABEL, check_inputs, check_labels, kind_of
from buttress.errors import DataError
from buttress.nn.contract import is_dense
from buttress.storage.fingerprints import sha256_of_tensor
from buttress.threat import ThreatModel
from buttress.types import Batch


class Split:
    """Examples in memory.

    A data set too big for memory overrides every method; nothing else of the core touches the tensors.

    Args:
        x: ``[n,*]`` floating-point inputs inside the box.
        y: ``[n]`` int64 labels.
        memory_format: memory format of the batches' inputs.
        aux: further ``[n,...]`` tensors by name, for plugins that read ``batch.aux``.

    Raises:
        DataError: a tensor is not dense, or they differ in length.
    """

    aux: Mapping[str, Tensor] = MappingProxyType({})
    reads_rows: bool = False
    """Whether each of several processes reads its own rows of a training batch alone. Else all have the whole batch."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        memory_format: torch.memory_format = torch.contiguous_format,
        aux: Mapping[str, Tensor] | None = None,
    ) -> None:
        aux = dict(aux or {})
        for name, value in {"x": x, "y": y, **{f"aux[{name!r}]": value for name, value in aux.items()}}.items():
            if not is_dense(value) or value.dim() == 0:
                raise DataError(f"Split: expected {name} to be a dense tensor [n,*], got {kind_of(value)}")
        if len(x) != len(y):
            raise DataError(f"Split: expected a label for each input, got {len(x)} inputs and {len(y)} labels")
        for name, value in aux.items():
            if len(value) != len(x):
                raise DataError(f"Split: expected aux[{name!r}] to have {len(x)} rows, as x, got {kind_of(value)}")
        self.x, self.y, self.memory_format, self.aux = x, y, memory_format, aux

    def __len__(self) -> int:
        return len(self.y)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.x.shape[1:])

    @property
    def dtype(self) -> torch.dtype | None:
        """Dtype of the inputs; None where they are not in memory."""
        x = getattr(self, "x", None)
        return None if x is None else x.dtype

    def check(self, name: str, num_classes: int, threat: ThreatModel) -> None:
        """Check that every input is finite and inside the box, and every label in range.

        In the split ``extra`` the label ``NO_LABEL`` is in range too.

        Raises:
            DataError: names the split (``name``), the position and the value of the first example that is not.
        """
        check_inputs(f"data, split {name}", self.x, threat)
        check_labels(f"data, split {name}", self.y, num_classes, least=least_label(name))

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> Split:
        """The same examples on a device, with batches in a memory format."""
        aux = {name: value.to(device) for name, value in self.aux.items()}
        return Split(self.x.to(device), self.y.to(device), memory_format, aux)

    def fingerprint(self) -> dict[str, Any]:
        """A record by which a run notices later that the examples are others: ``n``, and sha256 of the tensors.

        A split without tensors that does not override this is known only by the number and the shape of its examples.
        """
        tensors = {"inputs": getattr(self, "x", None), "labels": getattr(self, "y", None)}
        tensors |= {f"aux {name}": value for name, value in self.aux.items()}
        hashes = {name: sha256_of_tensor(tensor) for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
        return {"n": len(self), "shape": list(self.example_shape), **hashes}

    def extent(self) -> tuple[float, float] | None:
        """The least and the greatest value of all inputs; None where the inputs are not in memory."""
        x = getattr(self, "x", None)
        return None if x is None else (x.amin().item(), x.amax().item())

    def class_counts(self, num_classes: int) -> list[int] | None:
        """The number of labelled examples of each class; None where the labels are not in memory."""
        y = getattr(self, "y", None)
        return None if y is None else torch.bincount(y[y > NO_LABEL], minlength=num_classes).tolist()

    def label_range(self) -> tuple[int, int] | None:
        """The least and the greatest label; None where the labels are not in memory."""
        y = getattr(self, "y", None)
        return (int(y.min()), int(y.max())) if isinstance(y, Tensor) and len(y) else None

    def batches(self, order: Tensor, batch_size: int, start: int = 0) -> Iterator[Batch]:
        """Batches of ``order`` (``[n]`` int64 positions, on the CPU), from batch number ``start`` on."""
        order = order.to(self.y.device)
        for first in range(start * batch_size, len(order), batch_size):
            index = order[first : first + batch_size]
            aux = {name: value[index] for name, value in self.aux.items()}
            yield Batch(self.x[index].contiguous(memory_format=self.memory_format), self.y[index], index, aux)

    def batches_at(self, parts: Sequence[Tensor]) -> Iterator[Batch]:
        """One batch for each of ``parts`` (``[b]`` int64 positions, on the CPU, b at least 1 and not always the same).

        A split that reads while training makes all of them with the same worker processes.
        """
        for part in parts:
            yield from self.batches(part, len(part))


def least_label(name: str) -> int:
    """The least label that a split of this name may hold."""
    return NO_LABEL if name.partition(",")[0] == "extra" else 0


@dataclass(frozen=True)
class Data:
    """A loaded data set, the answer of a data set plugin.

    Args:
        train: training split.
        test: test split, never used to choose anything.
        num_classes: K; labels are 0 .. K-1.
        validation: held-out split on which the best epoch is chosen, or None.
        notes: facts that belong in the manifest (sizes, injected label noise).
        true_labels: ``[n]`` labels of the training split before noise was injected into them, or None where none was.
        extra: further training examples, some of which are drawn into every batch where a config has ``data.extra``;
            the label ``NO_LABEL`` (-1) stands for none.
    """

    train: Split
    test: Split
    num_classes: int
    validation: Split | None = None
    notes: Mapping[str, object] = field(default_factory=dict)
    true_labels: Tensor | None = None
    extra: Split | None = None

    def __post_init__(self) -> None:
        with suppress(TypeError):  # no integer of any kind: ``check_data`` says so
            object.__setattr__(self, "num_classes", operator.index(self.num_classes))

    def splits(self) -> dict[str, Split]:
        """Split by name, in the order train, validation, test, extra; a missing one is left out."""
        named = {"train": self.train, "validation": self.validation, "test": self.test, "extra": self.extra}
        return {name: split for name, split in named.items() if split is not None}

    @cached_property
    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """Split name to the fingerprint of its examples; computed once."""
        return {name: split.fingerprint() for name, split in self.splits().items()}
