"""``buttress plugins new``: write a package with a working plugin, put together from one example for each hook."""

from __future__ import annotations

import ast
import keyword
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from textwrap import indent

from buttress._version import __version__
from buttress.components.signature import documentation_in
from buttress.components.sources import GROUPS, sources
from buttress.errors import PluginError, nearest
from buttress.hookspecs import HOOKS, makes_logger
from buttress.storage.files import make_folder, write_text
from buttress.storage.new_folder import new_folder

_TEMPLATES = Path(__file__).parent / "templates"
_DEFAULT = "adjust_grads"
# Length of the longest line of generated code.
_WIDTH = 100


@dataclass(frozen=True)
class _Piece:
    """The example of one hook, taken apart."""

    hook: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def document(self) -> str:
        return ast.get_docstring(self.tree) or ""

    @property
    def cls(self) -> ast.ClassDef:
        return next(node for node in self.tree.body if isinstance(node, ast.ClassDef))

    def source(self, node: ast.stmt | ast.arg | ast.expr) -> str:
        """The text of ``node``; of a statement its lines, decorators included."""
        if not isinstance(node, ast.stmt):
            return ast.get_source_segment(self.text, node) or ""
        first = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", []))])
        return "\n".join(self.text.splitlines()[first - 1 : node.end_lineno])

    def functions(self, *, tests: bool) -> list[ast.FunctionDef]:
        return [
            node
            for node in self.tree.body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") is tests
        ]


def new_plugin(name: str, hooks: Sequence[str] = (), output: Path | None = None) -> Path:
    """Write a package whose plugin has an example of each hook; returns its folder.

    With ``log``, and no hook but those of loggers, it is a logger.

    Args:
        name: name of the plugin in configs: small letters, digits, ``_`` and ``-``.
        hooks: names of hooks; by default ``adjust_grads``.
        output: the folder to make; by default ``buttress-<name>``, here.

    Raises:
        PluginError: the name is none, or taken; a hook is unknown; the folder exists.
        StorageError: it cannot be written.
    """
    plugin = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,60}", plugin) or plugin.endswith("_") or keyword.iskeyword(plugin):
        raise PluginError(f"plugin name {name!r}: expected small letters, digits, _ and -, beginning with a letter")
    for hook in hooks:
        if hook not in HOOKS:
            raise PluginError(f"{hook!r} is not a hook{nearest(hook, HOOKS)}")
    kind = "logger" if makes_logger(hooks) else "plugin"
    taken = [source for source in sources(kind) if source.name == plugin]
    if taken:
        raise PluginError(f"{kind} name {name!r} is that of a {kind} of {taken[0]}; choose another one")
    folder = output or Path(f"buttress-{plugin.replace('_', '-')}")
    taken_folder = PluginError(f"{folder} exists, and nothing is overwritten; choose another --output")
    if folder.exists():
        raise taken_folder
    pieces = [_piece(hook) for hook in dict.fromkeys(hooks or [_DEFAULT])]
    files = _package(plugin, pieces, kind, folder)
    try:
        with new_folder(folder) as inside:
            for relative, text in files.items():
                make_folder((inside / relative).parent)
                write_text(inside / relative, text)
    except FileExistsError:
        raise taken_folder from None
    return folder


def _piece(hook: str) -> _Piece:
    return _Piece(hook, (_TEMPLATES / "hooks" / f"{hook}.py").read_text(encoding="utf-8"))


def install_command(folder: str) -> str:
    """Installs the package in ``folder`` with its tests' needs; without a network where setuptools is new enough."""
    return f'pip install "setuptools>=77" && pip install --no-build-isolation --editable "{folder}[test]"'


def _package(plugin: str, pieces: Sequence[_Piece], kind: str, folder: Path) -> dict[str, str]:
    """Path to text of every file of the package of a plugin or a logger, which ``kind`` says."""
    slug, module = plugin.replace("_", "-"), f"buttress_{plugin}"
    cls = "".join(word.capitalize() for word in plugin.split("_"))
    groups = [kind, "attack"] if any(piece.hook == "generate_adv" for piece in pieces) else [kind]
    summary = _summary(pieces[0]) if len(pieces) == 1 else f"a {kind} for buttress"
    values = {
        "plugin": plugin,
        "slug": slug,
        "module": module,
        "cls": cls,
        "distribution": f"buttress-{slug}",
        "summary": summary.replace('"', "'"),
        "version": ".".join(__version__.split(".")[:2]),
        "hooks": ", ".join(f"`{piece.hook}`" for piece in pieces),
        "kind": kind,
        "examined": "" if kind == "plugin" else f', kind="{kind}"',  # as what; by default as a plugin
        "folder": folder.name,
        "install": install_command(folder.name),
        "entries": "\n".join(
            f'[project.entry-points."{GROUPS[group]}"]\n{plugin} = "{module}:{cls}"\n' for group in groups
        ),
        "stack": _stack(plugin, groups),
        "imports": _test_imports(pieces, module, cls),
        "tests": "\n\n\n".join(piece.source(node) for piece in pieces for node in piece.functions(tests=True)),
    }

    def filled(name: str) -> str:
        return Template((_TEMPLATES / "package" / name).read_text(encoding="utf-8")).substitute(values)

    return {
        "pyproject.toml": filled("pyproject.txt"),
        "README.md": filled("readme.txt"),
        "config.yaml": filled("config.txt"),
        f"{module}.py": _module(cls, pieces),
        f"tests/test_{plugin}.py": filled("checks.txt"),
    }


