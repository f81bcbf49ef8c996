"""PGD-10 by torchattacks, foolbox and the adversarial-robustness-toolbox over that of buttress.

The peers are installed by pip, in the versions of ``peers/requirements.txt``, into an environment in a temporary folder
that goes afterwards; torch and buttress are those of this environment. A peer that does not install is left out, and
pip's reason is printed. There, in one process, PreActResNet-18 is attacked on a batch of 32 by each, from the images
themselves, in interleaved rounds; the largest difference of each one's adversarial examples from buttress' is printed.

Options other than ``-h`` go to ``peers/attacks.py``: ``--threads``, ``--rounds``, ``--warmup``,
``--quick``, ``--json``.
"""

import os
import site
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "peers" / "requirements.txt"


def environment(folder: Path) -> Path:
    """The Python of a new environment that sees the packages of this one, so that torch is not installed again."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(subprocess.run([python, "-c", purelib], check=True, capture_output=True, text=True).stdout.strip())
    lines = [f"import site; site.addsitedir({packages!r})" for packages in site.getsitepackages()]
    (own / "lent.pth").write_text("\n".join(lines) + "\n")
    return python


def install(python: Path) -> None:
    """Install each peer by itself, so that one that does not install keeps no other away."""
    for requirement in REQUIREMENTS.read_text(encoding="utf-8").split():
        done = subprocess.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            print(f"{requirement} does not install:\n{done.stderr}", file=sys.stderr)


def main() -> None:
    if {"-h", "--help"} & set(sys.argv):
        sys.exit(print(__doc__))
    with TemporaryDirectory() as folder:
        python = environment(Path(folder))
        install(python)
        command = [python, "-m", "peers.attacks", *sys.argv[1:]]
        sys.exit(subprocess.run(command, env=os.environ | {"PYTHONPATH": str(HERE)}).returncode)


if __name__ == "__main__":
    main()
