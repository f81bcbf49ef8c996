"""Traits of a plugin are read once, and misspelt names and unknown values are refused by name."""

from dataclasses import fields
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from buttress import hookimpl
from buttress.authoring.inventory import facts_of
from buttress.cli import main
from buttress.components.loaded import as_loaded
from buttress.components.plugin_class import check_class
from buttress.components.sources import Source, load, sources
from buttress.components.traits import TRAITS, traits_of
from buttress.errors import HookError, PluginError
from buttress.hookspecs import TRAITS_SINCE_1_1, AttackMode, BatchTrait, ExitOrder, Traits
from buttress.scoring.meter import most_forwards
from buttress.testing.subject import Subject

from ..core.helpers import clean_attack, engine_of, perturbation, plugin, step
from ..models import MLP


def refused(**members: Any) -> str:
    """The one line that refuses an object whose class has these members, or that has them itself."""
    messages = set()
    for made in (of_class(**members), of_object(**members)):
        with pytest.raises(PluginError) as caught:
            traits_of(made, "plugin 'p'")
        messages.add(str(caught.value))
    (message,) = messages
    assert "\n" not in message
    return message


def of_class(**members: Any) -> Any:
    return plugin("", adjust_grads=lambda self: None, **members)


def of_object(**members: Any) -> Any:
    made = of_class()
    for name, value in members.items():
        setattr(made, name, value)
    return made


GOOD: dict[str, list[Any]] = {
    "name": ["mine"],
    "hookspec": ["1", "1.0", "1.1", 1, 1.0],
    "exit_order": list(get_args(ExitOrder)),
    "writes_back": [True, False],
    "gives": [
        ("soft labels",),
        ["soft labels"],
        {"soft labels"},
        frozenset(),
        ("my-dist:pairs", "soft labels"),
        get_args(BatchTrait),
    ],
    "refuses": [{"soft labels": "why"}, {}, {"my-dist:pairs": "why"}],
    "needs": [{"extra examples": "why"}, {}],
    "takes": [("unlabelled examples",), ["unlabelled examples"], ()],
    "attack_mode": list(get_args(AttackMode)),
    "radius": [1, 0.5, 2.0, Fraction(3, 2)],
    "input_grad": [True, False],
}
BAD: dict[str, list[tuple[Any, str]]] = {
    "name": [("", "expected a name, got ''"), (3, "expected a name, got 3")],
    "hookspec": [(True, "expected a version like '1.0', got True"), ([1], "expected a version")],
    "exit_order": [
        ("step_while_pertubed", "got 'step_while_pertubed'; did you mean 'step_while_perturbed'?"),
        ("later", "expected one of restore_then_step, step_while_perturbed, got 'later'"),
        (3, "got 3"),
    ],
    "writes_back": [("no", "expected True or False, got 'no'"), (1, "got 1"), ((), "got ()")],
    "gives": [
        (("soft label",), "unknown word 'soft label'; did you mean 'soft labels'?"),
        (
            ("noise",),
            "unknown word 'noise'; known: extra examples, forwards in parts, mixed inputs, soft labels, two views, "
            "unlabelled examples (a word of your own",
        ),
        (("noise",), " (a word of your own has a colon: 'my-dist:pairs')"),
        (("my-dist:",), "unknown word 'my-dist:'"),
        ((3,), "unknown word 3"),
        ("soft labels", "expected a tuple of words like ('soft labels',), got 'soft labels'"),
        ({"soft labels": "why"}, "expected a tuple of words"),
        (True, "expected a tuple of words"),
    ],
    "refuses": [
        ({"soft label": "why"}, "unknown word 'soft label'; did you mean 'soft labels'?"),
        ({"soft labels": ""}, "expected the reason why it refuses 'soft labels', got ''"),
        ({"soft labels": True}, "expected the reason why it refuses 'soft labels', got True"),
        (("soft labels",), "expected words with reasons, like {'soft labels': 'why'}, got ('soft labels',)"),
    ],
    "needs": [
        ({"extra example": "why"}, "unknown word 'extra example'; did you mean 'extra examples'?"),
        ({"extra examples": ""}, "expected the reason why it needs 'extra examples', got ''"),
        (("extra examples",), "expected words with reasons"),
    ],
    "takes": [
        (("unlabeled examples",), "unknown word 'unlabeled examples'; did you mean 'unlabelled examples'?"),
        ("unlabelled examples", "expected a tuple of words"),
    ],
    "attack_mode": [("Train", "got 'Train'; did you mean 'train'?"), ("test", "expected one of train, train_notrack")],
    "input_grad": [("yes", "expected True or False, got 'yes'"), (1, "got 1")],
    "radius": [
        (0, "expected a finite number > 0, got 0"),
        (-1.0, "got -1.0"),
        (float("inf"), "got inf"),
        (float("nan"), "got nan"),
        ("2", "got '2'"),
        (True, "got True"),
    ],
    "masked_loss": [(3, "expected a method masked_loss(model, batch, adv, c_min, inclusive), got 3")],
    "forwards": [(10, "expected a method forwards(examples), got 10")],
    "notes": [(["a note"], "expected a method notes(epochs, steps_per_epoch), got ['a note']")],
    "example": [({"size": 3}, "expected a method example(folder, model, batch), got {'size': 3}, a class method or")],
    "state_dict": [({}, "expected a method state_dict(), got {}")],
    "load_state_dict": [(True, "expected a method load_state_dict(state), got True")],
}


