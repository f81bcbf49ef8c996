"""Imported once by the server that forks the processes to be killed: what each of them would import and search anew."""

import torch._dynamo  # noqa: F401  (torch imports it with the first optimizer)

from buttress.components.sources import GROUPS, sources

from . import kills  # noqa: F401

for kind in GROUPS:
    sources(kind)
