"""Find the depth at which every parameter of a network lies, for learning rates that fall towards the input.

The depth of a network that offers ``group_matcher()`` is that of timm, by its own patterns: the embedding or the stem
first, then block by block, the classifier last. In any other network it is read off the modules, in the order in which
they were made. Opened are the network itself, every ``Sequential`` and ``ModuleList``, a module that has one child and
nothing else, and a module that holds a row of blocks. What is not opened is one layer of depth: a residual block, a
convolution, the classifier. A norm layer belongs to the layer before it, and a parameter that an opened module has for
itself (a class token, a position embedding) to the first one.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from buttress.nn.weights import norm_names


def depths(model: nn.Module) -> dict[str, int]:
    """The 0-based depth of every parameter, by name; see above."""
    matched = _depths_of_timm(model)
    return _depths_of_modules(model) if matched is None else matched


def _depths_of_timm(model: nn.Module) -> dict[str, int] | None:
    """By the patterns of a model of timm; None for any other, or where they leave a parameter out."""
    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        return None
    from timm.models import group_parameters

    depth_of = group_parameters(model, matcher(coarse=False), reverse=True)
    names = [name for name, _ in model.named_parameters()]
    return {name: int(depth_of[name]) for name in names} if set(names) <= set(depth_of) else None


def _depths_of_modules(model: nn.Module) -> dict[str, int]:
    own, layers = list[str](), list[list[str]]()
    norms = norm_names(model)
    for is_layer, names in _parts(model, "", opened=True):
        if not is_layer:
            own += names
        elif layers and (norms.issuperset(names) or norms.issuperset(layers[-1])):
            layers[-1] += names
        else:
            layers.append(list(names))
    depth_of = dict.fromkeys(own, 0) | {name: depth for depth, names in enumerate(layers) for name in names}
    return {name: depth_of[name] for name, _ in model.named_parameters()}


def _parts(module: nn.Module, prefix: str, *, opened: bool) -> Iterator[tuple[bool, list[str]]]:
    """Layers of depth in order, each with the names of its parameters; False for parameters of an opened module."""
    children = {name: child for name, child in module.named_children() if _has_parameters(child)}
    if not opened or not children:
        yield True, [prefix + name for name, _ in module.named_parameters(remove_duplicate=False)]
        return
    if own := [prefix + name for name, _ in module.named_parameters(recurse=False)]:
        yield False, own
    for name, child in children.items():
        yield from _parts(child, f"{prefix}{name}.", opened=_is_opened(child))


def _is_opened(module: nn.Module) -> bool:
    is_row = isinstance(module, (nn.Sequential, nn.ModuleList))
    has_own = next(module.parameters(recurse=False), None) is not None
    is_shell = len(list(filter(_has_parameters, module.children()))) == 1 and not has_own
    return is_row or is_shell or any(map(_is_row_of_blocks, module.modules()))


def _is_row_of_blocks(module: nn.Module) -> bool:
    """Whether it is a row of two or more modules of one class that have children with parameters themselves."""
    if not isinstance(module, (nn.Sequential, nn.ModuleList)):
        return False
    blocks = [type(child) for child in module.children() if any(map(_has_parameters, child.children()))]
    return len(blocks) > 1 and len(set(blocks)) == 1


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
