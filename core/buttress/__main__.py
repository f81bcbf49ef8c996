"""``python -m buttress``: the ``buttress`` command."""

import sys

from buttress.cli import main

sys.exit(main())
