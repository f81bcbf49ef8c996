"""Every Python block of the documentation runs; the blocks of a page share one namespace, in order."""

import ast
import re
from pathlib import Path

import pytest

from buttress.hookspecs import HOOKS

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("auditing.md", "hooks.md", "own_modules.md", "writing_a_plugin.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, int, str]]:
    """Language, line number and text of each fenced block."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [(match[1], text.count("\n", 0, match.start()) + 1, match[2]) for match in FENCE.finditer(text)]


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [(line, code) for language, line, code in blocks(page) if language == "python"]
    assert found
    namespace = {"__name__": f"docs_{page.partition('.')[0]}"}
    for line, code in found:
        exec(compile("\n" * line + code, str(DOCS / page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page):
    assert {language for language, _, _ in blocks(page)} <= {"python", "sh", "text", "toml", "yaml"}


def bare(source: str) -> dict[str, str]:
    """Each class and function of a source by name, without annotations and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            del node.body[0]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return {node.name: ast.unparse(node) for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def test_the_recipe_shows_the_example_as_it_is():
    shown = next(code for language, _, code in blocks("writing_a_plugin.md") if language == "python")
    example = DOCS.parent / "examples" / "external_plugin" / "buttress_centralize.py"
    assert bare(shown) == bare(example.read_text(encoding="utf-8"))


def test_the_logger_shown_is_the_example_as_it_is():
    shown = next(code for _, _, code in blocks("writing_a_plugin.md") if "class CsvLogger" in code)
    example = DOCS.parent / "examples" / "csv_logger.py"
    assert bare(shown) == bare(example.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_relative_links_exist(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert not missing, f"{page.name}: links to files that do not exist: {missing}"


def test_every_hook_has_its_row_in_hooks_md():
    text = (DOCS / "hooks.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("## When each hook fires")
    rows = re.findall(r"^\| `(\w+)` \|", rest.partition("\n## ")[0], flags=re.MULTILINE)
    assert sorted(rows) == sorted(HOOKS)
