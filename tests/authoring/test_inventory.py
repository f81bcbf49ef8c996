"""What is installed, examined apart: one broken component is named, and hides no other of its distribution."""

from pathlib import Path

import pytest

from buttress import hookimpl
from buttress.authoring import inventory as module
from buttress.authoring.inventory import description_of, facts_of, inventory, paper
from buttress.authoring.inventory_text import description_text, render_list
from buttress.components import sources as installed_sources
from buttress.components.sources import Source, find

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
    monkeypatch.setattr(module, "CHECK_SECONDS", 25.0)  # the import of torch takes its part
    sources = installed_sources.sources
    monkeypatch.setattr(module, "sources", lambda kind: [s for s in sources(kind) if s.distribution == "mixed"])
    installed_sources._listed.cache_clear()
    yield
    installed_sources._listed.cache_clear()


@pytest.mark.usefixtures("installed")
def test_a_broken_component_is_named_and_hides_no_other():
    found = {row["name"]: row for row in inventory("plugin", check=True)}
    assert list(found) == list(CODES)
    assert found["b_good"]["status"] == found["f_good"]["status"] == "ok"
    assert found["f_good"]["hooks"] == "adjust_grads"
    assert found["f_good"]["cost"] == "no passes a step"
    assert found["f_good"]["paper"] == 'Author et al., "A Title. With a stop", arXiv:1234.56789, eq. 2'
    assert found["c_exits"]["status"] == "broken: exit code 3 without a word"
    assert "ZeroDivisionError: division by zero" in found["d_raises"]["status"]
    assert found["e_hangs"]["status"] == "broken: its import takes more than 25 s"


def checked(found: list[Source]) -> dict[Source, dict[str, str]]:
    """As the import in another process would answer, without the process."""
    good = {"status": "ok", "hooks": "adjust_grads", "paper": "", "cost": ""}
    return {each: good if "good" in each.name else {"status": "broken: why"} for each in found}


@pytest.mark.usefixtures("installed")
def test_what_is_broken_is_listed_by_every_hook(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_checked", checked)
    rows = inventory("plugin", hook="compute_loss", check=True)
    assert {row["name"]: row["status"] for row in rows} == dict.fromkeys(
        CODES.keys() - {"b_good", "f_good"}, "broken: why"
    )


@pytest.mark.usefixtures("installed")
def test_a_check_before_a_description_says_what_is_broken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_checked", checked)
    assert description_text(description_of("plugin", "d_raises", check=True)).endswith(
        "d_raises_module:Plugin)\nstatus: broken: why"
    )
    said = description_text(description_of(None, "b_good", check=True)).splitlines()
    assert said[:2] == ["plugin b_good (mixed 1.2, b_good_module:Plugin)", "status: ok"]
    assert 'paper: Author et al., "A Title. With a stop", arXiv:1234.56789, eq. 2' in said


def test_a_list_groups_plugins_by_hook_and_fits_a_terminal():
    reason = "words " * 10 + "end"
    row = {"distribution": "mixed", "version": "1.2", "entry point": "a:A", "status": "listed", "hooks": ""}
    rows = [
        row | {"kind": "plugin", "name": "late", "hooks": "adjust_grads, start_run"},
        row | {"kind": "plugin", "name": "unknown"},
        row | {"kind": "plugin", "name": "early", "hooks": "generate_adv, compute_loss", "status": "shadowed"},
        row | {"kind": "logger", "name": "writer", "hooks": "log"},
        row | {"kind": "model", "name": "net", "status": f"broken: {reason}", "paper": "T", "cost": "no"},
        row | {"kind": "unknown", "name": "unknown", "entry point": "/site/a.dist-info", "status": "broken: no text"},
    ]
    text = render_list(rows)
    assert max(map(len, render_list([row | {"kind": "model", "name": "a", "paper": 40 * "title "}]).splitlines())) <= 80
    assert [each.splitlines() for each in text.split("\n\n")] == [
        ["attacks: generate_adv", "  early    mixed 1.2  shadowed; also compute_loss"],
        ["gradients: adjust_grads", "  late     mixed 1.2"],
        ["plugins whose hooks only an import shows (--check)", "  unknown  mixed 1.2"],
        ["models", "  net      mixed 1.2  broken", f"      why: {reason}", "      cost: no", "      paper: T"],
        ["loggers", "  writer   mixed 1.2"],
        ["distributions that cannot be read", "  /site/a.dist-info", "      why: no text"],
    ]


def test_what_an_attack_of_evaluations_costs_is_what_it_says_or_counted():
    costs = {name: facts_of(find("attack", name))["cost"] for name in ("cw", "ifgsm", "clean")}
    assert costs["cw"] == "at most 100 forwards a batch"
    assert costs["ifgsm"] == "+10 forwards, +10 backwards to the input a batch"
    assert costs["clean"] == "no passes a batch"
    assert facts_of(find("logger", "tensorboard"))["cost"] == "none: a logger takes no part in a step"


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
    assert module._type({"type": ["number", "null"], "minimum": 0, "maximum": 1}, {}) == "number >= 0, <= 1 | null"
    number = {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}]}
    assert module._type(number, {}) == "integer > 0 | null"
    assert module._type({"$ref": "#/$defs/Count"}, {"Count": number}) == "integer > 0 | null"


def test_a_reason_of_several_lines_is_told_whole():
    needs = Source("plugin", "mixup", "buttress_plugins.transforms.mixup:Mixup", "buttress", "1")

    class Needs:
        """Has two settings without a default."""

        def __init__(self, *, alpha: float, beta: float) -> None: ...

        @hookimpl
        def end_epoch(self) -> None: ...

    assert module._cost(Needs, needs) == (
        "not known (mixup.alpha: required, and not given; mixup.beta: required, and not given)"
    )


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("", ""),
        ("a warning\nthe end\n", "the end"),
        ('Traceback (most recent call last):\n  File "a.py", line 1\n    f()\nValueError: one\ntwo\n\nthree\n', None),
    ],
)
def test_the_last_words_of_a_process_are_its_whole_exception(stderr: str, said: str | None):
    assert module._last_words(stderr) == ("ValueError: one; two; three" if said is None else said)
