"""The trait ``radius``: how far an attack of training may go from x, in units of eps; one of an evaluation may not."""

from contextlib import contextmanager
from typing import Any

import pytest
import torch

from buttress import Adv, Batch, Split, ThreatModel, evaluate
from buttress.components.loaded import as_loaded
from buttress.errors import HookError

from ..core.helpers import batch_of, clean_attack, engine_of, plugin
from ..models import MLP

# Inputs far from the walls of the box, so that the distance of an attack is that of its shift.
INSIDE = 0.3 + 0.4 * batch_of().x


def shifting(by: float, label: str = "shifting", **members: Any) -> Any:
    """An attack that adds ``by`` to every value."""
    return plugin(label, generate_adv=lambda self, batch: Adv(batch.x + by), **members)


def wrapping_by(by: float, **members: Any) -> Any:
    def generate_adv(self: Any) -> Any:
        answer = yield
        return Adv(answer.x + by)

    return plugin("wrapper", wrapper=True, generate_adv=generate_adv, **members)


def yielding(by: float, **members: Any) -> Any:
    @contextmanager
    def manager(adv: Adv) -> Any:
        yield Adv(adv.x + by)

    return plugin("yielding", perturb_weights=lambda self, adv: manager(adv), **members)


def trained_on(*plugins: Any, threat: ThreatModel | None = None) -> torch.Tensor:
    engine = engine_of(MLP(), *plugins, threat=threat or ThreatModel("linf", "1/10"))
    return engine.step(INSIDE, batch_of().y).adv.x


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("stack", "by"),
    [
        ([shifting(0.099)], 0.099),
        ([shifting(0.199, radius=2)], 0.199),
        ([shifting(0.049, radius=0.5)], 0.049),
        ([wrapping_by(0.1, radius=2.0), shifting(0.099)], 0.199),
        ([wrapping_by(0.1), shifting(0.099, radius=2.0)], 0.199),
        ([yielding(0.1), shifting(0.099, radius=2.0)], 0.199),
        ([yielding(0.1, radius=2.0), shifting(0.099)], 0.199),
        ([yielding(0.099), clean_attack()], 0.099),
    ],
    ids=["plain", "wide", "narrow", "wide wrapper", "wide provider", "yielded", "wide yielded", "plain yielded"],
)
def test_examples_within_the_largest_radius_are_taken(norm: Any, stack: Any, by: float):
    threat = ThreatModel(norm, "1/10" if norm == "linf" else 0.1 * 16**0.5)
    torch.testing.assert_close(trained_on(*stack, threat=threat), INSIDE + by)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("stack", "guilty", "reach"),
    [
        ([shifting(0.101)], "shifting", "{eps} of x"),
        ([shifting(0.201, radius=2)], "shifting", r"2 \* {eps} of x"),
        ([shifting(0.051, radius=0.5)], "shifting", r"0\.5 \* {eps} of x"),
        ([wrapping_by(0.1, radius=2.0), shifting(0.101)], "wrapper", r"2 \* {eps} of x"),
        ([wrapping_by(0.1), shifting(0.01)], "wrapper", "{eps} of x"),
        ([yielding(0.1), shifting(0.01)], "yielding", "{eps} of x"),
        ([yielding(0.101, radius=2.0), shifting(0.1)], "yielding", r"2 \* {eps} of x"),
        ([yielding(0.0, radius=2.0), shifting(0.101)], "shifting", "{eps} of x"),
    ],
    ids=["plain", "wide", "narrow", "wide wrapper", "wrapper", "yielded", "wide yielded", "of the perturbation alone"],
)
def test_examples_beyond_the_largest_radius_are_refused(norm: Any, stack: Any, guilty: str, reach: str):
    threat = ThreatModel(norm, "1/10" if norm == "linf" else "2/5")
    message = reach.format(eps=threat.eps)
    with pytest.raises(HookError, match=rf"plugin '{guilty}'(.|\n)*within {norm} distance {message}, got "):
        trained_on(*stack, threat=threat)


def test_the_radius_may_depend_on_settings():
    class Wide:
        def __init__(self, *, steps: int = 3) -> None:
            self.steps = steps

        @property
        def radius(self) -> float:
            return float(self.steps)

    assert [each.traits.radius for each in as_loaded([_with_attack(Wide)(steps=2), _with_attack(Wide)()])] == [2.0, 3.0]


def _with_attack(cls: type) -> type:
    return type(cls.__name__, (type(shifting(0.0)), cls), {"name": None})


def test_the_box_is_the_same_at_every_radius():
    with pytest.raises(HookError, match=r"expected values in \[0, 1\], got"):
        trained_on(shifting(0.5, radius=9))


def test_an_evaluation_is_checked_at_eps_itself():
    wide = as_loaded([shifting(0.101, radius=2)])[0]
    with pytest.raises(HookError, match=r"plugin 'shifting'(.|\n)*within linf distance 1/10 of x, got 0\.101"):
        evaluate(MLP(), Split(INSIDE, batch_of().y), wide, ThreatModel("linf", "1/10"))
    near = as_loaded([shifting(0.099, radius=0.5)])[0]
    assert evaluate(MLP(), Split(INSIDE, batch_of().y), near, ThreatModel("linf", "1/10")).n == 6


def test_the_device_s_record_knows_the_radius():
    near, far = (engine_of(MLP(), shifting(by, radius=2), checks="interval") for by in (0.199, 0.201))
    for engine in (near, far):
        engine.step(INSIDE, batch_of().y)
    near.end_epoch()
    with pytest.raises(HookError, match=r"'shifting'.*first at epoch 1, step 1"):
        far.end_epoch()


def test_a_batch_may_be_attacked_at_any_time_at_the_radius():
    engine = engine_of(MLP(), shifting(0.199, radius=2))
    assert engine.attack(Batch(INSIDE, batch_of().y), "reader").x.shape == INSIDE.shape