def test_the_record_is_what_is_tested_here():
    assert {each.name for each in fields(Traits)} == set(TRAITS) == set(BAD)
    assert Traits.__doc__ is not None
    assert all(f"    {name}: " in Traits.__doc__ for name in TRAITS)
    assert get_args(BatchTrait) == (
        *("soft labels", "mixed inputs", "two views", "extra examples", "unlabelled examples", "forwards in parts"),
    )


@pytest.mark.parametrize(("trait", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_an_allowed_value_is_read_from_the_class_and_from_the_object(trait: str, value: Any):
    for made in (of_class(**{trait: value}), of_object(**{trait: value}), type(of_class(**{trait: value}))):
        assert getattr(traits_of(made, "plugin"), trait) == value


@pytest.mark.parametrize("trait", TRAITS)
def test_a_trait_that_is_none_or_not_there_is_the_default(trait: str):
    for made in (of_class(**{trait: None}), of_object(**{trait: None}), of_class()):
        assert traits_of(made, "plugin") == Traits()


@pytest.mark.parametrize(
    ("trait", "value", "message"), [(name, value, text) for name, values in BAD.items() for value, text in values]
)
def test_another_value_is_refused_with_what_is_allowed(trait: str, value: Any, message: str):
    refusal = refused(**{trait: value})
    assert refusal.startswith(f"plugin 'p': {trait}: ")
    assert message in refusal


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("exitorder", "restore_then_step", "exit_order"),
        ("exit_ordr", "step_while_perturbed", "exit_order"),
        ("Exit_Order", "later", "exit_order"),
        ("exit_oder", "later", "exit_order"),
        ("write_back", True, "writes_back"),
        ("writeback", True, "writes_back"),
        ("writes_bakc", True, "writes_back"),
        ("give", ("soft labels",), "gives"),
        ("gvies", ("soft labels",), "gives"),
        ("givse", "soft labels", "gives"),
        ("refuse", {"soft labels": "why"}, "refuses"),
        ("refueses", {"soft labels": "why"}, "refuses"),
        ("refused", ("soft labels",), "refuses"),
        ("need", {"extra examples": "why"}, "needs"),
        ("take", ("unlabelled examples",), "takes"),
        ("attackmode", "train", "attack_mode"),
        ("attack_moed", "train", "attack_mode"),
        ("mask_loss", lambda self, model, batch, adv, c_min, inclusive: None, "masked_loss"),
        ("masked_losses", lambda self, model, batch, adv, c_min, inclusive: None, "masked_loss"),
        ("forward", lambda self, examples: 10, "forwards"),
        ("fowards", lambda self, examples: 10, "forwards"),
        ("hook_spec", "2.0", "hookspec"),
        ("note", lambda self, epochs, steps_per_epoch: [], "notes"),
        ("hookspecs", "1.0", "hookspec"),
        ("raduis", 2.0, "radius"),
        ("input_grads", True, "input_grad"),
        ("Radius", 2, "radius"),
        ("statedict", lambda self: {}, "state_dict"),
        ("state_dicts", lambda self: {}, "state_dict"),
        ("load_statedict", lambda self, saved: None, "load_state_dict"),
        ("loads_state_dict", lambda self, state: None, "load_state_dict"),
        ("NAME", "mine", "name"),
        ("nmae", "mine", "name"),
    ],
)
def test_a_misspelt_trait_is_refused_with_the_nearest(name: str, value: Any, meant: str):
    with pytest.raises(PluginError, match=rf"^plugin 'p': unknown attribute '{name}'; did you mean '{meant}'\?"):
        traits_of(of_class(**{name: value}), "plugin 'p'")
    with pytest.raises(PluginError, match=rf"^plugin Made: unknown attribute '{name}'; did you mean '{meant}'\?"):
        check_class(type(of_class(**{name: value})))


