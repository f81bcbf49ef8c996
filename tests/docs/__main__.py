"""Every block of every page and README, the slow ones too, each command in a shell: a part of ``make docs``.

python -m tests.docs [PAGE...]
"""

import contextlib
import sys
import tempfile
import time
from pathlib import Path

import torch

from .blocks import PAGES, READMES, blocks
from .runner import run_page
from .stage import copy_for, make_environment, make_folder


def main(pages: list[str]) -> int:
    """Run ``pages``, or all that have anything to run; 1 if a block of one of them fails."""
    torch.set_num_threads(1)  # as the commands have it: a run is reproduced at the same number of threads
    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        stage = make_folder(Path(scratch, "stage"))
        for number, page in enumerate(pages or [page for page in (*READMES, *PAGES) if blocks(page)]):
            folder, began = Path(scratch, f"page{number}"), time.monotonic()
            copy_for(page, stage, folder)
            try:
                with contextlib.chdir(folder):
                    run_page(page, make_environment(folder / ".venv", stage / "configs"), everything=True)
                verdict = "done"
            except Exception as problem:
                failed.append(page)
                verdict = f"{type(problem).__name__}: {problem}"
            print(f"{page:<38} {time.monotonic() - began:6.1f} s  {verdict}", flush=True)
    print(f"{len(failed)} pages failed: {', '.join(failed)}" if failed else "every block ran")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
