"""The pages of docs/methods/: complete, as code and measurements have them, with formulas and configs that work."""

import json
import re
import runpy
import sys
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import yaml
from latex2mathml.converter import convert

from buttress import Data, Split
from buttress.authoring.inventory import description_of
from buttress.components.sources import sources
from buttress.config.file import ConfigFile
from buttress.config.yaml_source import read_yaml
from buttress.training.assembly import assemble
from buttress_plugins.models.preact_resnet import preact_tiny

from .plugins.teachers import files_of, pair_of

ROOT = Path(__file__).parent.parent
PAGES = {path.stem: path for path in sorted((ROOT / "docs" / "methods").glob("*.md"))}
ATTACKS, INDEX = "evaluation_attacks", "index"  # the pages that are not a plugin's
METHODS = [name for name in PAGES if name not in (ATTACKS, INDEX)]
SECTIONS = [
    "Equations",
    "Settings",
    "Cost",
    "Where it hooks in",
    "Combining",
    "Paper and code",
    "In a config",
    "On digits",
    "Source",
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
MEASUREMENT = re.compile(r"^\| \[[^]]*\]\(\S+configs/(\S+)\.yaml\) \|.*\d", flags=re.MULTILINE)
# What a page's config leaves out.
REST: dict[str, Any] = {
    "name": "page",
    "data": {"name": "cifar10", "batch_size": 4},
    "model": {"name": "preact_tiny", "width": 2},
    "threat": {"norm": "linf", "eps": "8/255"},
    "plugins": ["fgsm"],
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "schedule": {"name": "piecewise", "milestones": [0.5]},
    "epochs": 4,
    "evaluation": {"attack": {"fgsm": {}}},
    "device": "cpu",
}

every_page = pytest.mark.parametrize("name", PAGES)
every_method = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(scope="module")
def generator():
    """The names of ``scripts/method_pages.py``."""
    path = sys.path.copy()
    sys.path.insert(0, str(ROOT / "scripts"))
    yield runpy.run_path(str(ROOT / "scripts" / "method_pages.py"))
    sys.path[:] = path


def text(name: str) -> str:
    return PAGES[name].read_text(encoding="utf-8")


def built_in(kind: str) -> set[str]:
    return {source.name for source in sources(kind) if source.distribution == "buttress"}


def formulas(page: str) -> list[str]:
    """What stands between dollar signs, code left out."""
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page))
    blocks = re.findall(r"\$\$(.+?)\$\$", prose, flags=re.DOTALL)
    lines = re.sub(r"\$\$.+?\$\$", "", prose, flags=re.DOTALL)
    assert lines.count("$") % 2 == 0, "a dollar sign without its second"
    return [*blocks, *re.findall(r"\$([^$\n]+)\$", lines)]


def configs() -> list[Any]:
    """Every YAML block, with the name of its page and its number on it."""
    found = [(name, number, block[2]) for name in PAGES for number, block in enumerate(FENCE.finditer(text(name)))]
    return [pytest.param(name, block, id=f"{name}-{number}") for name, number, block in found]


def assembled(block: str, folder: Path):
    """The run of a page's config on ten random images of CIFAR's size, one of each class."""
    (folder / "page.yaml").write_text(yaml.safe_dump({**REST, **yaml.safe_load(block)}), encoding="utf-8")
    files_of("", pair_of(partial(preact_tiny, in_channels=3, num_classes=10, width=2)), folder)  # the teachers of kd
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.rand(10, 3, 32, 32, generator=generator), torch.arange(10))
    file = ConfigFile(read_yaml(folder / "page.yaml"))
    return assemble(file, Data(split, split, 10, split, extra=split if file.config.data.extra else None), {}, folder)


def test_every_plugin_has_a_page_and_every_page_a_plugin():
    assert set(METHODS) == built_in("plugin")
    assert {ATTACKS, INDEX} < set(PAGES)


def test_every_attack_has_its_section():
    assert set(re.findall(r"^## (\w+)$", text(ATTACKS), flags=re.MULTILINE)) == built_in("attack")


@every_page
def test_a_page_is_as_the_generator_writes_it(generator: dict[str, Any], name: str):
    page = text(name)
    assert page == generator["filled"](name), "run python scripts/method_pages.py"
    assert (
        page.count("<!-- generated: ")
        == page.count("<!-- end -->")
        == len(generator["generated"].PART.findall(page))
        > 0
    )


@every_method
def test_a_page_has_every_section_and_every_generated_part(name: str):
    assert re.findall(r"^## (.+)$", text(name), flags=re.MULTILINE) == SECTIONS
    parts = re.findall(r"<!-- generated: (\w+)", text(name))
    assert parts == ["facts", "settings", "cost", "refused", "digits"]
    assert text(name).startswith(f"# {name}: ")


@every_method
def test_a_page_names_the_papers_of_the_code(name: str):
    papers = re.findall(r"arXiv:\d+\.\d+", description_of("plugin", name, cost=False)["source"])
    _, _, source = text(name).partition("## Source")
    assert [paper for paper in papers if paper not in source] == []


@every_method
def test_a_page_has_measurements_on_digits_or_says_that_there_are_none(name: str):
    _, _, section = text(name).partition("## On digits")
    assert bool(MEASUREMENT.search(section)) != ("Not measured on digits yet" in section)


def test_the_page_of_results_is_as_the_generator_writes_it(generator: dict[str, Any]):
    page = runpy.run_path(str(ROOT / "scripts" / "results_page.py"))
    assert page["PAGE"].read_text(encoding="utf-8") == page["page"](), "run python scripts/results_page.py"


def test_every_measurement_on_digits_is_on_a_page():
    results = json.loads((ROOT / "benchmarks/results/compare-digits.json").read_text(encoding="utf-8"))
    recorded = {row["method"].replace("digits-", "digits/") for row in results["rows"]}
    assert recorded
    assert recorded <= {recipe for name in METHODS for recipe in MEASUREMENT.findall(text(name))}


@every_page
def test_every_formula_becomes_mathml(name: str):
    for formula in formulas(text(name)):
        mathml = convert(formula)
        ElementTree.fromstring(mathml)  # not well-formed where an ampersand is left
        assert "\\" not in mathml, f"a command that is not understood in {formula}"


@pytest.mark.parametrize("formula", [r"\unknown x", r"\begin{aligned} a &= b \end{aligned}"])
def test_a_formula_that_cannot_be_shown_would_be_found(formula: str):
    mathml = convert(formula)
    try:
        ElementTree.fromstring(mathml)
    except ElementTree.ParseError:
        return
    assert "\\" in mathml


@every_method
def test_a_page_has_a_config_with_its_plugin(name: str):
    (block,) = [found[2] for found in FENCE.finditer(text(name))]
    listed = [entry if isinstance(entry, str) else next(iter(entry)) for entry in yaml.safe_load(block)["plugins"]]
    assert name in listed


@pytest.mark.parametrize(("name", "block"), configs())
def test_a_config_trains_for_two_steps_and_evaluates(name: str, block: str, tmp_path: Path):
    assembly = assembled(block, tmp_path)
    engine, split = assembly.engine, assembly.data.train
    for epoch in (0, assembly.file.config.epochs - 1):
        engine.epoch = epoch
        engine.set_lr(0.1**epoch, epoch)
        losses = engine.step(split.x, split.y, index=torch.arange(10)).losses
        assert bool(torch.isfinite(losses).all())
    engine.end_epoch()
    for track in engine.tracks():
        with engine.track(track):
            pass
    assert assembly.evaluator.score(split).n == 10