@pytest.mark.parametrize(
    "members",
    [
        {"forward": lambda self, x: x},
        {"names": ["conv", "linear"]},
        {"note": "said once"},
        {"given": 3},
        {"give": True},
        {"lives": ["a"]},
        {"state": {}},
        {"mode": "train"},
        {"attack_model": torch.zeros(1)},
        {"clean_forwards": 2},
        {"mask_loss": lambda self, losses: losses},
        {"_gives": ("soft label",)},
        {"order": "later"},
        {"game": "go"},
    ],
    ids=lambda members: next(iter(members)),
)
def test_other_attributes_are_the_plugin_s_own(members: dict[str, Any]):
    assert traits_of(of_class(**members), "plugin") == Traits()


@pytest.mark.parametrize("version", ["1", "1.0", 1, 1.0])
@pytest.mark.parametrize("trait", TRAITS_SINCE_1_1)
def test_a_plugin_of_version_1_0_has_no_later_trait(trait: str, version: Any):
    assert traits_of(of_class(hookspec=version, **{trait: "its own"}), "plugin") == Traits(hookspec=version)
    with pytest.raises(PluginError, match=trait):
        traits_of(of_class(hookspec="1.1", **{trait: "its own"}), "plugin")


def test_a_setting_with_a_meaning_of_its_own_is_no_misspelling():
    class Surrogate:
        def __init__(self, *, attack_model: str = "wrn", attack_modes: str = "train") -> None:
            self.attack_model = attack_model

        @hookimpl
        def adjust_grads(self) -> None: ...

    assert traits_of(Surrogate(), "plugin") == Traits()


def test_what_a_base_class_of_another_library_asks_for_is_no_misspelling():
    class Both(nn.Module):
        def forward(self, examples: Any) -> Any:
            return examples

        @hookimpl
        def adjust_grads(self) -> None: ...

    traits = traits_of(Both(), "plugin")
    assert traits.state_dict is not None
    assert traits.forwards is None


def test_a_misspelling_in_a_base_class_of_one_s_own_is_found():
    class Base:
        refuse = {"soft labels": "why"}  # noqa: RUF012

    class Mine(Base):
        @hookimpl
        def adjust_grads(self) -> None: ...

    with pytest.raises(PluginError, match="did you mean 'refuses'"):
        check_class(Mine)


# Methods


def generator(self: Any, *arguments: Any) -> Any:
    yield


async def coroutine(self: Any, *arguments: Any) -> None: ...


