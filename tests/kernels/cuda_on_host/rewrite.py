"""Turn what only nvcc reads into C++: launches into calls, shared variables into references into the block's memory.

Lines keep their numbers, so that compilers and sanitizers name those of the source.
"""

import re

_SHARED = re.compile(r"__shared__\s+([^;=(){},]*?)(\w+)((?:\s*\[[^\]]*\])*)\s*;")
_VARIABLE = (
    r"using \2_type = \1\3; static char \2_key;"
    r" auto& \2 = *static_cast<\2_type*>(::on_host::shared(&\2_key, sizeof(\2_type)));"
)


def rewrite(source: str) -> str:
    """A CUDA source as C++ for ``include/cuda_runtime.h``.

    Raises:
        ValueError: a launch or a shared variable in a form that is not known here.
    """
    source = _SHARED.sub(_VARIABLE, source)
    if "__shared__" in source:
        raise ValueError("a __shared__ variable: expected one array or number of fixed size in a statement of its own")
    while (at := source.find("<<<")) >= 0:
        source = _without_launch(source, at)
    return source


def _without_launch(source: str, at: int) -> str:
    kernel_at = _kernel_start(source, at)
    kernel = source[kernel_at:at]
    middle = source.find(">>>", at)
    parenthesis = source.find("(", middle)
    if middle < 0 or parenthesis < 0 or not kernel.strip() or source[middle + 3 : parenthesis].strip():
        raise ValueError(f"a launch: expected kernel<<<...>>>(...), got {source[kernel_at : at + 60]!r}")
    end = _closing(source, parenthesis)
    configuration, arguments = source[at + 3 : middle], source[parenthesis:end]
    name = re.match(r"[\w:]+", kernel)
    assert name is not None
    call = f'::on_host::launch("{name[0]}", {{{configuration}}}, [&] {{ {kernel}{arguments}; }})'
    return source[:kernel_at] + call + source[end:]


def _kernel_start(source: str, end: int) -> int:
    """Where ``name`` or ``name<arguments>`` that ends at ``end`` begins."""
    at = len(source[:end].rstrip())
    if source[at - 1] == ">":
        depth = 0
        while at := at - 1:
            depth += {">": 1, "<": -1}.get(source[at], 0)
            if depth == 0:
                break
    while at > 0 and re.match(r"[\w:]", source[at - 1]):
        at -= 1
    return at


def _closing(source: str, at: int) -> int:
    """The end of what the parenthesis at ``at`` opens."""
    depth = 0
    for place in range(at, len(source)):
        depth += {"(": 1, ")": -1}.get(source[place], 0)
        if depth == 0:
            return place + 1
    raise ValueError(f"a launch whose arguments do not end: {source[at : at + 60]!r}")
