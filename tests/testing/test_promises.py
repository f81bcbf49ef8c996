"""Every promise can be kept, by all built-in plugins, and broken, each by a plugin made for it."""

import gc
import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
import torch
import torch.nn.functional as F

from buttress import Adv, Batch, hookimpl
from buttress.authoring.targets import subjects_of
from buttress.cli import main
from buttress.components.plugins_file import snake_case
from buttress.components.sources import find, load
from buttress.errors import ConfigError, InputError, PluginError
from buttress.settings import File
from buttress.testing import BrokenPromiseError, check_plugin, examine, promises
from buttress.testing.promise import RULES
from buttress.testing.subject import Subject

from ..here import run_here
from ..plugins.catalogue import ATTACKS, CATALOGUE
from . import broken, broken_attacks, broken_loggers

FILES = {"plugin": broken, "attack": broken_attacks, "logger": broken_loggers}


def broken_of(kind: str) -> dict[str, type]:
    """The deliberately broken classes, by the names that a config would give them."""
    classes = vars(FILES[kind]).values()
    return {snake_case(cls.__name__): cls for cls in classes if inspect.isclass(cls) and hasattr(cls, "breaks")}


PLUGINS = tuple(broken_of("plugin"))
THREE = ("stops", "leaves_box", "leaves_ball")
TURNS = 5  # of the promises that a broken plugin keeps every fifth is asked for, by turns


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """``plugins check`` examines in this process, which no plugin of the test ends."""
    monkeypatch.setattr("buttress.authoring.examination.run_apart", run_here)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_built_in_plugin_keeps_its_promises(name: str):
    wrong = []
    for promise in promises(load(find("plugin", name)), CATALOGUE[name].settings, name=name):
        try:
            promise.check()
        except SkipTest:
            pass
        except BrokenPromiseError as problem:
            wrong.append(str(problem))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("by", "kept"), [(1.9, True), (2.1, False)])
def test_the_promise_of_an_attack_to_stay_inside_the_ball_is_that_of_its_radius(by: float, kept: bool):
    class Wide:
        radius = 2.0

        @hookimpl
        def generate_adv(self, batch: Batch, ctx: Any) -> Adv:
            far = batch.x + by * float(ctx.threat.eps) * (1 - 2 * batch.x).sign() * unit(ctx.threat.norm, batch.x)
            return Adv(ctx.threat.clamp(far))

    def unit(norm: str, x: torch.Tensor) -> float:
        return 1.0 if norm == "linf" else x[0].numel() ** -0.5

    (promise,) = [each for each in promises(Wide) if str(each) == "inside_ball"]
    if kept:
        promise.check()
    else:
        with pytest.raises(BrokenPromiseError, match=r"2 \* "):
            promise.check()


def test_there_is_one_that_breaks_each_promise_of_its_kind():
    for kind in FILES:
        own = {name for name, rule in RULES.items() if kind in rule.kinds}
        named = {cls.breaks for cls in broken_of(kind).values()}
        assert named <= own
        of_all = {name for name in own if set(RULES[name].kinds) == set(FILES)}
        assert own - named <= (set() if kind == "plugin" else of_all)  # those of settings do not look at the kind
    assert len(RULES) >= 15


def test_what_a_promise_presumes_is_asked_for_before():
    order = list(RULES)
    for rule in RULES.values():
        presumed = [name for name in rule.presumes if set(RULES[name].kinds) & set(rule.kinds)]
        assert all(order.index(name) < order.index(rule.name) for name in presumed), rule.name


@pytest.mark.parametrize("name", PLUGINS)
def test_a_broken_plugin_breaks_its_promise_and_no_other(name: str):
    cls = broken_of("plugin")[name]
    expected, accusations = {cls.breaks, *getattr(cls, "also", ())}, {}
    wanted = with_presumed({*expected, *list(RULES)[PLUGINS.index(name) % TURNS :: TURNS]})
    for promise in promises(cls, name=name):
        if promise.rule.name in wanted:
            try:
                promise.check()
            except SkipTest:
                pass
            except BrokenPromiseError as problem:
                accusations[promise.rule.name] = str(problem)
    assert accusations.keys() == expected
    assert f"plugin '{name}' breaks '{cls.breaks}' ({RULES[cls.breaks].text}):" in accusations[cls.breaks]