@pytest.mark.parametrize("trait", ["masked_loss", "forwards", "state_dict", "load_state_dict"])
@pytest.mark.parametrize("method", [generator, coroutine])
def test_a_method_that_would_not_run_is_refused(trait: str, method: Any):
    for made in (of_class(**{trait: method}), type(of_class(**{trait: method}))):
        with pytest.raises(PluginError, match=f"{trait}: expected a method .* nothing in it would run"):
            traits_of(made, "plugin")


@pytest.mark.parametrize(
    ("trait", "method", "signature"),
    [
        ("masked_loss", lambda self, model, batch, c_min, inclusive: None, r"\(model, batch, c_min, inclusive\)"),
        ("masked_loss", lambda self, batch, model, adv, c_min, inclusive: None, r"\(batch, model, adv, "),
        ("masked_loss", lambda self, model, batch, adv, inclusive, c_min: None, r"adv, inclusive, c_min\)"),
        ("masked_loss", staticmethod(lambda model, batch, adv, c_min: None), r"\(model, batch, adv, c_min\)"),
        ("forwards", lambda self: 3, r"\(\)"),
        ("forwards", lambda self, examples, steps: 3, r"\(examples, steps\)"),
        ("state_dict", lambda self, prefix: {}, r"\(prefix\)"),
        ("load_state_dict", lambda self: None, r"\(\)"),
    ],
)
def test_a_method_with_other_arguments_is_refused(trait: str, method: Any, signature: str):
    with pytest.raises(PluginError, match=rf"{trait}: expected a method {trait}\(.*\), got {trait}.*{signature}"):
        traits_of(of_class(**{trait: method}), "plugin")


@pytest.mark.parametrize(("one", "other"), [("state_dict", "load_state_dict"), ("load_state_dict", "state_dict")])
def test_half_a_state_is_refused(one: str, other: str):
    with pytest.raises(PluginError, match=f"^plugin has {one} and no {other}: its runs could not be resumed"):
        traits_of(of_class(**{one: lambda self, *state: {}}), "plugin")


# Objects of a class that nobody had in mind


class MakesUp:
    """Has whatever it is asked for."""

    def __getattr__(self, name: str) -> Any:
        return self

    @hookimpl
    def adjust_grads(self) -> None: ...


class Delegates:
    """Asks an object that is not there yet."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @hookimpl
    def adjust_grads(self) -> None: ...


class Slots:
    __slots__ = ("size",)

    @hookimpl
    def adjust_grads(self) -> None: ...


class Proxy(Slots):
    def __getattr__(self, name: str) -> Any:
        return self


class Equal:
    def __eq__(self, other: object) -> Any:
        raise TypeError("nobody compares me")

    __hash__ = None  # type: ignore[assignment]

    @hookimpl
    def adjust_grads(self) -> None: ...


class Empty(list[int]):
    """Is false."""

    @hookimpl
    def adjust_grads(self) -> None: ...


@pytest.mark.parametrize("cls", [MakesUp, Slots, Proxy, Empty])
def test_an_object_of_an_unusual_class_is_a_plugin(cls: type):
    engine = engine_of(MLP(), clean_attack(), cls())
    step(engine)
    engine.load_state_dict(engine.state_dict())
    assert engine.hooks.order()["adjust_grads"] == [cls.__name__]


def test_an_object_that_cannot_be_compared_is_refused_in_one_line():
    with pytest.raises(
        PluginError, match=r"^plugin 'Equal' .* cannot be registered: TypeError: nobody .* \(.*py:\d+\)$"
    ):
        engine_of(MLP(), clean_attack(), Equal())


def test_an_object_that_delegates_to_what_is_not_there_is_a_plugin():
    step(engine_of(MLP(), clean_attack(), Delegates()))


def test_a_property_is_read_of_the_object_and_named_where_it_raises():
    class Computed:
        def __init__(self, order: str) -> None:
            self._order = order

        @property
        def exit_order(self) -> str:
            return {"late": "step_while_perturbed"}[self._order]

        @cached_property
        def writes_back(self) -> bool:
            return True

        @hookimpl
        def perturb_weights(self) -> None: ...

    check_class(Computed)
    traits = traits_of(Computed("late"), "plugin")
    assert (traits.exit_order, traits.writes_back) == ("step_while_perturbed", True)
    with pytest.raises(PluginError, match=r"^plugin: exit_order cannot be read: KeyError: 'never'"):
        traits_of(Computed("never"), "plugin")


# Where they are read


def test_the_engine_refuses_a_misspelt_value_before_step_1_by_label():
    soft = plugin("mine", transform_batch=lambda self, batch: batch, gives=("soft label",))
    with pytest.raises(PluginError, match=r"^plugin 'mine' \(.*\): gives: unknown word 'soft label'; did you mean"):
        engine_of(MLP(), clean_attack(), soft, "rwp")


MISSPELT = """
from buttress import hookimpl

