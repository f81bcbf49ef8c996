"""``buttress plugins new``: write a package with a working plugin, put together from one example for each hook."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from buttress._version import __version__
from buttress.authoring.examples import (
    COMPONENTS,
    TEMPLATES,
    Piece,
    imports_of_tests,
    module_text,
    piece_of,
    summary_of,
)
from buttress.authoring.extension import extend
from buttress.components.sources import GROUPS, sources, words
from buttress.errors import PluginError, nearest
from buttress.hookspecs import EXCLUSIVE, HOOKS, makes_logger
from buttress.storage.files import make_folder, write_text
from buttress.storage.new_folder import new_folder

_DEFAULT = "adjust_grads"
_DIGITS = "{name: digits, train_per_class: 40, validation: 397, batch_size: 80}"


@dataclass(frozen=True)
class _Plan:
    """A plugin, a logger, a model or a data set that is to be written.

    Args:
        plugin: its name in configs.
        kind: ``plugin``, ``logger``, ``model`` or ``dataset``.
        cls: name of its class.
        pieces: its examples.
    """

    plugin: str
    kind: str
    cls: str
    pieces: Sequence[Piece]

    @property
    def groups(self) -> dict[str, str]:
        """Entry-point groups, each with the kind that it holds."""
        attacks = any(piece.subject == "generate_adv" and not piece.wraps for piece in self.pieces)
        return {GROUPS[kind]: kind for kind in [self.kind, *(["attack"] if attacks else [])]}

    def module(self) -> str:
        """The text of its module."""
        return module_text(self.cls, self.pieces)

    def checks(self, module: str) -> str:
        """The text of its tests; ``module`` is where its class is imported from."""
        tests = [piece.source(node) for piece in self.pieces for node in piece.functions(tests=True)]
        values = {
            "plugin": self.plugin,
            "kind": self.kind,
            "cls": self.cls,
            "examined": "" if self.kind == "plugin" else f', kind="{self.kind}"',  # as what; by default as a plugin
            "imports": imports_of_tests(self.pieces, module, self.cls),
            "tests": "\n\n\n".join(tests),
        }
        return _filled("component_checks" if self.kind in COMPONENTS else "checks", values)


def new_plugin(
    name: str,
    hooks: Sequence[str] = (),
    output: Path | None = None,
    *,
    wraps: Sequence[str] = (),
    kind: str | None = None,
    into: Path | None = None,
) -> Path:
    """Write a package whose plugin has an example of each hook; returns its folder.

    With ``log``, and no hook but those of loggers, it is a logger.

    Args:
        name: name of the plugin in configs: small letters, digits, ``_`` and ``-``.
        hooks: names of hooks; by default ``adjust_grads``, where nothing is wrapped.
        output: the folder to make; by default ``buttress-<name>``, here.
        wraps: names of exclusive hooks to wrap.
        kind: ``model`` or ``dataset``: an example of this, which has no hooks.
        into: folder of a package that exists: module, tests and entry point are added to it.

    Raises:
        PluginError: the name is none, or taken; a hook is unknown; the folder exists; the package cannot be extended.
        StorageError: it cannot be written.
    """
    plan = _plan(name, hooks, wraps, kind)
    if into is not None:
        if output is not None:
            raise PluginError("--output is a folder to make, and --into one that exists; choose one of them")
        extend(into, plan.plugin, plan.groups, plan.cls, plan.module(), plan.checks)
        return into
    folder = output or Path(f"buttress-{plan.plugin.replace('_', '-')}")
    taken_folder = PluginError(
        f"{folder} exists, and nothing is overwritten; choose another --output, or add to a package with --into"
    )
    if folder.exists():
        raise taken_folder
    try:
        with new_folder(folder) as inside:
            for relative, text in _package(plan, folder).items():
                make_folder((inside / relative).parent)
                write_text(inside / relative, text)
    except FileExistsError:
        raise taken_folder from None
    return folder


def install_command(folder: str) -> str:
    """Installs the package in ``folder`` with its tests' needs; without a network where setuptools is new enough."""
    return f'pip install "setuptools>=77" && pip install --no-build-isolation --editable "{folder}[test]"'