def _stack(plugin: str, groups: Sequence[str]) -> str:
    """The lines of a config that list the plugin, or the logger, beside the attack that it needs."""
    attack = "  - pgd: {steps: 10, step_size: 1/40}"
    if "attack" in groups:
        return f"plugins:\n  - {plugin}"
    return f"plugins:\n{attack}\nloggers: [{plugin}]" if "logger" in groups else f"plugins:\n{attack}\n  - {plugin}"


def _module(cls: str, pieces: Sequence[_Piece]) -> str:
    """The plugin's module: imports, the class with all hooks, the functions."""
    loggers = [line for piece in pieces for line in piece.text.splitlines() if line.startswith("logger = ")][:1]
    wanted = "\n".join([*loggers, *(_code(piece) for piece in pieces)])
    document = pieces[0].document
    if len(pieces) > 1:
        document = "\n\n".join([f"{cls}: {len(pieces)} hooks.", *(piece.document for piece in pieces)])
    parts = [
        f'"""{_quoted(document)}"""\n\n{_imports(pieces, wanted)}' + "".join(f"\n\n{line}" for line in loggers),
        _class(cls, pieces),
        *(piece.source(node) for piece in pieces for node in piece.functions(tests=False)),
    ]
    return "\n\n\n".join(parts) + "\n"


def _code(piece: _Piece) -> str:
    """The class and the functions of an example, without its tests."""
    nodes = [piece.cls, *piece.functions(tests=False)]
    return "\n".join(piece.source(node) for node in nodes)


def _class(cls: str, pieces: Sequence[_Piece]) -> str:
    documents = [ast.get_docstring(piece.cls) or "" for piece in pieces]
    settings = [entry for document in documents for entry in documentation_in(document).items()]
    summaries = [document.split("\n\n")[0] for document in documents]
    lines = ["\n\n".join(summaries)]
    if settings:
        lines.append("Args:\n" + "\n".join(f"    {name}: {text}" for name, text in settings))
    text = _quoted("\n\n".join(lines))
    quoted = f'"""{text}"""'
    members = [indent(quoted, "    ")]
    members += _sources(pieces, ast.Assign)
    fields = sorted(_sources(pieces, ast.AnnAssign), key=lambda line: line.lstrip().startswith("_"))  # settings first
    members += ["\n".join(fields)] if fields else []
    members += _sources(pieces, ast.FunctionDef)
    head = f"@dataclass(eq=False, kw_only=True)\nclass {cls}:\n" if fields else f"class {cls}:\n"
    return head + "\n\n".join(members)


def _sources(pieces: Sequence[_Piece], kind: type[ast.stmt]) -> list[str]:
    """The statements of one kind in the classes of all pieces."""
    return [piece.source(node) for piece in pieces for node in piece.cls.body if isinstance(node, kind)]


def _imports(pieces: Sequence[_Piece], code: str) -> str:
    """The imports of all examples that ``code`` uses, each once, standard library first."""
    plain: set[str] = set()
    named: dict[str, set[str]] = {}
    for piece in pieces:
        for node in piece.tree.body:
            if isinstance(node, ast.Import):
                plain |= {ast.unparse(alias) for alias in node.names if _used(alias.asname or alias.name, code)}
            elif isinstance(node, ast.ImportFrom) and node.module:
                used = {ast.unparse(alias) for alias in node.names if _used(alias.asname or alias.name, code)}
                named.setdefault(node.module, set()).update(used)
    blocks = []
    for belongs in (_is_standard, _is_foreign):
        lines = [f"import {name}" for name in sorted(plain) if belongs(name.split(".")[0].split()[0])]
        lines += [
            _from(module, names) for module, names in sorted(named.items()) if names and belongs(module.split(".")[0])
        ]
        if lines:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _test_imports(pieces: Sequence[_Piece], module: str, cls: str) -> str:
    tests = "\n".join(piece.source(node) for piece in pieces for node in piece.functions(tests=True))
    functions = [node.name for piece in pieces for node in piece.functions(tests=False) if _used(node.name, tests)]
    used = [line for line in _imports(pieces, tests).splitlines() if line]
    own = _from(module, [cls, *functions])
    plain = sorted(["import pytest", *(line for line in used if line.startswith("import "))])
    named = sorted(["from buttress.testing import Promise, promises", *(n for n in used if n.startswith("from "))])
    return "\n".join([*plain, *named, "", own])


def _from(module: str, names: Iterable[str]) -> str:
    """An import that fits into a line, or has a line for each name."""
    ordered = sorted(names, key=_import_order)
    line = f"from {module} import {', '.join(ordered)}"
    return line if len(line) <= _WIDTH else f"from {module} import (\n" + "".join(f"    {n},\n" for n in ordered) + ")"


def _used(name: str, code: str) -> bool:
    return re.search(rf"\b{re.escape(name.split('.')[0] if ' ' not in name else name)}\b", code) is not None


def _import_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions: as isort sorts the names of an import."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def _is_standard(name: str) -> bool:
    return name in sys.stdlib_module_names


def _is_foreign(name: str) -> bool:
    return not _is_standard(name)


def _quoted(text: str) -> str:
    """Text inside of a docstring: several lines end in a line of their own."""
    return f"{text}\n" if "\n" in text else text


def _summary(piece: _Piece) -> str:
    return piece.document.splitlines()[0].rstrip(".")
