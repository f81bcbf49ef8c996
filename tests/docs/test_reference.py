"""The parts of the reference that are made of the code are fresh and leave nothing out."""

import html
import re
import runpy
from importlib.metadata import entry_points

import click
import markdown
import pytest

from buttress import hookspecs
from buttress.cli.main import buttress
from buttress.components.sources import GROUPS
from buttress.config.schema import Config
from buttress.hookspecs import HOOKS

from .blocks import DOCS, PAGES, ROOT, text_of

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT / "scripts"))
    REFERENCE = runpy.run_path(str(ROOT / "scripts" / "reference_pages.py"))
    import generated
# Modules whose docstrings the site shows.
SHOWN = (
    "attack_losses",
    "data",
    "early_stop",
    "engine.context",
    "engine.engine",
    "engine.objective",
    "engine.step",
    "evaluation.saved_model",
    "functional",
    "hookspecs",
    "images",
    "kernels",
    "nn",
    "scoring.evaluator",
    "settings",
    "testing",
    "threat",
    "types",
)


@pytest.mark.parametrize("name", REFERENCE["PARTS"])
def test_a_page_is_as_the_code_says(name: str) -> None:
    text = text_of(f"reference/{name}.md")
    assert f"<!-- generated: {name} -->" in text
    assert text == REFERENCE["page"](name), "run python scripts/reference_pages.py"


def test_every_public_module_stands_on_one_page() -> None:
    named = [name for page in PAGES for name in re.findall(r"^::: buttress\.([\w.]+)$", text_of(page), re.MULTILINE)]
    assert sorted(named) == sorted(SHOWN)


def test_every_hook_has_a_docstring_to_show() -> None:
    assert not [hook for hook in HOOKS if not getattr(hookspecs, hook).__doc__]


def test_commands_have_every_verb_and_option() -> None:
    text = REFERENCE["commands"]()
    found = set(re.findall(r"^## buttress ([\w ]+)$", text, flags=re.MULTILINE))
    assert {"train", "plugins new", "config schema", "doctor"} <= found
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    for verb, section in zip(REFERENCE["verbs"](click.Context(buttress, info_name="buttress")), sections, strict=True):
        assert section.startswith(f"{verb.command_path}\n")
        assert generated.prose(verb.command.help) in section
        for parameter in verb.command.params:
            assert parameter.help, f"{verb.command_path}: {parameter.name} has no help"
            assert generated.prose(parameter.help) in section
            if isinstance(parameter, click.Option):
                assert all(name in section for name in parameter.opts)


def test_help_texts_are_complete_phrases() -> None:
    for verb in REFERENCE["verbs"](click.Context(buttress, info_name="buttress")):
        texts = [verb.command.help, *(parameter.help for parameter in verb.command.params)]
        assert not [text for text in texts if text.lower().startswith(("of ", "what "))], verb.command_path


def test_config_has_every_key_with_its_description() -> None:
    text = REFERENCE["config"]()
    for name, field in Config.model_fields.items():
        section = REFERENCE["section"](name)
        assert (f"## `{name}`\n" in text) == (section is not None)
        for key, inner in (section.model_fields if section else {name: field}).items():
            assert inner.description, f"{name}: {key} has no description"
            row, meaning = f"| `{key}` |", generated.prose(inner.description)
            assert any(line.startswith(row) and meaning in line for line in text.splitlines()), (name, key)


def test_components_have_every_data_set_model_logger_schedule_attack_loss_and_launcher() -> None:
    text = REFERENCE["components"]()
    named = set(re.findall(r"^### `(\w+)`$", text, flags=re.MULTILINE))
    installed = {
        point.name
        for kind in ("dataset", "model", "logger", "schedule", "attack_loss", "launcher")
        for point in entry_points(group=GROUPS[kind])
        if point.dist and point.dist.name == "buttress"
    }
    assert named == installed
    assert "| `train_per_class` | integer >= 1, &lt;= 170 | `40` |" in text


def test_markup_in_a_text_is_shown_as_it_is() -> None:
    shown = markdown.markdown(
        generated.table(
            ["a", "b"], [[generated.code("RUN|*_[FILE]*"), generated.prose("of ``a_b*``, *c* | [d](e) < f_g $1$ & h")]]
        ),
        extensions=["tables"],
    )
    assert "<td><code>RUN|*_[FILE]*</code></td>" in html.unescape(shown)
    assert "<td>of <code>a_b*</code>, *c* | [d](e) &lt; f_g \\$1\\$ &amp; h</td>" in shown  # $ is for formulas


def test_a_part_that_nobody_makes_is_refused() -> None:
    with pytest.raises(KeyError, match="prices"):
        generated.filled("<!-- generated: prices -->\n<!-- end -->", REFERENCE["PARTS"])


def test_navigation_names_every_page() -> None:
    """Pages under a pattern are named by it; a page that is neither would be found by nobody."""
    text = (DOCS / ".nav.yml").read_text(encoding="utf-8")
    patterns = re.findall(r"([\w-]+)/\*", text)
    missing = [page for page in PAGES if page not in text and page.split("/")[0] not in patterns]
    assert not missing
