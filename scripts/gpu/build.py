"""Build the extension with its CUDA part in place, for the GPU of this machine."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the facts about the extension")
    options = parser.parse_args()
    major, minor = torch.cuda.get_device_capability()
    switches = {
        "BUTTRESS_EXTENSION": "1",
        "BUTTRESS_CUDA": "1",
        "TORCH_CUDA_ARCH_LIST": f"{major}.{minor}",
        "MAX_JOBS": str(os.cpu_count()),
    }
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | switches, stdout=sys.stderr, check=False)
    if done.returncode:
        return done.returncode
    from buttress.kernels import status  # the library that is there now

    kernels = status()
    if options.json:
        options.json.write_text(json.dumps({"switches": switches, "kernels": kernels}, indent=1) + "\n")
    print(*(f"{name}: {text}" for name, text in kernels.items()), sep="\n")
    if kernels.get("CUDA") != "yes":
        print("the extension that was built has no CUDA part", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
