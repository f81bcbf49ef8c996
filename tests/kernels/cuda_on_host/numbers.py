"""The dtypes of the kernels in NumPy, which has no bfloat16: it is held as the upper halves of float32."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Number:
    """A dtype: its place in ``csrc/common/number.h``, and the NumPy dtypes of storage, arithmetic and bits."""

    name: str
    index: int
    stored: Any
    wide: Any
    bits: Any
    eps: float
    tiny: float

    @property
    def sign(self) -> int:
        return 1 << (8 * np.dtype(self.bits).itemsize - 1)

    def widen(self, stored: Array) -> Array:
        if self.name != "bfloat16":
            return stored.astype(self.wide)
        return (stored.astype(np.uint32) << 16).view(np.float32)

    def narrow(self, values: Array) -> Array:
        """Round to nearest, ties to even; NaN becomes the one that the kernels write."""
        with np.errstate(over="ignore"):
            wide = np.asarray(values).astype(self.wide)
        stored = _upper_half(wide) if self.name == "bfloat16" else wide.astype(self.stored)
        return np.where(np.isnan(wide), self.nan(), stored)

    def nan(self) -> Any:
        return np.uint16(0x7FC0) if self.name == "bfloat16" else self.stored(np.nan)

    def keys(self, stored: Array) -> Array:
        """Unsigned integers in the order of the numbers, -0 before 0."""
        bits = stored.view(self.bits)
        return np.where(bits & self.bits(self.sign), ~bits, bits | self.bits(self.sign))

    def from_keys(self, keys: Array) -> Array:
        bits = np.where(keys & self.bits(self.sign), keys ^ self.bits(self.sign), ~keys)
        return bits.view(self.stored)


def _upper_half(wide: Array) -> Array:
    bits = wide.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


FLOAT32 = Number("float32", 0, np.float32, np.float32, np.uint32, 2.0**-23, 2.0**-149)
FLOAT64 = Number("float64", 1, np.float64, np.float64, np.uint64, 2.0**-52, 2.0**-1074)
FLOAT16 = Number("float16", 2, np.float16, np.float32, np.uint16, 2.0**-10, 2.0**-24)
BFLOAT16 = Number("bfloat16", 3, np.uint16, np.float32, np.uint16, 2.0**-7, 2.0**-133)
NUMBERS = (FLOAT32, FLOAT64, FLOAT16, BFLOAT16)