def _plan(name: str, hooks: Sequence[str], wraps: Sequence[str], kind: str | None) -> _Plan:
    plugin = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,60}", plugin) or plugin.endswith("_") or keyword.iskeyword(plugin):
        raise PluginError(f"plugin name {name!r}: expected small letters, digits, _ and -, beginning with a letter")
    _check_hooks(hooks, wraps, kind)
    kind = kind or ("logger" if makes_logger([*hooks, *wraps]) else "plugin")
    taken = [source for source in sources(kind) if source.name == plugin]
    if taken:
        raise PluginError(f"{words(kind)} name {name!r} is that of a {words(kind)} of {taken[0]}; choose another one")
    cls = "".join(word.capitalize() for word in plugin.split("_"))
    if kind in COMPONENTS:
        return _Plan(plugin, kind, cls, [piece_of("components", kind, cls)])
    provided = hooks or ([] if wraps else [_DEFAULT])
    pieces = [piece_of("hooks", hook, cls) for hook in dict.fromkeys(provided)]
    return _Plan(plugin, kind, cls, pieces + [piece_of("wrappers", hook, cls) for hook in dict.fromkeys(wraps)])


def _check_hooks(hooks: Sequence[str], wraps: Sequence[str], kind: str | None) -> None:
    for hook in (*hooks, *wraps):
        if hook not in HOOKS:
            raise PluginError(f"{hook!r} is not a hook{nearest(hook, HOOKS)}")
    if kind in COMPONENTS and (hooks or wraps):
        raise PluginError(f"a {words(kind)} has no hooks; leave out --hook and --wrap, or --kind")
    for hook in wraps:
        if hook not in EXCLUSIVE:
            raise PluginError(f"{hook!r} cannot be wrapped: only {', '.join(sorted(EXCLUSIVE))} can; use --hook {hook}")
        if hook in hooks:
            raise PluginError(f"{hook!r}: a plugin provides a hook or wraps it; choose --hook or --wrap")


def _package(plan: _Plan, folder: Path) -> dict[str, str]:
    """Path to text of every file of the package."""
    slug, module = plan.plugin.replace("_", "-"), f"buttress_{plan.plugin}"
    noun = "data set" if plan.kind == "dataset" else words(plan.kind)
    summary = summary_of(plan.pieces[0]) if len(plan.pieces) == 1 else f"a {noun} for buttress"
    values = {
        "plugin": plan.plugin,
        "slug": slug,
        "module": module,
        "distribution": f"buttress-{slug}",
        "summary": summary.replace('"', "'"),
        "version": ".".join(__version__.split(".")[:2]),
        "hooks": ", ".join(f"`{piece.subject}`{' (a wrapper)' if piece.wraps else ''}" for piece in plan.pieces),
        "kind": plan.kind,
        "noun": noun,
        "folder": folder.name,
        "install": install_command(folder.name),
        "entries": "\n".join(
            f'[project.entry-points."{group}"]\n{plan.plugin} = "{module}:{plan.cls}"\n' for group in plan.groups
        ),
        **_run(plan),
    }
    return {
        "pyproject.toml": _filled("pyproject", values),
        "README.md": _filled("component_readme" if plan.kind in COMPONENTS else "readme", values),
        "config.yaml": _filled("config", values),
        f"{module}.py": plan.module(),
        f"tests/test_{plan.plugin}.py": plan.checks(module),
    }


def _filled(name: str, values: dict[str, str]) -> str:
    return Template((TEMPLATES / "package" / f"{name}.txt").read_text(encoding="utf-8")).substitute(values)


def _run(plan: _Plan) -> dict[str, str]:
    """The lines of a config that differ: data, model, and the list of plugins."""
    is_data = plan.kind == "dataset"
    return {
        "content": "data" if is_data else "8x8 digits",
        "run": "train" if is_data else "digits",
        "data": f"{{name: {plan.plugin}, batch_size: 80}}" if is_data else _DIGITS,
        "model": f"{{name: {plan.plugin if plan.kind == 'model' else 'preact_tiny'}}}",
        "stack": _stack(plan),
    }


def _stack(plan: _Plan) -> str:
    """The lines of a config that list the plugin, or the logger, beside what it needs."""
    provided = {piece.subject for piece in plan.pieces if not piece.wraps}
    lines = [] if "generate_adv" in provided else ["  - pgd: {steps: 10, step_size: 1/40}"]
    if any(piece.wraps and piece.subject == "perturb_weights" for piece in plan.pieces):
        lines.append("  - rwp")
    lines += [f"  - {plan.plugin}"] if plan.kind == "plugin" else []
    lines += [f"loggers: [{plan.plugin}]"] if plan.kind == "logger" else []
    return "\n".join(["plugins:", *lines])
