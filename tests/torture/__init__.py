"""``make torture``: what could lose a run, tried many times, with the numbers in ``docs/reliability.md``.

A module gives one section: a function ``section(work, rng) -> Section`` (see ``report.py``) that does its worst in the
folder ``work`` and counts; ``__main__.py`` lists the modules. A test beside it runs a short form in ``make test``.
"""
