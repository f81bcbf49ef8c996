"""Modules of one's own, in processes that training starts and where an import does not find them."""

from multiprocessing import get_context
from pathlib import Path
from runpy import run_path

import pytest

from buttress.components.own_modules import import_target
from buttress.errors import ModelError

WORKER = """
import pathlib

def work(path: str) -> None:
    import {helper}
    pathlib.Path(path).write_text({helper}.SAID)
"""


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_a_process_that_is_started_finds_the_same_modules(tmp_path: Path, start: str) -> None:
    helper, module = f"helper_of_{start}", f"worker_of_{start}"
    (tmp_path / f"{helper}.py").write_text("SAID = 'done'")
    (tmp_path / f"{module}.py").write_text(WORKER.format(helper=helper))
    process = get_context(start).Process(
        target=import_target(f"{module}:work", "data.target", tmp_path), args=(str(tmp_path / "out"),)
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (tmp_path / "out").read_text() == "done"


@pytest.mark.parametrize("lies", ["heads.py", "heads/__init__.py", "heads/big.py"])
def test_a_module_that_lies_there_and_no_import_statement_names_is_said_so(tmp_path: Path, lies: str) -> None:
    (tmp_path / lies).parent.mkdir(exist_ok=True)
    (tmp_path / lies).touch()
    (tmp_path / "computed.py").write_text("NAME = 'he' + 'ads'\n__import__(NAME)\n")
    with pytest.raises(ModelError) as refused:
        import_target("computed:Net", "model.target", tmp_path)
    what = f'{"give it an __init__.py, and " if lies == "heads/big.py" else ""}write "import heads" in computed.py'
    assert str(refused.value).endswith(
        f"No module named 'heads' (computed.py:2); {tmp_path / Path(lies).parts[0]} is there, but only what an import "
        f"statement names is imported from that folder: {what}"
    )


def test_a_script_beside_a_module_can_still_be_run_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "beside_a_script.py").write_text("def net(): pass")
    (tmp_path / "script.py").write_text("FOUND = 1")
    import_target("beside_a_script:net", "model.target", tmp_path)
    assert run_path(str(tmp_path / "script.py"))["FOUND"] == 1
