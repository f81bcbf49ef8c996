"""KD: its limits, frozen teachers outside of the model, and files of other networks refused before the first step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from buttress import PluginError
from buttress_plugins.losses.kd import KD

from ..models import MLP, ConvNet
from .conftest import assert_same, engine_of, state, train
from .teachers import files_of, pair_of

TEACHERS = files_of("kd-", pair_of(ConvNet))
NO_TEACHER = {"ce": 1.0, "standard_weight": 0.0, "robust_weight": 0.0}


def trained(*entries: Any) -> dict[str, torch.Tensor]:
    model = ConvNet()
    train(engine_of(model, "fgsm", *entries), 2)
    return state(model)


def differ(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(a[name], b[name]) for name in a)


def test_without_the_teachers_weights_it_is_the_cross_entropy():
    assert_same(trained({"kd": {**TEACHERS, **NO_TEACHER}}), trained("cross_entropy"))


@pytest.mark.parametrize("role", ["standard", "robust"])
def test_each_teacher_counts_where_its_weight_is_not_zero(role: str):
    other = {"standard": "robust", "robust": "standard"}[role]
    stack = {"kd": {**TEACHERS, **NO_TEACHER, f"{role}_weight": 0.5}}
    same = {"kd": {**TEACHERS, **NO_TEACHER, f"{role}_weight": 0.5, other: TEACHERS[role]}}
    assert_same(trained(stack), trained(same))
    assert differ(trained(stack), trained({"kd": {**stack["kd"], role: TEACHERS[other]}}))


def test_a_student_equal_to_its_teachers_in_eval_mode_has_no_gradient():
    model = ConvNet().eval()
    file = files_of("equal-", (model, model))
    model.train()
    model.bn.eval()  # frozen batch norm: train mode and eval mode are the same
    before = state(model)
    train(engine_of(model, "fgsm", {"kd": {**file, "ce": 0.0}}), 1)
    for name, value in state(model).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-6)


def test_the_teachers_are_frozen_and_no_part_of_model_and_state():
    model = ConvNet()
    names = list(model.state_dict())
    plugin = KD(standard=Path(TEACHERS["standard"]), robust=Path(TEACHERS["robust"]))
    train(engine_of(model, "fgsm", plugin), 1)
    for each, file in zip(plugin._teachers, TEACHERS.values(), strict=True):
        assert_same(state(each), torch.load(file, weights_only=True))
        assert not each.training
        assert all(not weight.requires_grad and weight.grad is None for weight in each.parameters())
    assert list(model.state_dict()) == names
    assert not hasattr(plugin, "state_dict")


def test_what_watches_the_model_does_not_see_the_teachers():
    model, seen = ConvNet(), []
    model.register_forward_hook(lambda *_: seen.append(1))
    train(engine_of(model, "clean", {"kd": TEACHERS}), 1, steps=3)
    assert len(seen) == 3


class FourClasses(ConvNet):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)


@pytest.mark.parametrize("role", ["standard", "robust"])
@pytest.mark.parametrize(
    ("kind", "why"),
    [(MLP, "first"), (FourClasses, "linear"), (None, "not-weights.pt")],
    ids=["other", "classes", "none"],
)
def test_a_file_that_is_no_teacher_is_refused_before_the_first_step(
    role: str, kind: type[nn.Module] | None, why: str, tmp_path: Path
):
    file = tmp_path / "not-weights.pt"
    file.write_text("a text", encoding="utf-8")
    if kind is not None:
        torch.save(kind().state_dict(), file)
    engine = engine_of(ConvNet(), "fgsm", {"kd": {**TEACHERS, role: str(file)}})
    with pytest.raises(
        PluginError, match=rf"plugin 'kd' \([^)]*\): {role}: .*{why}.*; give a file with one set of weights"
    ):
        engine.start()
