"""A logger of one's own: evaluations as lines of a CSV file. docs/writing_a_plugin.md, section 11, shows it."""

import csv
from dataclasses import dataclass

from buttress import hookimpl


@dataclass(eq=False, kw_only=True)
class CsvLogger:
    """Every evaluation as one line of a file in the run's folder.

    Args:
        file: name of the file.
    """

    file: str = "evaluations.csv"

    @hookimpl
    def start_run(self, ctx):
        self._stream = (ctx.folder / self.file).open("a", newline="")
        self._lines = csv.DictWriter(
            self._stream, ["epoch", "track", "split", "clean", "robust", "n"], extrasaction="ignore"
        )

    @hookimpl
    def log(self, metrics):
        if metrics["event"] == "evaluation":
            self._lines.writerow(metrics)

    @hookimpl
    def end_run(self):
        self._stream.close()
