"""What pages say about the code is so, and their links lead somewhere."""

import ast
import re
from functools import cache

import pytest
import yaml
from markdown.extensions.toc import slugify

from buttress import __version__
from buttress.hookspecs import HOOKS

from .blocks import DOCS, FENCE, PAGES, READMES, ROOT, blocks, text_of

_MADE_BY_THE_SITE = re.compile(r"^::: ", flags=re.MULTILINE)


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


@pytest.mark.parametrize(
    ("shown", "example"),
    [("class Centralize", "external_plugin/buttress_centralize.py"), ("class CsvLogger", "csv_logger.py")],
)
def test_an_example_is_shown_as_it_is(shown: str, example: str) -> None:
    code = next(block.code for block in blocks("writing_a_plugin.md") if shown in block.code)
    assert bare(code) == bare((ROOT / "examples" / example).read_text(encoding="utf-8"))


def test_every_hook_has_its_row_in_hooks_md() -> None:
    _, _, rest = text_of("hooks.md").partition("## When each hook fires")
    rows = re.findall(r"^\| `(\w+)` \|", rest.partition("\n## ")[0], flags=re.MULTILINE)
    assert sorted(rows) == sorted(HOOKS)


OTHER_WORDS = re.compile(r"^\*Other words: ([^*]+)\.\*\n\Z", flags=re.MULTILINE)
# What people type into the site's search, which finds words that stand on a page, and where it is to lead them.
SEARCHES = {
    "gradient clipping": "methods/clip_grad.md",
    "mixed precision": "limits.md",
    "fine-tuning": "how-to/fine_tune.md",
    "transfer learning": "how-to/fine_tune.md",
    "hyperparameter": "how-to/search.md",
    "slurm": "how-to/slurm.md",
    "custom dataset": "how-to/own_data.md",
    "multi-gpu": "limits.md",
    "exponential moving average": "methods/ema.md",
    "learning-rate schedule": "reference/components.md",
    "gradient masking": "auditing.md",
    "nan loss": "guards.md",
    "instance reweighting": "which_hooks.md",
    "knowledge distillation": "which_hooks.md",
}


@pytest.mark.parametrize("page", PAGES)
def test_every_page_ends_with_the_words_that_others_use(page: str) -> None:
    text = text_of(page)
    assert OTHER_WORDS.search(text)
    assert text.count("*Other words:") == 1


@pytest.mark.parametrize("words", SEARCHES)
def test_a_search_leads_to_its_page(words: str) -> None:
    assert words in " ".join(text_of(SEARCHES[words]).lower().split())


@cache
def anchors(page: str) -> frozenset[str] | None:
    """Of a page's headings, which a forge and the site make alike; None where the site makes some itself."""
    text = FENCE.sub("", text_of(page))
    if _MADE_BY_THE_SITE.search(text):
        return None
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return frozenset(slugify(heading.replace("`", ""), "-") for heading in headings)


def problem(page: str, target: str) -> str | None:
    """What is wrong with a link of a page, or None."""
    path, _, anchor = target.partition("#")
    file = (DOCS / page).parent / path if path else DOCS / page
    if not file.exists():
        return "no such file"
    if not anchor or not file.resolve().is_relative_to(DOCS):
        return None
    known = anchors(file.resolve().relative_to(DOCS).as_posix())
    return None if known is None or anchor in known else "no such heading"


@pytest.mark.parametrize("page", [*READMES, *PAGES])
def test_relative_links_and_anchors_lead_somewhere(page: str) -> None:
    text = FENCE.sub("", text_of(page))
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    wrong = {target: found for target in targets if (found := problem(page, target))}
    assert not wrong, f"{page}: {wrong}"


def test_a_link_to_a_missing_file_or_heading_is_found() -> None:
    assert problem("hooks.md", "missing.md") == "no such file"
    assert problem("hooks.md", "kernels.md#the-median-of-fishes") == "no such heading"
    assert problem("hooks.md", "kernels.md#the-median-of-files") is None
    assert problem("how-to/own_data.md", "../writing_a_plugin.md#3-declare-settings") is None


def test_the_readme_says_early_what_is_not_there() -> None:
    text = text_of("../README.md")
    assert text.index("**Before you rely on it**") < len(text) / 3
    assert "docs/limits.md" in text[: len(text) // 3]
    assert text_of("glossary.md").count("\n| *") > 6


def test_the_citation_has_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