class Mine:
    gives = ("soft label",)

    @hookimpl
    def transform_batch(self, batch): ...
"""


def test_the_tools_name_what_is_misspelt_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    message = "gives: unknown word 'soft label'; did you mean 'soft labels'?"
    (tmp_path / "misspelt_module.py").write_text(MISSPELT)
    assert main(["plugins", "check", str(tmp_path / "misspelt_module.py")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    monkeypatch.syspath_prepend(str(tmp_path))
    facts = facts_of(Source("plugin", "mine", "misspelt_module:Mine", "dist", "1"))
    assert facts["status"].startswith(f"broken: plugin 'mine' from dist 1: {message}")


def test_a_pair_of_which_one_gives_what_the_other_refuses_is_refused():
    one = plugin("one", transform_batch=lambda self, batch: batch, gives=["my:pairs"])
    other = plugin("other", adjust_grads=lambda self: None, refuses={"my:pairs": "it looks at one"})
    with pytest.raises(PluginError, match=r"'other' .* refuses my:pairs, which plugin 'one' .* gives: it looks at one"):
        engine_of(MLP(), clean_attack(), one, other)


def test_traits_are_read_once():
    reads = []

    class Counts:
        @property
        def writes_back(self) -> bool:
            reads.append(1)
            return False

        @hookimpl
        def ensemble_weights(self) -> None: ...

    (loaded,) = as_loaded([Counts()])
    before = len(reads)
    assert [loaded.traits.writes_back for _ in range(3)] == [False] * 3
    assert len(reads) - before <= 1


def test_every_installed_plugin_and_attack_is_in_order():
    for kind in ("plugin", "attack"):
        for source in sources(kind):
            assert isinstance(Subject(load(source), None, source.name, source, kind).traits, Traits)


def test_an_attack_that_makes_attributes_up_says_nothing_of_its_forwards():
    class Attack(MakesUp):
        @hookimpl
        def generate_adv(self, batch: Any) -> Any:
            return batch.x

    (loaded,) = as_loaded([Attack()])
    assert most_forwards(loaded, 5) == 1


# Wrappers


@pytest.mark.parametrize("hook", ["generate_adv", "compute_loss", "perturb_weights"])
@pytest.mark.parametrize("value", [3, torch.zeros(6), ()])
def test_a_value_that_a_wrapper_yields_is_an_error(hook: str, value: Any):
    closed: list[str] = []

    def around(self: Any) -> Any:
        try:
            answer = yield value
        finally:
            closed.append(hook)
        return answer

    wrapper = plugin("w", wrapper=True, **{hook: around})
    engine = engine_of(MLP(), clean_attack(), perturbation(), wrapper)
    with pytest.raises(
        HookError, match=rf"plugin 'w' .*, hook {hook}, epoch 1, step 1:\n  expected a bare yield, and it yielded an? "
    ):
        step(engine)
    assert closed == [hook]
