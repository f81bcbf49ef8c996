"""Requirements on a model, its labels and its optimizer: checked in the first step, one message about each."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from buttress import Engine, Split, evaluate
from buttress.errors import ConfigError, DataError, HookError, ModelError, WorkError
from buttress.nn.loading import check_logits, trains_on_one

from ..core.helpers import LINF, assert_same, batch_of, clean_attack, engine_of, plugin, snapshot, step
from ..models import MLP, ConvNet

STACKS = (["pgd"], ["clean"], ["pgd", "trades"], ["clean", "awp"])


class Answering(nn.Module):
    """An MLP whose answer is changed on its way out."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.net, self.change = MLP(), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.net(x))


ANSWERS: dict[str, tuple[Any, str]] = {
    "tuple": (lambda z: (z, z), r"got a tuple of 2; wrap it .*: return net\(x\)\[0\]"),
    "list": (lambda z: [z], r"got a list of 1; wrap it .*: return net\(x\)\[0\]"),
    "dict": (
        lambda z: {"loss": 0, "out": z},
        r"got a dict with 'loss', 'out' in it; wrap it .*: return net\(x\)\['out'\]",
    ),
    "dict of logits": (lambda z: {"out": z, "logits": z}, r"return net\(x\)\['logits'\]"),
    "object": (lambda z: SimpleNamespace(logits=z), r"got a SimpleNamespace; wrap it .*: return net\(x\)\.logits"),
    "None": (lambda z: None, r"got None \(is a 'return' missing\?\); return the logits"),
    "one logit": (
        lambda z: z[:, :1],
        r"K >= 2 classes, got one number for each example.*give the last layer two outputs",
    ),
    "one number": (
        lambda z: z[:, 0],
        r"K >= 2 classes, got one number for each example.*give the last layer two outputs",
    ),
    "pixels": (lambda z: z[:, :, None, None], r"floating-point logits \[B,K\] with B = 6, got a tensor \(6, 3, 1, 1\)"),
    "other batch": (lambda z: z[:2], r"with B = 6, got a tensor \(2, 3\)"),
    "classes": (
        lambda z: z.argmax(1),
        r"K >= 2 classes, got one number for each example, a tensor \(6,\) of torch.int64",
    ),
    "integers": (lambda z: z.long(), r"floating-point logits .*, got a tensor \(6, 3\) of torch.int64"),
}


@pytest.mark.parametrize("plugins", STACKS, ids=str)
@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_no_logits_is_refused_in_the_models_name_with_a_way_out(name: str, plugins: Any):
    change, message = ANSWERS[name]
    model = Answering(change)
    engine = engine_of(model, *plugins)
    before = snapshot(model)
    with pytest.raises(ModelError, match=f"^model Answering: .*{message}") as caught:
        step(engine)
    assert "plugin" not in str(caught.value)
    assert_same(before, snapshot(model))
    assert not model._forward_hooks
    with pytest.raises(ModelError, match=f"^model Answering: .*{message}"):  # and again, when it is tried again
        step(engine)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_trainer_refuses_the_same_answers(name: str):
    change, message = ANSWERS[name]
    with pytest.raises(ModelError, match=f"^model Answering: .*{message}"):
        check_logits(Answering(change), batch_of().x, 3)


