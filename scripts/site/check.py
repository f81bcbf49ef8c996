"""Checks the built site: every link within it leads somewhere, anchors too, and nothing is loaded from elsewhere.

    python scripts/site/check.py SITE

Exit code 1, and a line for each fault, if there is any.
"""

import sys
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Elements whose target a browser fetches by itself, without a click of the reader, and the attribute that names it.
_LOADED = {"iframe": "src", "img": "src", "link": "href", "script": "src", "source": "src"}
_RELATIONS = {"canonical", "next", "prev"}  # relations of <link> for crawlers, which no browser fetches


@dataclass
class Page(HTMLParser):
    """The anchors, links and resources of one page."""

    path: Path
    anchors: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if tag in _LOADED and values.get(_LOADED[tag]) and values.get("rel") not in _RELATIONS:
            self.loaded.add(values[_LOADED[tag]])


page = cache(Page)


def faults(site: Path) -> list[str]:
    """One line for each link that leads nowhere and each resource of another server."""
    lines = []
    for path in sorted(site.rglob("*.html")):
        if path.name == "404.html":  # its links are absolute: a server shows it for any address
            continue
        for url in sorted(page(path).loaded | page(path).links):
            outside = urlsplit(url).scheme or urlsplit(url).netloc
            if outside and url in page(path).loaded:
                lines.append(f"{path.relative_to(site)}: loads {url}")
            elif not outside and (problem := _problem(path, url)):
                lines.append(f"{path.relative_to(site)}: {url}: {problem}")
    return lines


def _problem(path: Path, url: str) -> str | None:
    parts = urlsplit(url)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return "no such file"
    anchor = unquote(parts.fragment)
    if anchor and target.suffix == ".html" and anchor not in page(target).anchors:
        return "no such anchor"
    return None


def main(arguments: list[str]) -> int:
    """Check the site in the folder that is named."""
    site = Path(*arguments).resolve()
    lines, pages = faults(site), len(list(site.rglob("*.html")))
    print("\n".join(lines) or f"{pages} pages: every link leads somewhere, and nothing is loaded from elsewhere")
    return 1 if lines or not pages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
