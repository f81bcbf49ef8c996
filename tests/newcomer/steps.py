"""The six steps of CONTRIBUTING.md, made for a throwaway plugin in a copy of the files that they touch."""

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = "halve"

# Folders and files that the steps and their checks write or read.
COPIED = (
    "pyproject.toml",
    "benchmarks/results",
    "configs",
    "docs/methods",
    "docs/combining.md",
    "plugins",
    "scripts",
    *(f"tests/{name}" for name in ("__init__.py", "conftest.py", "models.py", "test_method_pages.py")),
    *(f"tests/{name}" for name in ("composition", "conformance", "plugins")),
)
LINKED = ("core", "examples")

PLUGIN = '''\
"""Halve: every gradient is multiplied by a half."""

import torch
from torch import nn

from buttress import hookimpl


class Halve:
    """Halves every gradient.

    Args:
        factor: factor on every gradient.
    """

    def __init__(self, *, factor: float = 0.5) -> None:
        self.factor = factor

    @hookimpl
    @torch.no_grad()
    def adjust_grads(self, model: nn.Module) -> None:
        for weight in model.parameters():
            if weight.grad is not None:
                weight.grad *= self.factor
'''

LITERAL_FORM = """

def halve(ref: Reference, x: Tensor, y: Tensor, start: Tensor) -> None:
    adv = ref.attack(x, y, start)
    ref.sgd({name: grad / 2 for name, grad in ref.grads(at(ref, x, adv, y).mean()).items()})
"""

ROW = """\
    "halve": Row(
        wrong=[UNKNOWN, {"factor": "half"}],
        costs=[([PGD, "halve"], AT)],
        references={"halved gradients": Case([SHORT, "halve"], ref.halve)},
    ),
"""

PAGE = """\
# halve: every gradient is halved

<!-- generated: facts -->
<!-- end -->

## Equations

$$ g \\leftarrow g / 2 $$

## Settings

<!-- generated: settings -->
<!-- end -->

## Cost

<!-- generated: cost -->
<!-- end -->

## Where it hooks in

`adjust_grads`.

## Combining

Everything.

<!-- generated: refused -->
<!-- end -->

## Paper and code

No paper.

## In a config

```yaml
plugins:
  - pgd: {steps: 2, step_size: 2/255}
  - halve
```

## On digits

<!-- generated: digits -->
<!-- end -->

## Source

None.
"""


def copy_repository(folder: Path) -> None:
    """Copy what the steps touch, and link what they only read."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)  # compiled files too: they fit, and save time
        else:
            shutil.copy(source, target)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)


def insert(file: Path, before: str, text: str) -> None:
    """Put ``text`` in front of the only place that reads ``before``."""
    whole = file.read_text(encoding="utf-8")
    assert whole.count(before) == 1, (file, before)
    file.write_text(whole.replace(before, text + before), encoding="utf-8")


def write_file(folder: Path) -> None:
    (folder / f"plugins/buttress_plugins/grads/{NAME}.py").write_text(PLUGIN, encoding="utf-8")


def write_entry_point(folder: Path) -> None:
    line = f'{NAME} = "buttress_plugins.grads.{NAME}:Halve"\n'
    insert(folder / "pyproject.toml", '\n[project.entry-points."buttress.attacks"]', line)


def write_literal_form(folder: Path) -> None:
    with (folder / "tests/conformance/references.py").open("a", encoding="utf-8") as file:
        file.write(LITERAL_FORM)


def write_row(folder: Path) -> None:
    insert(folder / "tests/plugins/catalogue.py", "}  # fmt: skip\n\nATTACKS", ROW)


def write_page(folder: Path) -> None:
    (folder / f"docs/methods/{NAME}.md").write_text(PAGE, encoding="utf-8")


def write_recipe(folder: Path) -> None:
    insert(folder / "scripts/lineages/digits.py", '    "l1": [PGD, "l1"],\n', f'    "{NAME}": [PGD, "{NAME}"],\n')


STEPS: dict[str, Callable[[Path], None]] = {
    "plugins/buttress_plugins/": write_file,
    "pyproject.toml": write_entry_point,
    "tests/conformance/references.py": write_literal_form,
    "tests/plugins/catalogue.py": write_row,
    "docs/methods/": write_page,
    "scripts/lineages/": write_recipe,
}
"""The steps in their order, by what each of them writes."""


def install(folder: Path) -> None:
    """Write the metadata that an editable installation of ``folder`` would leave, beside its packages."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / "buttress-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: buttress\nVersion: 0\n", encoding="utf-8")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def add_plugin(folder: Path, left_out: str | None) -> None:
    """Copy the repository into ``folder`` and take every step but one."""
    copy_repository(folder)
    for name, step in STEPS.items():
        if name != left_out:
            step(folder)
    install(folder)
