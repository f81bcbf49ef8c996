"""The component under examination, and the small bench that it is examined on: a network, a batch, a stack, a run."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from buttress.components.construct import construct
from buttress.components.loaded import LoadedPlugin
from buttress.components.members import marked
from buttress.components.place import Place
from buttress.components.plugin_class import check_class
from buttress.components.sources import HOOKED, Source
from buttress.components.traits import declared_name, traits_of
from buttress.engine.checks import CheckLevel
from buttress.engine.engine import Engine
from buttress.errors import ButtressError, InputError, PluginError, describe
from buttress.threat import ThreatModel
from buttress.training.loggers import check_logger
from buttress.types import Batch

# Sizes of the bench. An epoch has two steps, so that the bench sees both its middle and its end.
CLASSES, EXAMPLES, STEPS, EPOCHS = 10, 6, 2, 3
# Number of examples in the training set that the bench pretends to have; the positions of a batch are below it.
POSITIONS = 1000
EPS = "8/255"


class Net(nn.Module):
    """``[B,1,16,16]`` to ten logits; its children are called as a residual network's, so that layer groups are known.

    Args:
        seed: seed of the initial weights.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(seed)
            self.layer1 = nn.Conv2d(1, 4, 3, stride=2, bias=False)
            self.layer2 = nn.BatchNorm2d(4)
            self.layer3 = nn.Conv2d(4, 6, 3, stride=2)
            self.layer4 = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.layer3(F.relu(self.layer2(self.layer1(x)))))
        logits: Tensor = self.layer4(hidden.mean((2, 3)))
        return logits


def bench_text() -> str:
    """The bench in one line: the network, and the batches that it is trained on."""
    weights = sum(weight.numel() for weight in Net().parameters())
    shape = "x".join(map(str, batch_of().x.shape))
    return f"conv, batch norm, conv, linear ({weights} weights); batches of {shape}"


