"""Choose among a model's parameters, for methods that work in weight space."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that require a gradient; tied ones once."""
    return [weight for weight in model.parameters() if weight.requires_grad]


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """Trainable parameters with more than one dimension and ``weight`` in their name, which AWP and RWP perturb.

    Convolutions, shortcuts and the classifier; no batch norm, no bias, no positional embedding.
    """
    named = model.named_parameters()
    return [weight for name, weight in named if weight.requires_grad and weight.dim() > 1 and "weight" in name]


def regularised_names(model: nn.Module) -> set[str]:
    """Names of the parameters that are weights: no norm layer's, and neither ``bn`` nor ``bias`` in the name."""
    norms = norm_names(model)
    every = (name for name, _ in model.named_parameters())
    return {name for name in every if name not in norms and "bn" not in name and "bias" not in name}


def norm_names(model: nn.Module) -> set[str]:
    """Names of the parameters of norm layers: torch's, and others with ``Norm`` in the name of their class."""
    return {
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        if isinstance(module, _NORMS) or "Norm" in type(module).__name__
        for name, _ in module.named_parameters(recurse=False)
    }


def bias_names(model: nn.Module) -> set[str]:
    """Names of the biases: the last part ends with ``bias``, as in ``fc.bias`` and ``attn.q_bias``."""
    return {name for name, _ in model.named_parameters() if name.endswith("bias")}


def matrix_names(model: nn.Module) -> list[str]:
    """Names, in order, of the weights of linear layers and convolutions: more than one dimension, no embedding."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return [
        name
        for name, weight in model.named_parameters()
        if weight.dim() > 1 and "weight" in name.rpartition(".")[2] and id(weight) not in embeddings
    ]


def vector_names(model: nn.Module) -> set[str]:
    """Names of the parameters of one dimension or none: norms, biases, scales of layers."""
    return {name for name, weight in model.named_parameters() if weight.dim() < 2}


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """``[n]`` L2 norms of n tensors, in float32 or wider; not finite where an element is not."""
    wide = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
    return torch.stack(torch._foreach_norm(list(tensors), dtype=wide))
