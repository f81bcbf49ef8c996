"""``buttress report``: reads run folders and writes one page."""

from collections.abc import Callable, Sequence
from pathlib import Path

from buttress.errors import RunFolderError
from buttress.report.material import group_runs, read_run, repeated_seeds
from buttress.report.page import page_html
from buttress.storage.files import make_folder, write_text


def write_report(
    runs: Sequence[Path], output: Path | None = None, say: Callable[[str], None] = lambda line: None
) -> Path:
    """Write the page; one that is there is replaced.

    Args:
        runs: run folders, finished or not.
        output: file to write; None for ``report.html`` in the run folder, or in the working folder for several runs.
        say: called with a line for each damaged file and each further run of a seed that is left out; the page has
            the same lines.

    Raises:
        RunFolderError: a path is no run folder or is given twice, or the output is no HTML file.
        StorageError: the page cannot be written.
    """
    if output is None:
        output = runs[0] / "report.html" if len(runs) == 1 else Path("report.html")
    if output.suffix not in (".html", ".htm") or output.is_dir():
        raise RunFolderError(f"--output {output}: expected the name of a file that ends in .html", path=output)
    read = [read_run(path) for path in runs]
    for line in (line for run in read for line in run.damaged):
        say(f"left out: {line}")
    methods = group_runs(read)
    for line in repeated_seeds(methods):
        say(f"not counted: {line}")
    page = page_html(methods)
    make_folder(output.parent)
    write_text(output, page)
    return output
