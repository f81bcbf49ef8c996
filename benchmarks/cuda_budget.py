"""Costs of the CUDA kernels on paper, by what the compiler made of them: no GPU is needed.

``cuobjdump`` shows registers, stack and machine code. Of each kernel the loop over elements counts, by the shortest way
through one turn of it (`sass.py`). That gives instructions an element, by the unit that runs them, and bytes. The
*floor* is the time of the bytes at the speed of a copy; the *share* is the floor over the longest of: the bytes, each
unit, the issue of instructions, as if all of them ran side by side. *In turn* is the share if computing began when the
bytes had come. A real run lies between the two if the numbers of the hardware hold; latency is not in them.

The hardware is an H200: 132 multiprocessors at 1.75 GHz and a copy of 4.3 TB/s. Results a clock of each: 64 minima,
maxima, comparisons, selections, integer additions, shifts, logical operations, integer products and float64 operations,
16 conversions, 128 instructions in all. Minima, maxima and conversions are those that the CUDA programming guide has in
its table of arithmetic throughput for compute capability 7.x; none of these rates was measured on 9.0.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sass
from sass import Instruction

COPY, MULTIPROCESSORS, CLOCK = 4.3e12, 132, 1.75e9
"""Bytes a second; number; turns a second."""
UNITS = {"logic": 64, "product": 64, "float64": 64, "convert": 16, "memory": 32, "issue": 128}
"""Results a clock and multiprocessor."""
_UNIT = (
    ("memory", re.compile(r"LD|ST")),
    ("float64", re.compile(r"D(ADD|MUL|FMA|SETP)")),
    ("convert", re.compile(r"F2[FI]\b|I2|MUFU")),
    ("product", re.compile(r"IMAD")),
    ("logic", re.compile(r"[FIH]?V?I?H?MNMX|VIMNMX|VHMNMX|[FI]SETP|F?SEL|P?LOP3|SHF|IADD|VIADD|LEA|PRMT|F2FP|HADD2")),
)

TYPES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
ROWS = (3, 9, 16, 31, 60, 61, 120)
_NETWORK = re.compile(r"by_networkILNS_4TypeE(\d)ELi(\d+)E")
_PASS = re.compile(r"(?:by_block|update)INS1_(\d+)(\w+)")
OPERATIONS = {
    "perturb_": ("PerturbSums", "Perturb"),
    "restore_": ("Restore",),
    "unperturb_": ("Unperturb",),
    "rwp_first_step_": ("RwpFirstSums", "Rwp<first>"),
    "rwp_step_": ("RwpSums", "Rwp"),
    "amp_first_step_": ("AmpSums<first>", "Amp<first>"),
    "amp_step_": ("AmpSums", "Amp"),
}
"""The passes over elements of each operation; where there are two, a short launch lies between them."""
ARRAYS = {
    "PerturbSums": 2,
    "Perturb": 4,
    "Restore": 2,
    "Unperturb": 4,
    "RwpFirstSums": 4,
    "Rwp<first>": 3,
    "RwpSums": 3,
    "Rwp": 3,
    "AmpSums<first>": 1,
    "Amp<first>": 5,
    "AmpSums": 2,
    "Amp": 5,
}
"""Numbers of each element that a pass reads and writes."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("files", nargs="*", type=Path, help="libraries or object files (default: the extension)")
    options.add_argument("--json", type=Path, help="file for the results")
    chosen = options.parse_args()
    if missing := [str(file) for file in chosen.files if not file.is_file()]:
        options.error(f"no such file: {', '.join(missing)}")
    result = budget(chosen.files or [extension()])
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(*lines(result), sep="\n")


def extension() -> Path:
    """The extension of the torch that is installed.

    Raises:
        SystemExit: there is none.
    """
    from buttress.kernels import native

    loaded = native._load()
    if isinstance(loaded, ImportError):
        raise SystemExit(f"cuda_budget: {native.why_not()}")
    return Path(str(loaded.__file__))


def budget(files: Sequence[Path]) -> dict[str, Any]:
    """Resources of all kernels, and the budgets of the median and of the perturbations on compute capability 9.0."""
    resources, medians, passes = dict[tuple[str, str], sass.Resources](), [], []
    for file in files:
        of_file = sass.resources(sass.dump(file, "-res-usage"))
        resources |= of_file
        names = [name for arch, name in of_file if arch == "sm_90" and _wanted(name)]
        if not names:
            continue
        for name, code in sass.functions(sass.dump(file, "-arch", "sm_90", "-sass", "-fun", ",".join(names))):
            use = of_file["sm_90", name]
            facts = {"registers": use.registers, "stack": use.stack}
            if network := _NETWORK.search(name):
                facts["warps"] = warps(use.registers)
                medians += [facts | each for each in of_median(int(network[1]), int(network[2]), code)]
            elif match := _PASS.search(name):
                own, rest = match[2][: int(match[1])], match[2][int(match[1]) :]
                passes.append(facts | of_pass(own + ("<first>" if rest.startswith("ILb1") else ""), code))
    return {
        "hardware": {"copy, bytes/s": COPY, "multiprocessors": MULTIPROCESSORS, "clock, 1/s": CLOCK, "units": UNITS},
        "kernels": len(resources),
        "most registers": {
            arch: max(use.registers for (of, _), use in resources.items() if of == arch)
            for arch in sorted({arch for arch, _ in resources})
        },
        "with a stack": sorted(f"{arch} {name}" for (arch, name), use in resources.items() if use.stack),
        "median": sorted(medians, key=lambda each: (list(TYPES).index(each["dtype"]), each["rows"])),
        "perturbations": operations(passes),
    }


