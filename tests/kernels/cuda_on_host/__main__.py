"""Run the checks of some families on a library, in small: ``python -m tests.kernels.cuda_on_host LIBRARY median lsc``.

NumPy alone, so that it starts at once and sanitizers may be loaded before it.
"""

import sys
from pathlib import Path

from tests.kernels.cuda_on_host.device import Device
from tests.kernels.cuda_on_host.quick import CHECKS

if __name__ == "__main__":
    library, *names = sys.argv[1:]
    for name in names:
        CHECKS[name](Device(Path(library)))
