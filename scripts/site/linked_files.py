"""A hook of MkDocs: a link to a file of the repository outside of ``docs/`` leads to a page that shows the file.

In the sources such links are relative (``../benchmarks/results/x.json``), so they hold on a forge and in an editor.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
FOLDER = "repository"
_FENCED = re.compile(r"^(```.*?^```)$", flags=re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?P<target>\.\./[^)#\s]+)(?:#[^)\s]*)?(?=\))")
_LANGUAGES = {".cpp": "cpp", ".json": "json", ".md": "markdown", ".py": "python", ".toml": "toml", ".yaml": "yaml"}


def on_files(files: Any, config: Any) -> Any:
    """Called once, with all files of the site: adds a page for each file or folder that is linked to."""
    linked = {
        path
        for file in files.documentation_pages()
        for match in _links(file.content_string)
        if (path := _outside(file.src_uri, match["target"]))
    }
    for path in sorted(linked):
        files.append(File.generated(config, _page(path), content=_shown(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called with the source of every page, before it is rendered: turns such links to the added pages."""
    here = page.file.src_uri

    def turned(match: re.Match[str]) -> str:
        path = _outside(here, match["target"])
        return posixpath.relpath(_page(path), posixpath.dirname(here)) if path else match[0]

    parts = _FENCED.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(turned, part) for part in parts)


def _links(markdown: str) -> Iterator[re.Match[str]]:
    return _LINK.finditer(_FENCED.sub("", markdown))


def _outside(page: str, target: str) -> str | None:
    """Path in the repository of what a page links to; None for another page, or for what does not exist."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return path if path.split("/")[0] not in ("..", "docs") and (ROOT / path).exists() else None


def _page(path: str) -> str:
    return f"{FOLDER}/{path}.md"


def _shown(path: str) -> str:
    """A page with the text of a file, or with the names in a folder."""
    front = f"---\ntitle: {path}\nsearch: {{exclude: true}}\nhide: [toc, navigation]\n---\n\n# {path}\n\n"
    if (ROOT / path).is_dir():
        return front + "\n".join(f"- `{each.name}`" for each in sorted((ROOT / path).iterdir())) + "\n"
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".json"):
        text = json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    fence = "`" * 6  # a file may hold fences of its own
    return f"{front}{fence}{_LANGUAGES.get(Path(path).suffix, 'text')}\n{text.rstrip()}\n{fence}\n"
