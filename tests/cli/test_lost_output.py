"""Nobody listens, or nobody can: a closed pipe, a full disk, no descriptors, an encoding without the letters."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from buttress.console.lasting import Lasting, lasting_streams
from buttress.console.reporter import Reporter, plain_console
from buttress.errors import StorageError
from buttress.training.launch import continue_run

BUTTRESS = "from buttress.cli import main; raise SystemExit(main())"
NOISY_PLUGIN = """\"\"\"Source: nobody.\"\"\"
import sys
from buttress import hookimpl
class Noisy:
    \"\"\"Prints in every step, to both streams.\"\"\"
    @hookimpl
    def adjust_grads(self):
        print("a step, caf\\u00e9", flush=True)
        print("a step, caf\\u00e9", file=sys.stderr, flush=True)
"""


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``buttress`` is the command."""
    program = f'buttress() {{ "{sys.executable}" -c "{BUTTRESS}" "$@"; }}; set -o pipefail; {command}'
    return subprocess.run(
        ["bash", "-c", program], cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


@pytest.fixture
def noisy_config(workspace: Path) -> Path:
    """A config whose plugin prints too."""
    (workspace / "noisy.py").write_text(NOISY_PLUGIN)
    config = yaml.safe_load((workspace / "small.yaml").read_text())
    config |= {"plugins": ["fgsm", "noisy"], "plugins_file": "noisy.py", "epochs": 2}
    (workspace / "small.yaml").write_text(yaml.safe_dump(config))
    return workspace


TRAIN = "buttress train small.yaml --run r"


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        (f"{TRAIN} 2>&1 | head -1", {}),
        (f"{TRAIN} > /dev/full", {}),
        (f"{TRAIN} >&- 2>&- <&-", {}),
        (f"{TRAIN} > /dev/null", {"PYTHONIOENCODING": "ascii:strict"}),
    ],
    ids=["closed pipe", "full disk", "closed descriptors", "ascii"],
)
def test_a_training_ends_well_whoever_listens(command: str, environment: dict[str, str], noisy_config: Path):
    done = shell(command, noisy_config, **environment)
    run = noisy_config / "runs" / "small" / "r"
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (run / "summary.json").exists()
    assert (run / "log.txt").read_text(encoding="utf-8").splitlines()[-1].startswith("done in ")
    if "/dev/full" in command:
        assert "standard output could not be written (No space left on device)" in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("buttress plugins list | head -1", 0, ""),
        ("buttress plugins list > /dev/full", 1, "standard output cannot be written: No space left on device"),
        ("buttress plugins list >&-", 0, ""),
        ("buttress plugins show nothing 2>&-", 2, ""),
        ("buttress --help | head -1", 0, ""),
        ("buttress no-such-verb 2> /dev/full", 2, ""),
    ],
    ids=["pipe", "full", "closed", "no stderr", "help", "usage"],
)
def test_a_listing_is_quiet_where_its_reader_has_gone(command: str, code: int, said: str, tmp_path: Path):
    done = shell(command, tmp_path)
    assert (done.returncode, done.stderr.strip().removeprefix("error: ").partition(";")[0]) == (code, said)


def test_what_is_printed_never_lands_in_a_file_of_ours(tmp_path: Path):
    """Where descriptor 1 was closed, the next file that is opened would be standard output to everybody else."""
    program = (
        "import os; from buttress.console.lasting import lasting_streams\n"
        "with lasting_streams():\n"
        "    with open('file', 'w') as file:\n"
        "        os.write(1, b'printed by a library in C')\n"
        "        file.write('ours')\n"
    )
    (tmp_path / "p.py").write_text(program)
    subprocess.run(["bash", "-c", f'"{sys.executable}" p.py >&- <&-'], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "file").read_text() == "ours"


def test_letters_that_an_encoding_lacks_are_written_as_escapes(tmp_path: Path):
    with (tmp_path / "out").open("w", encoding="ascii") as stream:
        Lasting("stdout", stream).write("caf\u00e9\n")
    assert (tmp_path / "out").read_text() == "caf\\xe9\n"


def test_streams_come_back_and_closed_ones_lose_what_is_written(tmp_path: Path):
    before = sys.stdout, sys.stderr
    with lasting_streams() as output:
        assert sys.stdout is output
    assert (sys.stdout, sys.stderr) == before
    stream = (tmp_path / "out").open("w")
    lasting = Lasting("stdout", stream)
    stream.close()
    lasting.write("x")
    lasting.flush()
    assert not lasting.isatty()


@contextmanager
def refusing(log: Path) -> Iterator[None]:
    """In the place of a log a folder, which cannot be appended to."""
    kept = log.read_bytes() if log.exists() else b""
    log.unlink(missing_ok=True)
    log.mkdir()
    yield
    log.rmdir()
    log.write_bytes(kept)


def test_a_log_that_cannot_be_written_is_said_once_and_caught_up_with(tmp_path: Path, capsys: pytest.CaptureFixture):
    log = tmp_path / "log.txt"
    with refusing(log), Reporter(log, plain_console()) as reporter:
        reporter.say("one")
        reporter.say("two")
    said = capsys.readouterr().out.splitlines()
    assert [said[0], said[2]] == ["one", "two"]
    assert said[1].startswith(f"the work goes on without its log: cannot write {log}: Is a directory")
    assert len(said) == 3
    reporter.say("three")
    assert log.read_text() == "one\ntwo\nthree\n"


def test_a_run_begins_with_a_log_and_goes_on_without(noisy: Path, capsys: pytest.CaptureFixture):
    class Hindered(Reporter):
        """Its log refuses from the second line on."""

        def say(self, text: str) -> None:
            super().say(text)
            if (noisy / "s0" / "log.txt").is_file():
                (noisy / "s0" / "log.txt").unlink()
                (noisy / "s0" / "log.txt").mkdir()

    with refusing(noisy / "s0" / "log.txt"), pytest.raises(StorageError, match=r"log\.txt"):
        continue_run(noisy / "s0")
    continue_run(noisy / "s0", Hindered())
    assert capsys.readouterr().out.count("goes on without its log") == 1
