"""The promises that a plugin keeps, as checks that its author runs: one test each in pytest, or all in one report.

    from buttress.testing import promises

    @pytest.mark.parametrize("promise", promises(MyDefense), ids=str)
    def test_my_defense_keeps(promise):
        promise.check()

``check_plugin(MyDefense)`` checks all at once and raises with every promise that is broken; ``examine`` gives the
report of ``buttress plugins check``.
"""

from buttress.testing.promise import BrokenPromiseError, Promise
from buttress.testing.report import Report, Result, check_plugin, examine, promises
from buttress.testing.subject import Subject

__all__ = [
    "BrokenPromiseError",
    "Promise",
    "Report",
    "Result",
    "Subject",
    "check_plugin",
    "examine",
    "promises",
]