class Stateful(nn.Module):
    """Counts its forwards in a buffer and draws random numbers, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.net = ConvNet()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.net(x + torch.rand_like(x))


def test_the_trials_of_a_model_leave_no_trace():
    model = Stateful()
    before, state = snapshot(model), torch.random.get_rng_state()
    check_logits(model, batch_of(2).x, 3)
    assert trains_on_one(model, batch_of(1).x)
    assert_same(before, snapshot(model))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(module.training for module in model.modules())


def test_a_model_trains_on_one_example_where_its_norm_has_several_values():
    flat = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3))
    assert trains_on_one(ConvNet(), batch_of(1).x)
    assert not trains_on_one(flat, batch_of(1).x)
    flat[1].eval()
    assert trains_on_one(flat, batch_of(1).x)


def test_the_forward_is_looked_at_once_and_costs_no_forward_of_its_own():
    model, forwards = ConvNet(), []
    model.register_forward_hook(lambda *_: forwards.append(1))
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    engine = engine_of(model, clean_attack())
    for number in range(2):
        step(engine)
        assert len(forwards) == int(model.bn.num_batches_tracked) == number + 1
        assert len(model._forward_hooks) == 1
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("plugins", STACKS, ids=str)
def test_a_model_that_cannot_take_the_batch_is_named_and_not_the_plugin(plugins: Any):
    batch = batch_of()
    message = (
        r"^engine.step: model MLP cannot take x, a tensor \(6, 1, 4, 4\) of torch.float64 on cpu: RuntimeError: .*; "
    )
    with pytest.raises(ModelError, match=message + "its weights are of torch.float32: give both one dtype$"):
        engine_of(MLP(), *plugins).step(batch.x.double(), batch.y)
    with pytest.raises(ModelError, match=r"^engine.step: model MLP cannot take x, a tensor \(6, 1, 2, 4\)"):
        engine_of(MLP(), *plugins).step(batch.x[:, :, :2], batch.y)


def test_a_forward_that_raises_later_names_the_model_beside_the_hook():
    engine = engine_of(MLP(), "pgd")
    step(engine)
    batch = batch_of()
    with pytest.raises(HookError, match=r"plugin 'pgd' .*\n .*\n .*in the forward of model MLP"):
        engine.step(batch.x[:, :, :2], batch.y)


def test_a_plugin_that_raises_is_not_mistaken_for_the_model():
    def fails(self: Any, model: nn.Module, batch: Any) -> Tensor:
        model(batch.x)
        raise ValueError("mine")

    with pytest.raises(HookError, match=r"plugin 'mine' .*generate_adv.*\n.*ValueError: mine \(.*py:\d+\)$"):
        step(engine_of(MLP(), plugin("mine", generate_adv=fails)))


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("plugins", "options"), [(["clean"], {}), (["pgd"], {"attack_mode": "train"}), (["clean", "awp"], {})]
)
def test_a_batch_of_one_example_with_batch_norm_says_how_to_leave_it_out(plugins: Any, options: Any, later: bool):
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    engine = engine_of(net, *plugins, **options)
    if later:
        step(engine)
    one = batch_of(1)
    with pytest.raises(DataError, match=r"^engine.step: a batch of one example.*data.drop_last: true") as caught:
        engine.step(one.x, one.y)
    assert "plugin" not in str(caught.value)


# Labels


def labelled(plugins: Any, y: Any, **options: Any) -> Any:
    batch = batch_of()
    return engine_of(MLP(), *plugins, **options).step(batch.x, torch.as_tensor(y))


HARD = {
    -100: r"expected labels (>= 0|from 0 to 2.*), got -100 at position 3",
    -1: r"expected labels (>= 0|from 0 to 2.*), got -1 at position 3",
    3: r"expected labels from 0 to 2, the model's 3 classes, got 3 at position 3; number the classes from 0",
}


@pytest.mark.parametrize("stack", ["cross_entropy", "trades", "alp", "awp", "amp", "drop_easy", "mart", "nmse", "rwp"])
@pytest.mark.parametrize("attack", ["pgd", "clean"])
@pytest.mark.parametrize("label", HARD)
@pytest.mark.parametrize("later", [False, True])
def test_labels_outside_of_the_models_classes_are_refused(stack: str, attack: str, label: int, later: bool):
    entry = {"drop_easy": {"drop_easy": {"c_min": 0.5}}}.get(stack, stack)
    engine = engine_of(MLP(), attack, entry)
    if later:
        step(engine)
    batch = batch_of()
    with pytest.raises(DataError, match=f"^engine.step: {HARD[label]}"):
        engine.step(batch.x, torch.tensor([0, 1, 2, label, label, 0]))


SOFT = {
    "sum": ([[0.5, 0.2, 0.1]] * 6, r"not negative, of sum 1\), got \[0.5, 0.2, 0.1\] of sum 0.8 at position 0"),
    "one hot times two": ([[0.0, 2.0, 0.0]] * 6, "of sum 2 at position 0"),
    "negative": ([[1, 0, 0]] * 5 + [[1.5, -0.5, 0]], r"got \[1.5, -0.5, 0\] of sum 1 at position 5"),
    "nan": ([[float("nan")] * 3] * 6, "not negative, of sum 1"),
    "classes": (
        [[0.5, 0.5, 0, 0]] * 6,
        r"expected soft labels \[6,3\], one probability for each of the model's classes",
    ),
    "column": ([[1.0]] * 6, r"expected soft labels \[6,3\].*, got a tensor \(6, 1\).*or int64 labels \[B\]"),
}


@pytest.mark.parametrize("attack", ["pgd", "clean"])
@pytest.mark.parametrize("name", SOFT)
def test_soft_labels_that_are_no_distributions_over_the_classes_are_refused(name: str, attack: str):
    y, message = SOFT[name]
    with pytest.raises(DataError, match=f"^engine.step: .*{message}"):
        labelled([attack], y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_soft_labels_may_be_rounded(dtype: torch.dtype):
    rows = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).softmax(1).to(dtype)
    labelled(
        [
            "clean",
            plugin(
                "half",
                compute_loss=lambda self, model, batch: F.cross_entropy(
                    model(batch.x), batch.y.float(), reduction="none"
                ),
            ),
        ],
        rows,
    )


def test_labels_that_a_transform_gives_are_checked_in_its_name():
    for y, message in (
        (torch.full((6,), 7), "expected labels from 0 to 2"),
        (torch.full((6, 3), 0.5), "of sum 1.5"),
        (torch.full((6, 4), 0.25), r"expected soft labels \[6,3\]"),
    ):
        wrong = plugin("wrong", labels=y, transform_batch=lambda self, batch: replace(batch, y=self.labels))
        with pytest.raises(HookError, match=rf"plugin 'wrong'.*transform_batch.*\n.*{message}"):
            step(engine_of(MLP(), "pgd", wrong))


def test_labels_are_checked_on_the_record_at_level_interval():
    engine = engine_of(MLP(), clean_attack(), checks="interval")
    batch = batch_of()
    engine.step(batch.x, batch.y)
    engine.step(batch.x, torch.tensor([0, 1, 2, -100, -100, 0]))
    with pytest.raises(DataError, match=r"^engine.step first at epoch 1, step 2: .*labels"):
        engine.read_checks()


class NoSync(TorchDispatchMode):
    """Refuses what would make the host wait for a device: reading a number, or sizes that depend on values."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert function.overloadpacket.__name__ not in ("_local_scalar_dense", "nonzero", "equal"), function
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
def test_no_check_of_a_step_reads_a_value_at_level_interval(nonfinite: Any):
    engine = engine_of(MLP(), "clean", checks="interval", momentum=0.0, nonfinite=nonfinite)
    batch = batch_of()
    labels = (batch.y, F.one_hot(batch.y, 3).float(), batch.y)
    with NoSync():
        for y in labels:
            engine.step(batch.x, y)
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoSync():
        engine_of(MLP(), "clean", checks="always").step(batch.x, batch.y)