def with_presumed(names: set[str]) -> set[str]:
    """``names`` of promises, and those without which these cannot be asked for."""
    presumed = {other for name in names for other in RULES[name].presumes}
    return names if presumed <= names else with_presumed(names | presumed)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A file of broken components of each kind; three plugins in the place of all, which take minutes."""
    paths = {kind: Path(str(module.__file__)) for kind, module in FILES.items()}
    three = tmp_path / "three.py"
    head = paths["plugin"].read_text(encoding="utf-8").partition("# Answers")[0]
    three.write_text(head + "\n".join(inspect.getsource(broken_of("plugin")[name]) for name in THREE), encoding="utf-8")
    return {**paths, "plugin": three}


@pytest.mark.parametrize("kind", FILES)
def test_the_command_names_what_each_broken_one_breaks_and_nothing_else(
    kind: str, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
):
    assert main(["plugins", "check", str(files[kind]), "--kind", kind, "--json"]) == 1
    output = capsys.readouterr()
    reports = {report["plugin"]: report for report in json.loads(output.out)}
    for name, cls in broken_of(kind).items():
        if kind == "plugin" and name not in THREE:
            continue
        report = reports.pop(name)
        assert set(report["broken"]) == {cls.breaks, *getattr(cls, "also", ())}, name
        (finding,) = [result["finding"] for result in report["results"] if result["name"] == cls.breaks]
        assert f"{kind} '{name}' breaks '{cls.breaks}' ({RULES[cls.breaks].text}):" in finding
        assert f"{name} breaks {cls.breaks}" in output.err
    assert not any(report["broken"] for report in reports.values())  # what they are derived from keeps its promises


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobody"], r"unknown plugin, attack or logger 'nobody'"),
        (["autoatack"], r"did you mean 'autoattack'"),
        (["nowhere/mine.py"], r"cannot be read: No such file"),
        (["other-dist:pgd"], r"unknown plugin, attack or logger 'other-dist:pgd'"),
        (["nowhere/mine"], r"no such file or folder"),
        (["wrn_28_10"], r"'wrn_28_10' is a model; promises are those of plugins, attacks and loggers"),
        (["digits"], r"'digits' is a dataset; .*buttress config validate"),
        (["cw", "plugin"], r"'cw' is an attack, and no plugin; promises are those of"),
        (["cutout", None, "size=0"], r"cutout\.size: "),
        (["cutout", None, "cutot.size=3"], r"expected key=value, or plugin\.key=value; did you mean 'cutout'"),
        (["cutout", None, "size"], r"expected key=value"),
        ([broken_loggers.__file__, "attack"], r"broken_loggers\.py: holds no attack"),
    ],
)
def test_what_cannot_be_examined_is_refused(words: list[Any], message: str):
    target, kind, *settings = words if len(words) > 1 else [*words, None]
    with pytest.raises(InputError, match=message):
        subjects_of(target, settings, kind)


def test_a_file_of_attack_losses_alone_has_no_promises(tmp_path: Path):
    file = tmp_path / "losses.py"
    file.write_text(
        "class Own:\n    def input_loss(self, model, batch, ctx):\n        return model\n", encoding="utf-8"
    )
    with pytest.raises(PluginError, match=r"losses\.py: holds no plugin, attack or logger; .* or an attack loss is "):
        subjects_of(str(file))


def test_a_refusal_of_the_command_is_one_message(here: None, capsys: pytest.CaptureFixture[str]):
    assert main(["plugins", "check", "cutout", "size=0"]) == 2
    assert capsys.readouterr().err.startswith("error: cutout.size: ")


def test_settings_that_are_required_are_asked_for_and_taken():
    class Needs(broken.Passes):
        """Has a setting without a default.

        Args:
            alpha: a share.
        """

        def __init__(self, *, alpha: broken.Share) -> None:
            self.alpha = alpha

    with pytest.raises(ConfigError, match=r"^Needs\.alpha: required"):
        promises(Needs)
    assert check_plugin(Needs, {"alpha": 0.5}).broken == []


class ReadsMask(broken.Passes):
    """Multiplies by a mask.

    Args:
        mask: file with the mask.
        factor: of the mask.
    """

    def __init__(self, *, mask: File, factor: broken.Share) -> None:
        self.mask = torch.load(mask, weights_only=True) * factor

    @hookimpl
    def transform_batch(self, batch):
        return replace(batch, x=batch.x * self.mask.to(batch.x))

    @classmethod
    def example(cls, folder, model, batch):
        assert model(batch.x).shape == (6, 10)
        torch.save(torch.ones(batch.x.shape[1:]), folder / "mask.pt")
        return {"mask": str(folder / "mask.pt"), "factor": 0.5}


def test_a_class_may_give_the_settings_of_its_examination():
    subject = Subject(ReadsMask, {"factor": 0.75})
    assert float(subject.plugin().plugin.mask.mean()) == 0.75  # what is given comes first
    assert examine(subject).broken == []
    folder = Path(subject.settings["mask"]).parent
    del subject
    gc.collect()
    assert not folder.exists()


def test_an_example_that_fails_or_gives_no_settings_is_refused():
    class Fails(broken.Passes):
        @staticmethod
        def example(folder, model, batch):
            raise KeyError("gone")

    class Lists(broken.Passes):
        @staticmethod
        def example(folder, model, batch):
            return ["mask"]

    class Method(broken.Passes):
        def example(self, folder, model, batch):
            return {}

    with pytest.raises(PluginError, match=r"^plugin 'Fails': example raised KeyError: 'gone'"):
        promises(Fails)
    with pytest.raises(PluginError, match=r"^plugin 'Lists': example: expected settings by name, got \['mask'\]"):
        promises(Lists)
    with pytest.raises(PluginError, match=r"example: expected a method .* a class method or a static method"):
        promises(Method)


def test_a_class_that_is_none_of_its_kind_or_cannot_be_made_is_refused():
    class Nothing:
        pass

    class Raises(broken.Passes):
        def __init__(self) -> None:
            raise KeyError("gone")

    with pytest.raises(PluginError, match="implements no hook"):
        promises(Nothing)
    with pytest.raises(PluginError, match=r"^plugin 'Raises' cannot be made: KeyError: 'gone'"):
        promises(Raises)
    with pytest.raises(PluginError, match="does not implement generate_adv"):
        promises(broken.Passes, kind="attack")
    with pytest.raises(PluginError, match="does not implement log"):
        promises(broken.Passes, kind="logger")
    with pytest.raises(PluginError, match=r"kind 'model': promises are those of plugin, attack, logger"):
        promises(broken.Passes, kind="model")


def test_a_line_under_args_that_says_nothing_is_shown():
    with pytest.raises(BrokenPromiseError, match="a line under Args that says nothing: alpha: '-'; write what"):
        check_plugin(broken.SaysNothing)


def test_a_promise_that_presumes_a_broken_one_is_not_asked_and_says_so():
    report = examine(Subject(broken.LeavesBox))
    assert [result.name for result in report.broken] == ["trains", "inside_box"]
    assert "  not asked  exact_resume" in str(report)
    assert "asked for where 'trains' is kept" in str(report)


def test_promises_are_those_of_the_plugin_s_hooks():
    names = [str(promise) for promise in promises(broken.Passes)]
    assert "inside_box" in names
    assert {"inside_ball", "one_loss_an_example", "plain_state", "track_named"}.isdisjoint(names)


def test_check_plugin_raises_with_every_broken_promise():
    with pytest.raises(BrokenPromiseError) as caught:
        check_plugin(broken.MovesFrozen)
    assert "'frozen_weights_stay'" in str(caught.value)
    assert "'weights_as_found'" in str(caught.value)


class Weighs(broken.Passes):
    """Attacks, and weighs the losses by what its own attack has counted, example by example."""

    @hookimpl
    def generate_adv(self, batch, ctx):
        return Adv(ctx.threat.project(batch.x + 0.01, batch.x), {"weight": batch.x.flatten(1).mean(1)})

    @hookimpl
    def compute_loss(self, model, batch, adv):
        return adv.aux["weight"] * F.cross_entropy(model(adv.x), batch.y, reduction="none")


class Remembers(broken.Passes):
    """Has a weight for each example of the training set."""

    @hookimpl
    def compute_loss(self, model, batch, adv):
        return (1 + batch.index) * F.cross_entropy(model(adv.x), batch.y, reduction="none")


@pytest.mark.parametrize("component", [Weighs, Remembers])
def test_a_loss_of_the_plugin_s_own_aux_or_of_the_positions_is_one_an_example(component: type):
    (promise,) = [each for each in promises(component) if each.rule.name == "one_loss_an_example"]
    promise.check()


def test_the_external_example_keeps_its_promises(here: None, capsys: pytest.CaptureFixture[str]):
    folder = Path(__file__).parents[2] / "examples" / "external_plugin"
    assert main(["plugins", "check", str(folder), "conv_only=true"]) == 0
    assert "plugin 'centralize' (buttress-centralize 0.1.0): " in capsys.readouterr().out


@pytest.mark.parametrize(("hook", "kind"), [("generate_adv(self, batch)", "plugin"), ("log(self, metrics)", "logger")])
def test_a_class_of_a_file_is_what_its_hooks_say_and_may_be_installed_already(hook: str, kind: str, tmp_path: Path):
    path = tmp_path / "again.py"
    path.write_text(
        f"from buttress import hookimpl\nclass PGD:\n    name = 'pgd'\n    @hookimpl\n    def {hook}: ...\n"
    )
    (subject,) = subjects_of(str(path))
    assert (subject.kind, subject.name) == (kind, "pgd")


def test_a_name_and_a_package_mean_all_kinds_that_they_have(tmp_path: Path):
    assert [subject.kind for subject in subjects_of("pgd")] == ["plugin", "attack"]
    assert [subject.kind for subject in subjects_of("buttress:pgd", kind="attack")] == ["attack"]
    assert [subject.kind for subject in subjects_of("tensorboard")] == ["logger"]
    (tmp_path / "only_attack.py").write_text(inspect.getsource(broken_attacks))
    head = '[project]\nname = "only"\nversion = "1"\n'
    project = head + '[project.entry-points."buttress.{}"]\nmine = "only_attack:Works"\n'
    (tmp_path / "pyproject.toml").write_text(project.format("attacks"))
    (subject,) = subjects_of(str(tmp_path))
    assert str(subject) == "attack 'mine'"
    (tmp_path / "pyproject.toml").write_text(project.format("models"))
    with pytest.raises(PluginError, match=r'names a model, expected \[project\.entry-points\."buttress\.plugins"\]'):
        subjects_of(str(tmp_path))


ENDS = """
import os
from buttress import hookimpl

