"""The hooks of the site and its link check, without building it: formulas, linked files, faults."""

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mkdocs.exceptions import PluginError

from .blocks import ROOT

SITE = ROOT / "scripts" / "site"
PAGE = SimpleNamespace(file=SimpleNamespace(src_uri="methods/pgd.md"))


def load(name: str) -> dict[str, Any]:
    return runpy.run_path(str(SITE / f"{name}.py"))


def test_formulas_become_mathml() -> None:
    turn: Callable[..., str] = load("maths")["on_page_content"]
    text = r'<p><span class="arithmatex">\(x &lt; 1\)</span></p><div class="arithmatex">\[ \frac{a}{b} \]</div>'
    found = turn(text, page=PAGE)
    assert found.count("<math ") == 2
    assert 'display="inline"' in found
    assert 'display="block"' in found
    assert "<mfrac>" in found
    assert "arithmatex" not in found


def test_what_is_no_formula_is_named_with_its_page() -> None:
    turn: Callable[..., str] = load("maths")["on_page_content"]
    with pytest.raises(PluginError, match=r"methods/pgd\.md: no formula: .*left"):
        turn(r'<span class="arithmatex">\(\left( x\)</span>', page=PAGE)


def test_links_out_of_docs_lead_to_pages_that_show_the_file() -> None:
    turn: Callable[..., str] = load("linked_files")["on_page_markdown"]
    links = "[a](../../core/buttress/engine/engine.py#L3) [b](../hooks.md) [c](../../missing.py)"
    text = f"{links}\n```text\n[d](../../LICENSE)\n```\n"
    expected = text.replace(
        "../../core/buttress/engine/engine.py#L3", "../repository/core/buttress/engine/engine.py.md"
    )
    assert turn(text, page=PAGE) == expected


def test_a_method_is_called_by_its_name_in_the_navigation() -> None:
    def page(path: str, heading: str) -> SimpleNamespace:
        return SimpleNamespace(
            file=SimpleNamespace(src_uri=path, content_string=f"{heading}\n\nText: more."), title=None
        )

    pages = [
        page("methods/awp.md", "# awp: worst weights"),
        page("methods/index.md", "# Methods"),
        page("a.md", "# b: c"),
    ]
    load("titles")["on_nav"](SimpleNamespace(pages=pages))
    assert [each.title for each in pages] == ["awp", None, None]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("LICENSE", "``````text\n"),
        ("core/buttress/engine/engine.py", "``````python\n"),
        ("examples", "- `own_loop.py`\n"),
        ("tests/golden/format1/manifest.json", '``````json\n{\n "'),
    ],
)
def test_a_file_is_shown_as_what_it_is(path: str, shown: str) -> None:
    assert shown in load("linked_files")["_shown"](path)


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="b.html#there">', None),
        ('<a href="#here"></a><i id="here">', None),
        ('<a href="https://example.org">', None),
        ('<a href="c.html">', "no such file"),
        ('<a href="b.html#nowhere">', "no such anchor"),
        ('<script src="https://example.org/x.js">', "loads https"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "loads //"),
        ('<img src="missing.png">', "no such file"),
    ],
)
def test_the_link_check_finds(html: str, fault: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(html)
    (tmp_path / "b.html").write_text('<h1 id="there">')
    found = load("check")["faults"](tmp_path)
    assert len(found) == (fault is not None)
    assert fault is None or (found[0].startswith("a.html: ") and fault in found[0])
