"""Answers of verbs as JSON, and progress beside them on standard error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from buttress.console.output import Exact

if TYPE_CHECKING:
    from buttress.console.reporter import Reporter


def json_answer(value: object) -> str:
    """A value as JSON, for a program to read."""
    return Exact(json.dumps(value, indent=1, default=str))


def reporter_aside(activity: str, *, silent: bool = False) -> Reporter:
    """A reporter on standard error, apart from the answer of the verb, that shows ``activity``; or a silent one."""
    from buttress.console.reporter import Reporter, plain_console

    reporter = Reporter(console=plain_console(stderr=True, silent=silent))
    reporter.doing(activity)
    return reporter
