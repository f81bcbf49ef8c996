"""Make the code of this repository importable without installing it, for this process and for those that it starts."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from gpu.packages import NotReadyError

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "core", ROOT / "plugins", ROOT / "scripts", ROOT)


def enter(site: Path) -> None:
    """Put the packages in ``site`` and the code on the path, and its metadata, which names the plugins, into ``site``.

    Raises:
        NotReadyError: buttress cannot be imported.
    """
    paths = [str(path) for path in (site, *FOLDERS)]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join(paths + list(filter(None, [os.environ.get("PYTHONPATH")])))
    command = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(site)]
    switches = {"BUTTRESS_EXTENSION": "0"}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | switches, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotReadyError(f"setup.py egg_info failed: {done.stderr.strip()[-500:]}")
    try:
        import_module("buttress.cli")
    except Exception as problem:  # packages that do not fit together raise anything
        raise NotReadyError(f"buttress cannot be imported: {type(problem).__name__}: {problem}") from problem