def test_labels_are_not_looked_at_where_checks_are_off():
    engine = engine_of(MLP(), clean_attack(), checks="off")
    for _ in range(2):
        engine.step(batch_of().x, torch.tensor([0, 1, 2, -100, -100, 0]))


# The caller's objects


@pytest.mark.parametrize("wrong", ["numpy x", "list x", "numpy y", "list y", "None y"])
def test_what_is_no_tensor_is_refused(wrong: str):
    batch = batch_of()
    made = {"numpy": lambda t: t.numpy(), "list": lambda t: t.tolist(), "None": lambda t: None}[wrong.split()[0]]
    x, y = (made(batch.x), batch.y) if wrong.endswith("x") else (batch.x, made(batch.y))
    with pytest.raises(DataError, match=r"^engine.step: expected .*, got (an? (ndarray|list)|None)"):
        engine_of(MLP(), "pgd").step(x, y)


def test_a_model_that_is_none_is_refused():
    sgd = partial(torch.optim.SGD, lr=0.1)
    for model in (lambda x: x, MLP, None, "net"):
        with pytest.raises(ModelError, match=r"^engine: expected a model that is an nn.Module, got "):
            Engine(model, sgd, ["pgd"], LINF)


def bad(parameter: Tensor) -> nn.Module:
    model = MLP()
    model.odd = parameter if isinstance(parameter, nn.Parameter) else nn.Parameter(parameter)
    return model


