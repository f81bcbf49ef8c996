"""``python -m buttress``: the ``buttress`` command."""

import sys

from buttress.cli import main

if __name__ == "__main__":
    sys.exit(main())
