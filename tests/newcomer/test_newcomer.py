"""A plugin that is added by the steps of CONTRIBUTING.md passes every check, and no step can be left out unseen."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from .steps import NAME, ROOT, STEPS, add_plugin

NOTHING = "nothing"

CONTRACT, PAGES = "tests/plugins/test_contract.py", "tests/test_method_pages.py"
CHECKS = [
    CONTRACT,
    "tests/plugins/test_cost.py",
    "tests/conformance/test_methods.py",
    "tests/composition/test_pairs.py",
    PAGES,
]
# Checks of the tables, and of the plugin; its pair with one other plugin stands for all pairs.
CHOSEN = f"holds_every or every_file or every_plugin_has or document or pgd+{NAME} or ({NAME} and not +)"
# Step that is left out, to the file and the test that say so.
COMPLAINTS = {
    "plugins/buttress_plugins/": (CONTRACT, f"test_a_state_is_declared_where_there_is_one[{NAME}]"),
    "pyproject.toml": (CONTRACT, "test_every_file_of_plugins_has_an_entry_point"),
    "tests/conformance/references.py": (CONTRACT, ""),  # the row cannot be read
    "tests/plugins/catalogue.py": (CONTRACT, "test_the_catalogue_holds_every_built_in_plugin_and_no_other"),
    "docs/methods/": (PAGES, "test_every_plugin_has_a_page_and_every_page_a_plugin"),
    "scripts/lineages/": (CONTRACT, f"test_a_plugin_is_in_a_recipe_on_digits_that_is_measured[{NAME}]"),
}


def checks_of(left_out: str) -> dict[str, Any]:
    """Orders for ``tests.newcomer.check``."""
    if left_out == NOTHING:
        return {"pages": True, "arguments": ["-k", CHOSEN, *CHECKS]}
    file, test = COMPLAINTS[left_out]
    return {"pages": False, "arguments": [f"{file}::{test}" if test else file]}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Outcomes of the checks where one step is left out, or nothing is."""
    work = tmp_path_factory.mktemp("newcomer")
    folders = {left_out: work / str(number) for number, left_out in enumerate([NOTHING, *STEPS])}
    for left_out, folder in folders.items():
        add_plugin(folder, left_out)
        (folder / "checks.json").write_text(json.dumps(checks_of(left_out)))
    command = [sys.executable, "-m", "tests.newcomer.check", *map(str, folders.values())]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    return {left_out: json.loads((folder / "outcome.json").read_text()) for left_out, folder in folders.items()}


def test_a_plugin_that_is_added_by_all_steps_passes_every_check(outcomes: dict[str, dict[str, Any]]):
    outcome = outcomes[NOTHING]
    assert outcome["failed"] == [], outcome["printed"]
    for name in (
        f"test_a_pair_is_refused_with_its_reason_or_both_have_their_effect[pgd+{NAME}]",
        f"test_a_page_is_as_the_generator_writes_it[{NAME}]",
        "test_the_document_is_that_of_the_table",
        *(test for _, test in COMPLAINTS.values() if test),
    ):
        assert name in outcome["passed"], outcome["printed"]


@pytest.mark.parametrize("left_out", STEPS)
def test_a_step_that_is_left_out_is_named_by_a_check(outcomes: dict[str, dict[str, Any]], left_out: str):
    outcome = outcomes[left_out]
    file, test = COMPLAINTS[left_out]
    assert set(outcome["failed"]) == {test or file}, outcome["printed"]
    assert NAME in outcome["printed"]


def test_contributing_lists_exactly_these_steps():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, section = text.partition("## A new built-in plugin\n")
    steps = re.findall(r"^\d+\. ((?:.+\n)(?: {3}.+\n)*)", section, flags=re.MULTILINE)
    assert len(steps) == len(STEPS)
    for step, path in zip(steps, STEPS, strict=True):
        assert f"`{path}" in step
