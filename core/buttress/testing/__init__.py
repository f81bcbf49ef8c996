"""The promises that a plugin, an attack or a logger keeps: one test each in its author's pytest, or one report of all.

    from buttress.testing import promises

    @pytest.mark.parametrize("promise", promises(MyDefense), ids=str)
    def test_my_defense_keeps(promise):
        promise.check()

``check_plugin(MyDefense)`` checks all at once and raises with every promise that is broken; ``examine`` gives the
report of ``buttress plugins check``. An attack of evaluations is examined with ``kind="attack"``, a logger with
``kind="logger"``.
"""

from buttress.testing.promise import BrokenPromiseError, Promise
from buttress.testing.report import Report, Result, check_plugin, examine, promises
from buttress.testing.subject import Subject
from buttress.testing.waiting import Waits

__all__ = [
    "BrokenPromiseError",
    "Promise",
    "Report",
    "Result",
    "Subject",
    "Waits",
    "check_plugin",
    "examine",
    "promises",
]