class Ends:
    \"\"\"Ends the process in its third step.\"\"\"
    steps = 0
    @hookimpl
    def adjust_grads(self):
        self.steps += 1
        if self.steps == 3:
            os._exit(0)

class Stays:
    \"\"\"Is examined after it.\"\"\"
    @hookimpl
    def end_epoch(self):
        print("not to be read as JSON")
"""


def test_a_plugin_that_ends_the_process_is_named_with_the_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine.py").write_text(ENDS)
    assert main(["plugins", "check", str(tmp_path / "mine.py"), "--json"]) == 1
    output = capsys.readouterr()
    assert "ends breaks trains" in output.err
    ends, stays = json.loads(output.out)
    (finding,) = [result["finding"] for result in ends["results"] if result["name"] == "trains"]
    assert "the process ended with exit code 0 while this was examined" in finding
    assert set(ends["broken"]) == {"trains", "documented_source"}
    assert set(stays["broken"]) == {"documented_source"}
    (tmp_path / "mine.py").write_text("import os\nos.abort()\n")
    assert main(["plugins", "check", str(tmp_path / "mine.py")]) == 2
    assert "mine.py: the process ended with SIGABRT before anything was examined" in capsys.readouterr().err


TWO = """
\"\"\"A method of mine.\"\"\"
from typing import Annotated
from annotated_types import Ge
from buttress import hookimpl

