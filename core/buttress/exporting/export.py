"""``buttress export``: write a model that works without buttress, with everything that explains its numbers.

Two files hold the model, and neither needs buttress:

- ``model.safetensors``: the ``state_dict`` of the network, by the names of its own code, so that it loads there.
- ``model.pt2``: the program itself, by ``torch.export``, which works for any module and needs no source code. It takes
  inputs as they are attacked (pixels in [0, 1]): the normalisation is a part of it, as is all else that a module keeps
  out of its ``state_dict``. Where the model was trained in channels_last, the program runs in that layout, and brings
  inputs of any layout into it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch._dynamo import OptimizedModule

from buttress.errors import RunFolderError, WorkError, kind_and_first_line
from buttress.evaluation.saved_run import SavedRun, load_run
from buttress.exporting.model_card import model_card, robustbench_entry
from buttress.nn.layout import has_channels_last_weights
from buttress.nn.modes import Modes
from buttress.storage.files import write_json, write_text, write_with
from buttress.storage.new_folder import new_folder
from buttress.storage.seals import write_weights

WEIGHTS, PROGRAM, CARD, ENTRY = "model.safetensors", "model.pt2", "README.md", "robustbench.json"

# Examples on which the exported model is compared with the run's.
COMPARED = 32
# Largest difference of logits, over their largest magnitude, that rounding may make between the two.
TOLERANCE = 1e-4


def export_run(
    path: Path, output: Path, track: str = "live", checkpoint: str = "best", *, trust: bool = False
) -> dict[str, str]:
    """Write a run's model to the folder ``output``: weights, program, model card and RobustBench's fields.

    Args:
        path: run folder.
        output: the folder to make.
        track: ``live`` or an ensemble's name.
        checkpoint: ``best`` or ``last``.
        trust: execute the code that came with the run, and remember it as trusted.

    Returns:
        File name to sha256.

    Raises:
        RunFolderError: ``output`` exists; ``path`` is no run.
        TrustError: the model or the data are made by code that came with the run and that the user has not trusted.
        CheckpointError: the run has no such weights.
        WorkError: ``torch.export`` cannot follow the model, or the exported model gives other logits.
    """
    taken = RunFolderError(f"--output {output} exists and is never overwritten; choose another folder", path=output)
    if output.exists():
        raise taken
    run = load_run(path, track, checkpoint, trust=trust)
    try:
        with new_folder(output) as staging:
            digests = _write_model(run, staging)
            digests[ENTRY] = write_json(staging / ENTRY, robustbench_entry(run))
            digests[CARD] = write_text(staging / CARD, model_card(run, digests))
    except FileExistsError:
        raise taken from None
    return digests


def _write_model(run: SavedRun, folder: Path) -> dict[str, str]:
    model = bare_copy(run.model)
    x = run.data.test.batches(torch.arange(min(COMPARED, len(run.data.test))), COMPARED)
    inputs = next(iter(x)).x.cpu().contiguous()
    if has_channels_last_weights(model):
        model.register_forward_pre_hook(_relaid)
    with Modes(model).evaluating():
        program = _program(model, inputs)
        with torch.no_grad():
            expected = model(inputs)
    digests = {WEIGHTS: write_weights(folder / WEIGHTS, model.state_dict(), {})}
    with warnings.catch_warnings():  # of weights in channels_last, which are saved whole
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        digests[PROGRAM] = write_with(folder / PROGRAM, lambda temporary: torch.export.save(program, temporary))
    _expect_same_logits(folder, inputs, expected)
    return digests


def bare_copy(model: nn.Module) -> nn.Module:
    """A copy on the CPU without gradients, and without the wrappers that compile or parallelise and change names."""
    return _unwrapped(copy.deepcopy(model).to("cpu")).requires_grad_(False)


def _relaid(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """``inputs``, of which images are copied into channels_last: always, so that the program holds the copy."""
    images = (isinstance(each, Tensor) and each.dim() == 4 for each in inputs)
    return tuple(
        each.clone(memory_format=torch.channels_last) if is_image else each
        for each, is_image in zip(inputs, images, strict=True)
    )


def _unwrapped(module: nn.Module) -> nn.Module:
    """The module inside of wrappers, here and in every child."""
    while isinstance(module, (OptimizedModule, nn.DataParallel)):
        module = module.get_submodule("_orig_mod" if isinstance(module, OptimizedModule) else "module")
    for name, child in module.named_children():
        setattr(module, name, _unwrapped(child))
    return module


def _program(model: nn.Module, inputs: Tensor) -> torch.export.ExportedProgram:
    shapes: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    shapes[inputs] = {0: torch.export.Dim("batch", min=1)}  # by tensor: forward may call its input anything, or *args
    try:
        return torch.export.export(model, (inputs,), dynamic_shapes=shapes)
    except Exception as problem:  # torch.export raises many kinds; all mean: it cannot follow this model
        raise WorkError(
            f"export: torch.export cannot follow {type(model).__name__}, with a batch of any size: "
            f"{kind_and_first_line(problem)}; take what depends on values or on the batch size out of its forward, "
            "or use the weights in the run's folder weights/"
        ) from problem


def _expect_same_logits(folder: Path, inputs: Tensor, expected: Tensor) -> None:
    logits = load_exported(folder)(inputs)
    difference, scale = float((logits - expected).abs().amax()), float(expected.abs().amax())
    if not difference <= TOLERANCE * scale:
        raise WorkError(
            f"export: the exported model gives other logits than the run's, by up to {difference:g} of {scale:g}; "
            "nothing was written"
        )


@torch.no_grad()
def load_exported(folder: Path) -> nn.Module:
    """The model in an exported folder, as somebody without buttress loads it: in eval mode, for good."""
    weights: Mapping[str, Tensor] = load_file(folder / WEIGHTS)
    with warnings.catch_warnings():  # the loader maps the program's own weights, which are replaced in a moment
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        model: nn.Module = torch.export.load(folder / PROGRAM).module()
    layout = torch.channels_last if has_channels_last_weights(model) else torch.contiguous_format
    model.load_state_dict(weights, assign=True)
    return model.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]