def warps(registers: int) -> int:
    """Warps of a multiprocessor at a time: of blocks of 128 threads, as many as its 65,536 registers serve."""
    of_warp = -(-registers // 8) * 8 * 32
    return min(65536 // (4 * of_warp), 16) * 4


def network_of(rows: int) -> int:
    """The size of the network that serves so many rows (csrc/median/cuda_networks.h)."""
    step = 2 if rows <= 32 else 4 if rows <= 64 else 8
    return -(-rows // step) * step


def _wanted(name: str) -> bool:
    network = _NETWORK.search(name)
    return int(network[2]) in {network_of(rows) for rows in ROWS} if network else _PASS.search(name) is not None


def of_median(dtype: int, size: int, code: Sequence[Instruction]) -> list[dict[str, Any]]:
    """The budget of a network, for each of the numbers of rows that it serves."""
    name = list(TYPES)[dtype]
    turn = max(sass.loops(code), key=lambda way: sum("EF" in each.opcode for each in way))
    elements = sum(each.bytes for each in turn if ".EF" in each.opcode and each.opcode.startswith("LD")) / (
        size * TYPES[name]
    )
    return [
        {"dtype": name, "rows": rows, "network": size, "elements a thread": int(elements)}
        | predicted(turn, elements, (rows + 1) * TYPES[name])
        for rows in ROWS
        if network_of(rows) == size
    ]


def of_pass(name: str, code: Sequence[Instruction]) -> dict[str, Any]:
    """The budget of the dearest dtype of a pass; the loops over 16 bytes of each array count."""
    turns = []
    for turn in sass.loops(code):
        moved = sum(each.bytes for each in turn if each.bytes == 16)
        if moved:
            turns.append(predicted(turn, moved, 1))
    return {"pass": name, "arrays": ARRAYS[name]} | min(turns, key=lambda each: each["share"])


def predicted(turn: Iterable[Instruction], count: float, bytes_of_one: int) -> dict[str, Any]:
    """Instructions of one of ``count`` elements or bytes in a turn of the loop, and the shares that they leave."""
    work = Counter({"issue": 0})
    for each in turn:
        work["issue"] += 1
        work[unit_of(each.opcode)] += 1
    work.pop("", None)
    times = {unit: work[unit] / count / UNITS[unit] / MULTIPROCESSORS / CLOCK for unit in work}
    floor, slowest = bytes_of_one / COPY, max(times, key=lambda unit: times[unit])
    return {
        "bytes": bytes_of_one,
        "instructions": {unit: round(number / count, 2) for unit, number in sorted(work.items())},
        "bound": slowest if times[slowest] > floor else "copy",
        "share": round(floor / max(floor, times[slowest]), 3),
        "in turn": round(floor / (floor + times[slowest]), 3),
    }


def unit_of(opcode: str) -> str:
    """The unit that limits an instruction beside its issue, or an empty text."""
    return next((unit for unit, pattern in _UNIT if pattern.match(opcode)), "")


def operations(passes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The budget of each operation: that of its passes, which move different numbers of bytes."""
    by_name = {each["pass"]: each for each in passes}
    result = []
    for name, parts in OPERATIONS.items():
        if not all(part in by_name for part in parts):
            continue
        of = [by_name[part] for part in parts]
        arrays = sum(each["arrays"] for each in of)
        result.append(
            {
                "operation": name,
                "launches": 3 if len(parts) == 2 else 1,
                "bytes": 4 * arrays,
                "registers": max(each["registers"] for each in of),
                "share": round(arrays / sum(each["arrays"] / each["share"] for each in of), 3),
                "in turn": round(arrays / sum(each["arrays"] / each["in turn"] for each in of), 3),
                "passes": of,
            }
        )
    return result


def lines(result: Mapping[str, Any]) -> list[str]:
    """The result as plain tables."""
    most = ", ".join(f"{count} on {arch}" for arch, count in result["most registers"].items())
    text = [
        f"{result['kernels']} kernels; most registers: {most}; with a stack: {result['with a stack'] or 'none'}",
        "",
    ]
    for each in result["median"]:
        work = " ".join(f"{unit} {number}" for unit, number in each["instructions"].items())
        text.append(
            f"{each['dtype']:9} {each['rows']:4} rows {each['registers']:4} registers {each['warps']:3} warps "
            f"{each['bytes']:4} B  "
            f"{each['share']:.2f} ({each['bound']}), in turn {each['in turn']:.2f}  {work}"
        )
    for each in result["perturbations"]:
        text.append(
            f"{each['operation']:16} {each['launches']} launches {each['registers']:4} registers {each['bytes']:4} B  "
            f"{each['share']:.2f}, in turn {each['in turn']:.2f}"
        )
    return text


if __name__ == "__main__":
    main()