class Needs:
    \"\"\"Has a setting without a default.

    Args:
        alpha: a share.
    \"\"\"

    def __init__(self, *, alpha: Annotated[float, Ge(0)]) -> None: ...

    @hookimpl
    def end_epoch(self): ...

class Fine:
    \"\"\"Needs nothing.\"\"\"
    @hookimpl
    def end_epoch(self): ...

class Defaulted:
    \"\"\"Would never get its context.\"\"\"
    @hookimpl
    def end_epoch(self, ctx=None): ...
"""


def test_one_that_cannot_be_made_keeps_no_other_from_being_examined(
    here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "two.py").write_text(TWO)
    assert main(["plugins", "check", str(tmp_path / "two.py"), "--json"]) == 2
    output = capsys.readouterr()
    needs, fine, defaulted = json.loads(output.out)
    assert needs["refused"] == "needs.alpha: required, and not given"
    assert "argument 'ctx' has a default" in defaulted["refused"]
    assert fine["broken"] == []
    assert len(fine["results"]) > 20
    assert "two.py: needs was not examined: needs.alpha: required, and not given, defaulted was not" in output.err


def test_all_that_is_missing_is_said_at_once(here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = TWO.replace("alpha: Annotated[float, Ge(0)]", "alpha: float, beta: int")
    (tmp_path / "two.py").write_text(text.replace("class Fine", "class Lacks(Needs): ...\n\nclass Fine"))
    assert main(["plugins", "check", str(tmp_path / "two.py"), "--only", "needs", "--only", "lacks"]) == 2
    said = capsys.readouterr().err
    for missing in ("needs.alpha", "needs.beta", "lacks.alpha", "lacks.beta"):
        assert f"{missing}: required, and not given" in said


def test_one_of_several_can_be_chosen(here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "two.py").write_text(TWO)
    assert main(["plugins", "check", str(tmp_path / "two.py"), "--only", "fine", "--json"]) == 0
    assert [report["plugin"] for report in json.loads(capsys.readouterr().out)] == ["fine"]
    with pytest.raises(PluginError, match=r"two\.py: holds no 'fin'; did you mean 'fine'"):
        subjects_of(str(tmp_path / "two.py"), only=["fin"])


@pytest.mark.parametrize("end", ["1 / 0", "os._exit(3)"])
def test_a_package_one_of_whose_modules_cannot_be_imported_is_examined_but_for_it(
    end: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    points = 'first = "first_mine:Bad"\nsecond = "second_mine:Fine"\n'
    project = '[project]\nname = "mine"\nversion = "1"\n[project.entry-points."buttress.plugins"]\n' + points
    (tmp_path / "pyproject.toml").write_bytes(b"\xef\xbb\xbf" + project.encode())
    (tmp_path / "first_mine.py").write_text(f"import os\n{end}\n")
    (tmp_path / "second_mine.py").write_text(TWO)
    assert main(["plugins", "check", str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert "plugin 'first' (mine 1): not examined" in output.out
    assert "plugin 'second' (mine 1): " in output.out
    assert (
        "ZeroDivisionError" if end == "1 / 0" else "the process ended with exit code 3 while it was made"
    ) in output.err


@pytest.mark.parametrize("name", ATTACKS)
def test_a_built_in_attack_keeps_its_promises(name: str):
    check_plugin(load(find("attack", name)), ATTACKS[name].settings, name=name, kind="attack")


def test_the_loggers_keep_their_promises():
    check_plugin(load(find("logger", "tensorboard")), name="tensorboard", kind="logger")
    (subject,) = subjects_of(str(Path(__file__).parents[2] / "examples" / "csv_logger.py"))
    assert examine(subject).broken == []


def test_the_document_lists_every_promise():
    text = (Path(__file__).parents[2] / "docs" / "writing_a_plugin.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("| promise | meaning | kind of component |\n|---|---|---|\n")
    table = rest.partition("\n\n")[0]
    assert table == "\n".join(f"| `{rule.name}` | {rule.text} | {', '.join(rule.kinds)} |" for rule in RULES.values())
