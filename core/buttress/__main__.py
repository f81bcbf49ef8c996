"""``python -m buttress``: the ``buttress`` command."""

import os
import sys

if not sys.flags.safe_path and sys.path and sys.path[0] == os.getcwd():  # noqa: PTH109
    del sys.path[0]  # -m puts the working folder there, and a json.py in it would be taken for Python's

from buttress.cli import main

if __name__ == "__main__":
    sys.exit(main())
