"""Print figures about the plan of the code: rooms, imports between them, lengths of files and functions.

``python scripts/house.py [FOLDER]`` measures ``core/buttress``, or the folder of that package in another checkout.
docs/architecture.md quotes these figures.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

Imports = dict[str, set[str]]


def modules_in(package: Path) -> dict[str, Path]:
    """Dotted name below the package to file, templates left out; a room's ``__init__`` has the name of the room."""
    files = (path for path in package.rglob("*.py") if "templates" not in path.parts)
    return {".".join(_parts(path.relative_to(package))): path for path in files}


def _parts(path: Path) -> tuple[str, ...]:
    return path.parent.parts if path.name == "__init__.py" and len(path.parts) > 1 else path.with_suffix("").parts


def imports_of(modules: dict[str, Path]) -> Imports:
    """Module to the modules of the package that it imports, those for type checking alone left out."""
    return {name: set(_imported(path, modules)) - {name} for name, path in modules.items()}


def _imported(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    skipped = {id(node) for branch in guarded for node in ast.walk(branch)}
    for node in ast.walk(tree):
        if (
            id(node) in skipped
            or not isinstance(node, ast.ImportFrom)
            or not (node.module or "").startswith("buttress")
        ):
            continue
        base = str(node.module).removeprefix("buttress").removeprefix(".")
        for alias in node.names:
            inner = f"{base}.{alias.name}".removeprefix(".")
            if target := inner if inner in modules else base:
                yield target


def circle(graph: Imports) -> set[str]:
    """The nodes that lie on a circle: those from which a way leads back."""
    return {start for start in graph if start in _reached(graph, start)}


def _reached(graph: Imports, start: str) -> set[str]:
    waiting, seen = [*graph[start]], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph.get(name, ())
    return seen


def rooms_of(imports: Imports) -> Imports:
    """Room to the rooms that it imports; a module that lies directly in the package is a room of its own."""
    rooms: Imports = {}
    for name, targets in imports.items():
        own = name.partition(".")[0]
        rooms.setdefault(own, set()).update({target.partition(".")[0] for target in targets} - {own})
    return rooms


def main() -> None:
    """Print one figure a line."""
    package = Path(sys.argv[1] if len(sys.argv) > 1 else "core/buttress")
    modules = modules_in(package)
    imports = imports_of(modules)
    rooms = rooms_of({name: targets for name, targets in imports.items() if name not in ("__init__", "__main__")})
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in modules.values()]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules.items()}
    longest = max(lines, key=lambda name: lines[name])
    figures = {
        "modules": len(modules),
        "modules that lie directly in the package": len([*package.glob("*.py")]),
        "folders": len([*package.glob("*/__init__.py")]),
        "rooms on a circle of imports": len(circle(rooms)),
        "files on a circle of imports": len(circle(imports)),
        "files over 300 lines": sum(count > 300 for count in lines.values()),
        "longest file": f"{longest.replace('.', '/')}.py, {lines[longest]} lines",
        "median length of a function in lines": median(_length(node) for node in functions),
    }
    for name, figure in figures.items():
        sys.stdout.write(f"{name}: {figure}\n")


def _length(node: ast.FunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


if __name__ == "__main__":
    main()
