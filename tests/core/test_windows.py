"""A system without the parts of Unix that Windows lacks: everything imports there, and a run folder can be held."""

import subprocess
import sys
from pathlib import Path

# Other libraries are imported as they are: what they do on Windows is theirs.
WINDOWS = """
import errno, importlib, os, pkgutil, signal, sys
import filelock, matplotlib.pyplot, numpy, plotly, pyautoattack, sklearn.datasets, torch, torchvision
import rich.console, rich.live, rich.progress

MISSING = {
    os: ("fork", "getuid", "geteuid", "O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW", "posix_fadvise", "EX_TEMPFAIL"),
    errno: ("EDQUOT",),
    signal: ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGKILL", "SIGQUIT", "SIGALRM", "SIGPIPE", "alarm"),
}
for module, names in MISSING.items():
    for name in names:
        delattr(module, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty"):
    sys.modules[name] = None
open_file = os.open
def open_no_folder(path, *args, **options):
    if os.path.isdir(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return open_file(path, *args, **options)
os.open = open_no_folder
"""

IMPORTS = """
import buttress
names = [each.name for each in pkgutil.walk_packages(buttress.__path__, "buttress.")]
for name in names:
    if not name.startswith(("buttress.__main__", "buttress._C", "buttress.authoring.templates")):
        importlib.import_module(name)
print(len(names))
"""

HOLDS = """
from pathlib import Path
from buttress.storage import files
files.FOLDERS_OPEN = False
from buttress.errors import RunFolderError
from buttress.storage.run_folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.create("name: x", {})
with folder.held():
    folder.expect_there()
    files.write_json(folder.summary, {})
print(sorted(each.name for each in folder.path.iterdir()))
"""


def on_windows(code: str, *words: str) -> str:
    """Output of ``code`` in a process that lacks what Windows lacks."""
    command = [sys.executable, "-c", WINDOWS + code, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_can_be_imported():
    assert int(on_windows(IMPORTS)) > 200


def test_a_run_folder_is_made_and_held_by_a_file_in_it(tmp_path: Path):
    names = on_windows(HOLDS, str(tmp_path / "run"))
    assert names == str([".lock", "config.yaml", "log.txt", "manifest.json", "metrics.jsonl", "summary.json"])
