"""Write the measurements into docs/results.md; a test compares the page with this.

A part ``<!-- generated: every_stack FILE -->`` of the page is the table of that file of results; the rest is by hand.
"""

from generated import filled
from method_results import ROOT, every_stack

PAGE = ROOT / "docs" / "results.md"


def page() -> str:
    """The page's text with its table as measured."""
    return filled(PAGE.read_text(encoding="utf-8"), {"every_stack": every_stack})


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
