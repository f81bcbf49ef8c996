"""Faults to plant in the kernels, each by one replacement in a source; the checks have to see all of them."""

from dataclasses import dataclass

MEDIAN, TILE, NETWORKS = "median/cuda.cu", "median/cuda_tile.h", "median/cuda_networks.h"
LOSSES, PERTURB, UPDATE = "lsc/cuda.cu", "perturb/cuda.cu", "perturb/update.h"

SHORTER = (TILE, "kLargest = 128", "kLargest = 8")
"""No fault, but less to compile: rows of the largest network."""


@dataclass(frozen=True)
class Fault:
    """One replacement in a source. A race needs ThreadSanitizer; the cheap faults are tried on every day."""

    kind: str
    path: str
    old: str
    new: str
    race: bool = False
    cheap: bool = False

    @property
    def family(self) -> str:
        return self.path.partition("/")[0]


FAULTS = (
    Fault("tile bound", TILE, "end = begin + kTile < record[1] ?", "end = begin < record[1] ?", cheap=True),
    Fault("rank", NETWORKS, "job.upper != (job.n - 1) / 2", "job.upper != job.n / 2", cheap=True),
    Fault("infinities that fill up", NETWORKS, "filled = (N - n) / 2", "filled = (N - n + 1) / 2", cheap=True),
    Fault("numbers left in a row", NETWORKS, "tile.end - i < P::numbers ?", "tile.end - i < 1 ?", cheap=True),
    Fault("vectors at odd addresses", NETWORKS, "(aligned && count == P::numbers)", "count == P::numbers", cheap=True),
    Fault("zeros of float64", NETWORKS, "rank < negative[k]", "rank <= negative[k]"),
    Fault("rank by bits", MEDIAN, "(below[1] <= rank)", "(below[1] < rank)"),
    Fault("early exit", MEDIAN, "if (rank == before)", "if (rank >= before)"),
    Fault(
        "off-by-one in the table",
        TILE,
        "tensor * (kHead + n) : in_launch",
        "tensor * (kHead + n - 1) : in_launch",
        cheap=True,
    ),
    Fault(
        "32-bit index of a tile", TILE, "(number - record[0]) * kTile", "int(number - record[0]) * kTile", cheap=True
    ),
    Fault(
        "shuffle mask",
        LOSSES,
        "x += __shfl_xor_sync(~0u, x, step)",
        "x += __shfl_xor_sync(~0u >> 1, x, step)",
        cheap=True,
    ),
    Fault(
        "shuffle distance",
        LOSSES,
        "__shfl_xor_sync(~0u, x, step);\n    x = x",
        "__shfl_xor_sync(~0u, x, 1);\n    x = x",
    ),
    Fault(
        "32-bit index of a row", LOSSES, "logits.values + i * logits.classes", "logits.values + int(i * logits.classes)"
    ),
    Fault(
        "uninitialised shared memory",
        LOSSES,
        "counts[threadIdx.x] = count;",
        "if (count > 0) counts[threadIdx.x] = count;",
        cheap=True,
    ),
    Fault("wrong array", PERTURB, "d.widen(t.origin[i]) + multiplier", "d.widen(t.weight[i]) + multiplier", cheap=True),
    Fault(
        "barrier in a branch",
        PERTURB,
        "    __syncthreads();\n    if (int(threadIdx.x) < half) {",
        "    if (int(threadIdx.x) < half) {\n      __syncthreads();",
    ),
    Fault(
        "missing barrier",
        PERTURB,
        "    __syncthreads();\n    if (int(threadIdx.x) < half)",
        "    if (int(threadIdx.x) < half)",
        cheap=True,
    ),
    Fault("missing barrier before reuse", PERTURB, "  __syncthreads();  // before", "  // before"),
    Fault(
        "off-by-one in the search for an item", UPDATE, "items[middle].first <= block", "items[middle].first < block"
    ),
    Fault(
        "two blocks write one number",
        PERTURB,
        "block == item.first && threadIdx.x == 0",
        "threadIdx.x == 0",
        race=True,
        cheap=True,
    ),
    Fault("end of the vectors", PERTURB, "end - (end - begin) % V : begin", "end : begin", cheap=True),
    Fault("vectors at odd addresses", PERTURB, "bits % 16 == 0", "bits % 2 == 0", cheap=True),
    Fault(
        "an array that is not read", PERTURB, "(first ? kWeight : kOrigin | kTotal)", "(first ? 0 : kOrigin | kTotal)"
    ),
    Fault("end of an item's blocks", PERTURB, "items[at + 1].first : blocks", "items[at + 1].first + 1 : blocks"),
)
