"""Plugins by name: entry points of made-up distributions on ``sys.path``."""

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from buttress import __version__
from buttress.authoring.inventory import description_of, facts_of
from buttress.components import sources as installed_sources
from buttress.components.construct import build
from buttress.components.entries import entry_of
from buttress.components.loaded import as_loaded, load_plugins
from buttress.components.place import Place
from buttress.components.sources import find, load, sources
from buttress.config.file import ConfigFile
from buttress.config.yaml_source import parse_yaml
from buttress.errors import ConfigError, PluginError

PLUGIN = """
from buttress import hookimpl

class Plugin:
    {setup}
    @hookimpl
    def adjust_grads(self) -> None:
        pass
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution on ``sys.path``: metadata with one plugin entry point, and its module."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(
        distribution: str,
        name: str,
        code: str = PLUGIN.format(setup=""),
        requires: tuple[str, ...] = (),
        version: str = "1.2",
        kind: str = "plugin",
        target: str | None = None,
    ) -> None:
        module = distribution.replace("-", "_").lower() + "_module"
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
        lines += [f"Requires-Dist: {text}" for text in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        group = installed_sources.GROUPS[kind]
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target or f'{module}:Plugin'}\n")
        installed_sources._listed.cache_clear()

    yield add
    installed_sources._listed.cache_clear()


def statuses(name: str) -> list[tuple[str, str]]:
    return [(source.distribution, source.status) for source in sources("plugin") if source.name == name]


# Listing and finding


def test_an_installed_plugin_is_listed_without_being_imported(install: Install):
    install("far-away", "distant", "raise SystemExit('imported')")
    (source,) = [source for source in sources("plugin") if source.name == "distant"]
    assert (source.distribution, source.version, source.status) == ("far-away", "1.2", "listed")
    assert "far_away_module" not in sys.modules


def test_built_in_plugins_use_the_same_door():
    built_in = {point.name for point in entry_points(group="buttress.plugins") if point.dist.name == "buttress"}
    assert {source.name for source in sources("plugin") if source.distribution == "buttress"} == built_in
    assert "pgd" in built_in


def test_an_installed_plugin_works_by_its_name(install: Install):
    install("far-away", "distant", PLUGIN.format(setup="def __init__(self, *, size: int = 3): self.size = size"))
    (loaded,) = load_plugins([{"distant": {"size": 5}}])
    assert loaded.plugin.size == 5
    assert str(loaded) == "'distant' (far-away 1.2)"
    assert loaded.settings == {"size": 5}


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("plugin", "pdg", r"unknown plugin 'pdg'; did you mean 'pgd'\? \(see: buttress plugins list\)"),
        ("plugin", "qqqq", r"unknown plugin 'qqqq'; known: .*cross_entropy.*pgd"),
        ("attack", "fsgm", r"unknown attack 'fsgm'; did you mean 'fgsm'\?"),
        ("attack", "meat", r"unknown attack 'meat'"),
        ("model", "preact_resnet1", r"unknown model 'preact_resnet1'; did you mean 'preact_resnet18'\?"),
        ("dataset", "digit", r"unknown dataset 'digit'; did you mean 'digits'\?"),
        ("plugin", "nobody:pgd", r"unknown plugin 'nobody:pgd'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(kind: str, name: str, message: str):
    with pytest.raises(PluginError, match=message):
        find(kind, name)


def test_two_distributions_that_claim_one_name_are_both_named_and_can_be_chosen(install: Install):
    setup = "def __init__(self): self.whose = {!r}"
    install("First-One", "twice", PLUGIN.format(setup=setup.format("first")))
    install("second", "twice", PLUGIN.format(setup=setup.format("second")), version="2.0")
    assert statuses("twice") == [("First-One", "shadowed"), ("second", "shadowed")]
    with pytest.raises(
        PluginError,
        match=r"plugin 'twice' is claimed by First-One 1\.2 \(first_one_module:Plugin\) and second 2\.0 "
        r"\(second_module:Plugin\); choose one as 'First-One:twice'",
    ):
        load_plugins(["twice"])
    for name, whose in (("First-One:twice", "first"), ("first_one:twice", "first"), ("second:twice", "second")):
        (loaded,) = load_plugins([name])
        assert loaded.plugin.whose == whose


def test_a_distribution_that_claims_a_built_in_name_does_not_take_it_over_silently(install: Install):
    install("impostor", "pgd")
    with pytest.raises(PluginError, match=r"'pgd' is claimed by buttress .* and impostor 1\.2"):
        load_plugins(["pgd"])
    (loaded,) = load_plugins(["buttress:pgd"])
    assert type(loaded.plugin).__name__ == "PGD"


def test_two_chosen_by_distribution_get_numbered_labels(install: Install):
    install("first", "twice")
    install("second", "twice")
    assert [loaded.label for loaded in load_plugins(["first:twice", "second:twice"])] == ["twice", "twice#2"]


@pytest.mark.parametrize("requirement", ["buttress>=99", "Buttress<0.1", "buttress==2.*"])
def test_a_distribution_for_another_version_is_incompatible(install: Install, requirement: str):
    install("old", "ancient", requires=("numpy", requirement))
    assert statuses("ancient") == [("old", "incompatible")]
    with pytest.raises(
        PluginError,
        match=rf"plugin 'ancient' from old 1\.2 requires another version of buttress than {__version__}; "
        "install a version of old",
    ):
        load_plugins(["ancient"])


@pytest.mark.parametrize(
    "requirement", ["buttress", f"buttress=={__version__}", "buttress>=0.1,<2", "buttress-extras>9"]
)
def test_a_distribution_for_this_version_is_compatible(install: Install, requirement: str):
    install("fine", "modern", requires=(requirement,))
    assert statuses("modern") == [("fine", "listed")]
    load_plugins(["modern"])


@pytest.mark.parametrize("marker", ['extra == "next"', 'python_version < "3"'])
def test_a_requirement_that_does_not_apply_here_does_not_count(install: Install, marker: str):
    install("fine", "modern", requires=(f"buttress>=99; {marker}",))
    assert statuses("modern") == [("fine", "listed")]


def test_a_distribution_with_broken_metadata_does_not_break_the_others(install: Install):
    install("broken", "shaky", requires=("buttress >>> 1",))
    assert "pgd" in [source.name for source in sources("plugin")]


# Importing


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("def broken(:", "SyntaxError: "),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("Other = 1", "AttributeError: .*Plugin"),
    ],
)
def test_a_broken_import_names_distribution_version_entry_point_and_cause(install: Install, code: str, cause: str):
    install("brittle", "shaky", code)
    with pytest.raises(
        PluginError,
        match=rf"plugin 'shaky' from brittle 1\.2 cannot be imported: entry point brittle_module:Plugin raised {cause}"
        r".*Repair or uninstall brittle",
    ) as caught:
        load_plugins(["shaky"])
    assert caught.value.__cause__ is not None


def test_an_interruption_while_importing_is_no_broken_plugin(install: Install):
    install("slow", "shaky", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load(find("plugin", "shaky"))


def test_a_component_that_is_no_plugin_is_refused_with_its_distribution(install: Install):
    install("empty", "hollow", "class Plugin:\n    def generate_adversarial(self): pass")
    with pytest.raises(PluginError, match=r"plugin 'hollow' from empty 1\.2 implements no hook"):
        load_plugins(["hollow"])


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        ("def __init__(self, size: int = 3): pass", r"Plugin: setting 'size' must be keyword-only"),
        ("def __init__(self, *, size=3): pass", r"Plugin: setting 'size' needs a type annotation \(.*py:\d+\)"),
    ],
)
def test_a_plugin_with_positional_or_unannotated_settings_is_refused(install: Install, setup: str, message: str):
    install("loose", "sloppy", PLUGIN.format(setup=setup))
    with pytest.raises(PluginError, match=message):
        load_plugins(["sloppy"])


@pytest.mark.parametrize(
    "setup", ["gvies = ('soft labels',)", "def __init__(self): self.gvies = ('soft labels',)"], ids=["class", "object"]
)
def test_a_misspelt_attribute_is_named_with_its_place_in_the_config(install: Install, setup: str):
    install("loose", "sloppy", PLUGIN.format(setup=setup))
    with pytest.raises(PluginError, match=r"^plugins\.0\.sloppy: plugin 'sloppy' from loose 1\.2: unknown attribute "):
        load_plugins(["sloppy"])


def test_a_value_error_of_the_constructor_is_the_users_mistake(install: Install):
    setup = "def __init__(self, *, size: int = 3): raise ValueError('size and shape clash')"
    install("picky", "choosy", PLUGIN.format(setup=setup))
    with pytest.raises(PluginError, match=r"plugins\.0\.choosy: size and shape clash"):
        load_plugins(["choosy"])


# Entries


def test_settings_are_checked_and_named():
    with pytest.raises(ConfigError, match=r"^plugins\.1\.pgd\.stepz: unknown key; did you mean 'steps'\?$"):
        load_plugins(["clean", {"pgd": {"stepz": 3}}])


def test_an_entry_among_objects_and_names_is_blamed_at_its_own_position():
    with pytest.raises(ConfigError) as caught:
        as_loaded(["pgd", "awp", {"mixup": {"alfa": 1}}])
    unknown, missing = str(caught.value).splitlines()
    assert unknown == "plugins.2.mixup.alfa: unknown key; did you mean 'alpha'?"
    assert missing == "plugins.2.mixup.num_classes: required, and not given"
    with pytest.raises(ConfigError, match=r"^plugins\.1: expected a name or"):
        as_loaded(["pgd", {"awp": 3}])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [("pgd", ("pgd", {})), ({"pgd": None}, ("pgd", {})), ({"pgd": {"steps": 3}}, ("pgd", {"steps": 3}))],
)
def test_an_entry_is_a_name_or_a_name_with_settings(entry: Any, expected: Any):
    assert entry_of(entry, Place("here")) == expected


@pytest.mark.parametrize("entry", [3, None, [], {}, {"pgd": 3}, {"pgd": {}, "fgsm": {}}, {3: {}}])
def test_anything_else_is_no_entry(entry: Any):
    with pytest.raises(ConfigError, match=r"^here: expected a name or 'name: \{settings\}', got "):
        entry_of(entry, Place("here"))


def test_the_core_gives_what_a_signature_asks_for_unless_the_config_does():
    model, source, settings = build("model", "preact_tiny", {"width": 2}, given={"num_classes": 3, "in_channels": 1})
    assert model.linear.out_features == 3
    assert source.distribution == "buttress"
    assert settings == {"width": 2}
    model, _, settings = build("model", "preact_tiny", {"num_classes": 7}, given={"num_classes": 3, "in_channels": 1})
    assert model.linear.out_features == 7
    assert settings["num_classes"] == 7


# Schedules


SCHEDULE = """
class Plugin:
    per = "epoch"

    def __init__(self, *, low: float = 0.5) -> None:
        self.low = low

    def factor(self, t: float, epochs: int) -> float:
        return self.low if t else 1.0

    def drops(self, epochs: int) -> list[int]:
        return {drops}