class Subject:
    """A class under examination: a plugin, an attack of evaluations, or a logger.

    Args:
        component: the class.
        settings: with which it is examined, as in a config; those that it requires, at least, and that its trait
            ``example`` does not give.
        name: its name in a config; by default the class's own name.
        source: where it comes from, if it is installed.
        kind: ``plugin``, ``attack`` or ``logger``: as what it is examined.

    Attributes:
        broken: names of the promises that were found broken.

    Raises:
        PluginError: it is none of that kind, or cannot be made.
        ConfigError: the settings are wrong, or one that it requires is missing.
    """

    def __init__(
        self,
        component: Any,
        settings: Mapping[str, Any] | None = None,
        name: str | None = None,
        source: Source | None = None,
        kind: str = "plugin",
    ) -> None:
        if kind not in HOOKED:
            raise PluginError(f"kind {kind!r}: promises are those of {', '.join(HOOKED)}")
        check_class(component, source)
        self.component, self.source, self.kind = component, source, kind
        self.name = name or declared_name(component) or component.__name__
        self.settings = {**self._example(), **(settings or {})}
        self.given = {"num_classes": CLASSES}
        self.broken: set[str] = set()
        self._engines: list[Engine] = []
        members = marked(component)
        self.provides = frozenset(each.hook for each in members if not each.options["wrapper"])
        self.wraps = frozenset(each.hook for each in members if each.options["wrapper"])
        plugin = self._first()
        check_class(plugin.plugin, source)
        self.traits = plugin.traits
        if kind == "logger":
            check_logger(plugin)
        if kind == "attack" and "generate_adv" not in self.provides:
            raise PluginError(f"attack {plugin} does not implement generate_adv; choose an attack")

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"

    def with_settings(self, settings: Mapping[str, Any]) -> Subject:
        """The same class with other settings."""
        return Subject(self.component, settings, self.name, self.source, self.kind)

    def _example(self) -> dict[str, Any]:
        """The settings that the class gives for its examination; the files lie in a folder that goes when this goes."""
        example = traits_of(self.component, str(self)).example
        if example is None:
            return {}
        folder = tempfile.mkdtemp(prefix="buttress-example-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        try:
            settings = example(Path(folder), Net(), batch_of())
        except InputError:
            raise
        except Exception as problem:
            raise PluginError(f"{self}: example raised {describe(problem, self.component)}") from problem
        if not isinstance(settings, Mapping):
            raise PluginError(f"{self}: example: expected settings by name, got {settings!r}")
        return dict(settings)

    def _first(self) -> LoadedPlugin:
        try:
            return self.plugin()
        except InputError:
            raise
        except (Exception, SystemExit) as problem:
            raise PluginError(f"{self} cannot be made: {describe(problem, self.component)}") from problem

    def plugin(self) -> LoadedPlugin:
        """A new instance."""
        plugin, settings = construct(self.component, self.settings, Place(self.name), self.given)
        return LoadedPlugin(self.name, plugin, self.source, settings)

    def engine(
        self,
        scratch: Path | str,
        *,
        model: nn.Module | None = None,
        attack: str = "fgsm",
        beside: Sequence[Any] = (),
        without: bool = False,
        optimizer: Callable[..., Any] = partial(SGD, lr=0.5, momentum=0.9),  # noqa: B008  (made once, never changed)
        threat: ThreatModel | None = None,
        checks: CheckLevel = "always",
        **options: Any,
    ) -> Engine:
        """An engine with the plugin in the smallest stack that it works in.

        Args:
            scratch: folder for snapshots.
            model: by default a new ``Net``.
            attack: the stack's, where the plugin provides none.
            beside: further plugins, after it.
            without: leave the plugin out.
            optimizer: a factory.
            threat: by default L-inf.
            checks: level of the checks of values.
            options: further options of the engine.
        """
        without = without or self.kind != "plugin"
        before = [] if "generate_adv" in self.provides and not without else [attack]
        stack = [*before, *([] if without else [self.plugin()]), *beside]
        model = Net() if model is None else model
        dtype = next(model.parameters()).dtype
        engine = Engine(
            model,
            optimizer,
            stack,
            threat or ThreatModel("linf", EPS),
            epochs=EPOCHS,
            steps_per_epoch=STEPS,
            examples=POSITIONS,
            classes=[POSITIONS // CLASSES] * CLASSES,
            checks=checks,
            history=scratch,
            batches=lambda: [batch_of(step, dtype=dtype) for step in range(STEPS)],
            validation=lambda: [batch_of(STEPS + step, dtype=dtype) for step in range(STEPS)],
            **options,
        )
        engine.hooks.watch.lenient = True  # each promise is asked for by itself
        self._engines.append(engine)
        return engine

    @contextmanager
    def scratch(self) -> Iterator[str]:
        """A folder for one examination; the engines that are made meanwhile are closed, as a run is at its end."""
        first = len(self._engines)
        with tempfile.TemporaryDirectory(prefix="buttress-check-") as folder:
            try:
                yield folder
            finally:
                for engine in self._engines[first:]:
                    with suppress(ButtressError):  # ``trains`` closes its engine by itself, and hears of errors
                        engine.close()
                del self._engines[first:]


def median_ensemble(track: str) -> dict[str, Any]:
    """The plugin MEAT, as in a config, whose median is called ``track``."""
    return {"meat": {"start": 0, "history": "memory", "track": track}}


def batch_of(seed: int = 0, n: int = EXAMPLES, dtype: torch.dtype = torch.float32) -> Batch:
    """``n`` random examples for ``Net``; equal in every dtype up to its rounding."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((n, 1, 16, 16), generator=generator, dtype=torch.float32).to(dtype)
    y = torch.randint(CLASSES, (n,), generator=generator)
    return Batch(x, y, torch.arange(n))


def step(engine: Engine, seed: int, n: int = EXAMPLES) -> Tensor:
    """One training step on ``batch_of(seed)``; its losses ``[B]``."""
    batch = batch_of(seed, n, next(engine.model.parameters()).dtype)
    return engine.step(batch.x, batch.y, index=batch.index).losses


def train(
    engine: Engine,
    epochs: int = EPOCHS,
    each: Callable[[str], None] | None = None,
    log: Callable[[Mapping[str, object]], None] | None = None,
) -> Engine:
    """Train to the end of epoch number ``epochs``.

    Args:
        engine: to train.
        epochs: its number of epochs afterwards.
        each: called with the place after every step and epoch.
        log: is given every record; by default the engine's plugins are.
    """
    log = log or engine.log
    while engine.epoch < epochs:
        for number in range(engine.epoch_step, STEPS):
            step(engine, STEPS * engine.epoch + number)
            if each:
                each(f"a step of epoch {engine.epoch + 1}")
            log(_record("train", engine, loss=2.3))
        log(_record("epoch", engine, loss=2.3))
        engine.end_epoch()
        log(_record("evaluation", engine, track="live", split="test", clean=0.5, robust=0.25, n=EXAMPLES))
        if each:
            each("the end of an epoch")
    return engine


def _record(event: str, engine: Engine, **measured: object) -> dict[str, object]:
    """A record, as a run writes it to ``metrics.jsonl``; what was ``measured`` is made up."""
    epoch = engine.epoch + (event != "evaluation")  # an evaluation is of the epoch that has ended
    return {"event": event, "epoch": epoch, "global_step": engine.global_step, **measured}


def outcome(engine: Engine) -> dict[str, Tensor]:
    """A copy of all that a run leads to: weights, buffers, and the weights of every track."""
    tensors = copied(engine.model.state_dict())
    for track in engine.tracks():
        tensors |= {f"track {track.name}: {name}": value.clone() for name, value in (track.weights or {}).items()}
    return tensors


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


def differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names whose tensors are not equal bit for bit."""
    names = [*one, *(name for name in other if name not in one)]
    return [name for name in names if name not in one or name not in other or not torch.equal(one[name], other[name])]
