"""What is installed, examined apart: one broken component is named, and hides no other of its distribution."""

from pathlib import Path

import pytest

from buttress import inventory as module
from buttress import registry
from buttress.inventory import inventory, paper

GOOD = '''"""A method. Source: Author et al., "A Title. With a stop", arXiv:1234.56789, eq. 2. More."""
from buttress import hookimpl

class Plugin:
    @hookimpl
    def adjust_grads(self) -> None:
        print("noise on standard output")
'''
CODES = {
    "b_good": GOOD,
    "c_exits": "import os\nos._exit(3)",
    "d_raises": "1 / 0",
    "e_hangs": "import time\ntime.sleep(60)",
    "f_good": GOOD,
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One distribution that has them all."""
    info = tmp_path / "mixed-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mixed\nVersion: 1.2\n")
    points = [f"{name} = {name}_module:Plugin" for name in CODES]
    (info / "entry_points.txt").write_text("[buttress.plugins]\n" + "\n".join(points))
    for name, code in CODES.items():
        (tmp_path / f"{name}_module.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(module, "CHECK_SECONDS", 15.0)  # the import of torch takes its part
    sources = registry.sources
    monkeypatch.setattr(module, "sources", lambda kind: [s for s in sources(kind) if s.distribution == "mixed"])
    registry._entry_points.cache_clear()
    yield
    registry._entry_points.cache_clear()


@pytest.mark.usefixtures("installed")
def test_a_broken_component_is_named_and_hides_no_other():
    found = {row["name"]: row for row in inventory("plugin", check=True)}
    assert list(found) == list(CODES)
    assert found["b_good"]["status"] == found["f_good"]["status"] == "ok"
    assert found["f_good"]["hooks"] == "adjust_grads"
    assert found["f_good"]["cost"] == "no passes"
    assert found["f_good"]["paper"] == 'Author et al., "A Title. With a stop", arXiv:1234.56789, eq. 2'
    assert found["c_exits"]["status"] == "broken: exit code 3 without a word"
    assert "ZeroDivisionError: division by zero" in found["d_raises"]["status"]
    assert found["e_hangs"]["status"] == "broken: its import takes more than 15 s"


def test_a_module_without_a_source_has_no_paper():
    assert paper(Path) == ""


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ('Source: A and B, "C: d; e. F", arXiv:1.2, section 3: a line.', 'A and B, "C: d; e. F", arXiv:1.2, section 3'),
        ("Sources: A et al., X 2020, eq. 9 to 11; B, Y 2021. More.", "A et al., X 2020, eq. 9 to 11"),
        ("Source: as in A, X 2020, section 4: as there.", "A, X 2020, section 4"),
        ("A method without one.", ""),
    ],
)  # fmt: skip
def test_a_paper_is_the_first_reference(text: str, reference: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module.inspect, "getdoc", lambda _: f"A method.\n\n{text}")
    assert paper(Path) == reference


def test_a_type_has_its_bounds_beside_the_number():
    assert module._type({"type": ["number", "null"], "minimum": 0, "maximum": 1}) == "number >= 0, <= 1 | null"
    assert (
        module._type({"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}]}) == "integer > 0 | null"
    )
