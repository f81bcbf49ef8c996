"""Machine code of CUDA kernels as ``cuobjdump`` prints it: resources, and the instructions of an innermost loop."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from os import environ
from pathlib import Path
from typing import NamedTuple

_INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]+)\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)([^;]*);")
_ADDRESS = re.compile(r"\b0x([0-9a-f]+)\s*$")
_USE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)")


class Instruction(NamedTuple):
    """One instruction; ``target`` is the address of a branch, or None."""

    address: int
    predicate: str
    opcode: str
    target: int | None

    @property
    def bytes(self) -> int:
        """Bytes of one thread that a load or store moves, or 0."""
        if self.opcode.partition(".")[0] not in ("LD", "LDG", "ST", "STG"):
            return 0
        width = re.search(r"\.(?:[US]?(8|16|64|128))(?=\.|$)", self.opcode)
        return int(width[1]) // 8 if width else 4


class Resources(NamedTuple):
    """Registers of a thread, bytes of its stack (where registers are spilled to), bytes of a block's shared memory."""

    registers: int
    stack: int
    shared: int


def cuobjdump() -> str | None:
    """The path of the program: that of the toolkit, or the one that comes with triton; None where there is none."""
    places = [Path(environ.get("CUDA_HOME", "/usr/local/cuda"), "bin")]
    triton = find_spec("triton")
    if triton is not None and triton.origin is not None:
        places.append(Path(triton.origin).parent / "backends" / "nvidia" / "bin")
    path = ":".join([*map(str, places), environ.get("PATH", "")])
    return shutil.which("cuobjdump", path=path)


def dump(file: Path, *options: str) -> str:
    """The output of ``cuobjdump`` about a library, an object file or a file of machine code.

    Raises:
        FileNotFoundError: there is no cuobjdump.
        RuntimeError: it failed.
    """
    program = cuobjdump()
    if program is None:
        raise FileNotFoundError("cuobjdump: expected it in CUDA_HOME/bin, on the path, or with triton")
    environment = {**environ, "PATH": f"{Path(program).parent}:{environ.get('PATH', '')}"}  # it calls nvdisasm
    command = [program, *options, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def resources(text: str) -> dict[tuple[str, str], Resources]:
    """Resources of the kernels in the output of ``cuobjdump -res-usage``, by architecture and name."""
    uses, arch, name = {}, "", ""
    for line in text.splitlines():
        if line.startswith("arch = "):
            arch = line.split()[-1]
        elif line.strip().startswith("Function "):
            name = line.strip().removeprefix("Function ").rstrip(":")
        elif name and (use := _USE.search(line)):
            uses[arch, name] = Resources(*map(int, use.groups()))
    return uses


def functions(text: str) -> Iterator[tuple[str, list[Instruction]]]:
    """The kernels that ``cuobjdump -sass`` prints, by name."""
    name, code = "", list[Instruction]()
    for line in text.splitlines():
        if "Function :" in line:
            if name:
                yield name, code
            name, code = line.split()[-1], []
        elif match := _INSTRUCTION.match(line):
            address, predicate, opcode, operands = match.groups("")
            target = _ADDRESS.search(operands) if opcode.startswith("BRA") else None
            predicate = predicate or operands.partition(",")[0].strip() if "," in operands and target else predicate
            code.append(Instruction(int(address, 16), predicate, opcode, int(target[1], 16) if target else None))
    if name:
        yield name, code


def loops(code: Sequence[Instruction]) -> Iterator[list[Instruction]]:
    """The instructions of one turn of each loop, as few as lead from its first one to the branch back.

    Of two ways it is the shorter one: that of whole vectors, not that of elements one by one.
    """
    for last, instruction in enumerate(code):
        if instruction.target is None or instruction.target >= instruction.address:
            continue
        first = next(i for i, each in enumerate(code) if each.address == instruction.target)
        way = _shortest(code[first : last + 1])
        if way:
            yield way


def _shortest(code: Sequence[Instruction]) -> list[Instruction]:
    """The shortest way from the first instruction to the last one, forwards only."""
    place = {each.address: i for i, each in enumerate(code)}
    came, steps = {0: -1}, {0: 1}
    for i, each in enumerate(code[:-1]):  # all branches lead forwards, so addresses are an order
        if i not in steps:
            continue
        for after in _after(i, each, place):
            if after > i and steps[i] + 1 < steps.get(after, len(code) + 2):
                came[after], steps[after] = i, steps[i] + 1
    way, i = list[Instruction](), len(code) - 1
    while i >= 0 and i in came:
        way.append(code[i])
        i = came[i]
    return way[::-1]


def _after(i: int, each: Instruction, place: Mapping[int, int]) -> Iterable[int]:
    conditional = each.predicate not in ("", "PT")
    if each.opcode.startswith("BRA"):
        if each.target in place:
            yield place[each.target]
        if conditional:
            yield i + 1
    elif not each.opcode.startswith(("EXIT", "RET")) or conditional:
        yield i + 1