def test_parameters_that_cannot_learn_are_refused_by_name():
    with torch.inference_mode():
        inference = MLP()
    frozen = MLP().requires_grad_(False)
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    norm = nn.Sequential(MLP(), nn.LazyBatchNorm1d(affine=False))
    for model, message in (
        (bad(torch.ones(2, dtype=torch.complex64)), "parameter 'odd' is of complex numbers .*view_as_real"),
        (bad(nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)), "'odd' is of torch.int64.*buffer"),
        (lazy, "'1.weight' of the model has no shape yet.*run the model on one batch"),
        (norm, "'1.running_mean' of the model has no shape yet"),
        (MLP().to("meta"), "'first.weight' of the model has no values.*meta"),
        (inference, "'first.weight' of the model was made under torch.inference_mode"),
        (frozen, "no parameter of the model requires a gradient"),
    ):
        with pytest.raises(ModelError, match=f"^engine: .*{message}"):
            Engine(model, partial(torch.optim.SGD, lr=0.1), ["pgd"], LINF)


def test_a_threat_model_is_one():
    with pytest.raises(ConfigError, match=r"^engine: expected threat=ThreatModel"):
        engine_of(MLP(), "pgd", threat="linf")


def test_an_optimizer_over_none_of_the_models_parameters_is_refused():
    other, model = MLP(), MLP()
    with pytest.raises(
        ModelError, match=r"^engine: optimizer SGD holds no parameter of this model, .* model.parameters\(\)"
    ):
        Engine(model, torch.optim.SGD(other.parameters(), lr=0.1), ["pgd"], LINF)
    with pytest.raises(ModelError, match="holds no parameter of this model"):
        Engine(model, lambda groups: torch.optim.SGD(other.parameters(), lr=0.1), ["pgd"], LINF)
    for parameter in model.first.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ModelError, match="holds no parameter of this model"):
        Engine(model, torch.optim.SGD(model.first.parameters(), lr=0.1), ["pgd"], LINF)


def test_an_optimizer_over_some_of_them_is_taken_and_a_replaced_layer_is_said(caplog: pytest.LogCaptureFixture):
    model = MLP()
    Engine(model, torch.optim.SGD(model.second.parameters(), lr=0.1), ["pgd"], LINF)
    assert not caplog.records
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.second = nn.Linear(5, 3)
    Engine(model, optimizer, ["pgd"], LINF)
    assert "2 tensors that are not the model's, and lacks 2 of the model's parameters" in caplog.text


def test_an_optimizer_that_asks_for_a_closure_is_refused():
    model = MLP()
    for optimizer in (torch.optim.LBFGS(model.parameters()), partial(torch.optim.LBFGS, lr=0.1)):
        with pytest.raises(ModelError, match=r"^engine: optimizer LBFGS evaluates the loss again .*closure"):
            Engine(model, optimizer, ["pgd"], LINF)


def test_what_is_no_optimizer_is_refused():
    for wrong in (None, "sgd", 0.1):
        with pytest.raises(ModelError, match=r"^engine: expected an optimizer of torch, or a factory"):
            Engine(MLP(), wrong, ["pgd"], LINF)
    with pytest.raises(ModelError, match=r"^engine: the factory of the optimizer made a list of 1"):
        Engine(MLP(), lambda groups: groups, ["pgd"], LINF)


def test_an_optimizer_that_raises_is_named_and_the_weights_are_as_before():
    class Fussy(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            assert closure is not None, "SAM requires closure"

    model = MLP()
    engine = Engine(model, Fussy(model.parameters(), lr=0.1), ["pgd"], LINF)
    before = snapshot(model)
    with pytest.raises(WorkError, match=r"^optimizer Fussy, epoch 1, step 1: step\(\) raised AssertionError: SAM"):
        step(engine)
    assert_same(before, snapshot(model))


def test_a_sparse_gradient_is_refused():
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(4, 16, sparse=True), MLP()

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x + self.table(torch.zeros(len(x)).long()).view_as(x))

    with pytest.raises(ModelError, match=r"layout torch.sparse_coo for a parameter \(4, 16\).*sparse=False"):
        step(engine_of(Words(), clean_attack()))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_recomputation_that_asks_for_backward_says_so():
    class Recomputed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = MLP()

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.net, x, use_reentrant=True)

    with pytest.raises(Exception, match="use_reentrant=False"):
        step(engine_of(Recomputed(), "pgd"))