"""


def schedule_of(name: str, more: str = "") -> Any:
    text = "name: a\ndata: {name: digits}\nmodel: {name: mlp}\nthreat: {norm: l2, eps: 1}\nplugins: [clean]\n"
    text += f"optimizer: {{lr: 0.1}}\nepochs: 3\nschedule: {{name: {name}, low: 0.25{more}}}\n"
    return ConfigFile(parse_yaml(text, "a.yaml")).schedule(3)


def test_schedules_are_listed_shown_and_taken_from_distributions_too(install: Install):
    install("slow-lr", "slow", SCHEDULE.format(drops="[1]"), kind="schedule")
    listed = {source.name: source.distribution for source in sources("schedule")}
    own = ("constant", "cosine", "cyclic", "linear", "multistep", "onecycle", "piecewise")
    assert listed == {**dict.fromkeys(own, "buttress"), "slow": "slow-lr"}
    assert description_of("schedule", "piecewise", cost=False)["settings"][0]["name"] == "milestones"
    schedule, settings = schedule_of("slow")
    assert (schedule.factor(1, 3), settings) == (0.25, {"low": 0.25})
    schedule, settings = schedule_of("slow", ", warmup: 2, warmup_from: 0.125")
    assert [schedule.factor(t, 3) for t in (0.0, 1.0, 2.0, 2.5)] == [0.125, 0.1875, 0.25, 0.25]
    assert (schedule.drops(3), settings) == ([], {"low": 0.25})  # its only drop is in the warm-up


def test_a_schedule_of_a_distribution_cannot_have_a_setting_of_the_section(install: Install):
    install("slow-lr", "slow", SCHEDULE.format(drops="[1]").replace("low: float", "warmup: float"), kind="schedule")
    with pytest.raises(PluginError, match=r"^a\.yaml:8: schedule\.name: .* its setting 'warmup' is a key of every"):
        schedule_of("slow")


def test_a_schedule_of_a_distribution_is_tried_before_training(install: Install):
    install("slow-lr", "slow", SCHEDULE.format(drops="None"), kind="schedule")
    with pytest.raises(ConfigError, match=r"a\.yaml:8: schedule\.name: slow: expected drops\(3\) to be a list"):
        schedule_of("slow")


def test_a_setting_that_no_config_can_hold_is_named_by_the_check_with_the_types_that_can(install: Install):
    code = PLUGIN.format(setup="def __init__(self, *, weigh: 'type' = int): ...")
    install("strange", "odd", code)
    status = facts_of(find("plugin", "odd"))["status"]
    assert status.startswith(
        "broken: Plugin: setting 'weigh' is a type, and nothing in a config can be one; take a name"
    )
    assert "a Path, a Fraction, an Enum, a Literal, or a list, tuple, set or dict of those" in status
