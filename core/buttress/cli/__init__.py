"""The command line: one file for each group of verbs, in which every verb is declared above the function it calls.

- ``train``: ``train``, ``resume``, ``reproduce``
- ``evaluate``: ``evaluate``
- ``inspect``: ``audit``, ``analyze``, ``report``
- ``compare``: ``compare``
- ``weights``: ``ensemble``, ``export``
- ``plugins``, ``recipes``, ``config``, ``doctor``, ``completion``: the verbs of these names

``main`` collects them.
"""

from buttress.cli.main import main

__all__ = ["main"]