# The caller's mode


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
def test_a_step_works_in_whatever_mode_of_autograd_the_caller_is(mode: Any, nonfinite: Any):
    def train(inside: Any) -> tuple[dict[str, Tensor], Any]:
        model = ConvNet()
        with inside():
            engine = engine_of(
                model, "pgd", "awp", {"ema": {"tau": 0.5}}, {"swa": {"start": 0}}, nonfinite=nonfinite, epochs=2
            )
        for epoch in range(2):
            with inside():
                batch = batch_of(seed=epoch)
                x, y, index = (tensor.clone() for tensor in (batch.x, batch.y, batch.index))
                engine.step(x, y, index=index)
                engine.end_epoch()
                scores = [track.name for track in engine.tracks()]
            step(engine, seed=9)
        return snapshot(model) | {t.name + n: w for t in engine.tracks() for n, w in t.weights.items()}, scores

    (trained, names), (expected, same) = train(mode), train(nullcontext)
    assert names == same
    assert_same(trained, expected)
    assert not any(value.is_inference() for value in trained.values())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("ensemble", [{"swa": {"start": 0}}, {"ema": {"tau": 0.5, "buffers": "ema"}}, "piat"], ids=str)
@pytest.mark.parametrize("bn_inputs", ["clean", "adv"])
def test_a_track_works_in_whatever_mode_of_autograd_the_caller_is(mode: Any, ensemble: Any, bn_inputs: Any):
    model = ConvNet()
    engine = engine_of(model, "pgd", ensemble, epochs=3)
    step(engine)
    engine.end_epoch()
    before = snapshot(model)
    with mode():
        for track in engine.tracks():
            with engine.track(replace(track, bn_inputs=bn_inputs), lambda: [batch_of()]) as ensemble:
                evaluate(ensemble, Split(batch_of().x, batch_of().y), "fgsm", engine.threat)
    assert_same(before, snapshot(model))
    step(engine)
    engine.end_epoch()
    assert not any(tensor.is_inference() for tensor in [*model.state_dict().values(), *model.parameters()])


def without_torch(x: Tensor) -> Tensor:
    return torch.from_numpy(x.detach().numpy())


CUTS: dict[str, tuple[Any, Any, str]] = {
    "detached logits": (lambda x: x, lambda z: z.detach(), "inputs and weights"),
    "no_grad": (lambda x: x, torch.no_grad()(lambda z: z * 1), "inputs and weights"),
    "detached inputs": (lambda x: x.detach(), lambda z: z, "inputs"),
    "numpy": (without_torch, lambda z: z, "inputs"),
}


class Cutting(Answering):
    """An MLP through whose forward not every gradient goes."""

    def __init__(self, name: str) -> None:
        before, after, _ = CUTS[name]
        super().__init__(after)
        self.before = before

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.before(x))


@pytest.mark.parametrize("name", CUTS)
def test_a_forward_that_cuts_the_gradient_is_named_and_not_the_attack(name: str):
    message = rf"model Cutting: no gradient goes from its logits to its {CUTS[name][2]}; leave detach\(\), "
    model, batch = Cutting(name), batch_of()
    before, state = snapshot(model), torch.random.get_rng_state()
    for plugins in (["pgd"], ["pgd", "trades"], ["fgsm"]):
        with pytest.raises(ModelError, match=rf"^engine\.step: {message}"):
            step(engine_of(model, *plugins))
    for attack in ("pgd", "fgsm", "cw"):
        with pytest.raises(ModelError, match=rf"^evaluation: {message}"):
            evaluate(model, Split(batch.x, batch.y), attack, LINF)
    assert_same(before, snapshot(model))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("plugins", [["clean"], ["clean", "awp"]], ids=str)
def test_a_forward_that_cuts_the_weights_off_is_named_and_not_the_loss(plugins: Any):
    with pytest.raises(ModelError, match="no gradient goes from its logits to its inputs and weights"):
        step(engine_of(Cutting("detached logits"), *plugins))
    step(engine_of(Cutting("numpy"), *plugins))  # needs none to the inputs


def test_a_loss_that_cuts_the_gradient_itself_is_still_named():
    def detached(self: Any, model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch.x), batch.y, reduction="none").detach()

    for model in (MLP(), Cutting("numpy")):
        with pytest.raises(HookError, match=r"compute_loss.*\n.*got detached ones"):
            step(engine_of(model, clean_attack(), plugin(compute_loss=detached)))
