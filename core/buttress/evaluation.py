"""Clean and robust accuracy: eval mode, un-perturbed weights, a fixed random stream of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from buttress.checks import ValueChecks
from buttress.context import RunState
from buttress.data import Split
from buttress.errors import DataError, PluginError
from buttress.functional import cross_entropy, is_correct
from buttress.hooks import Hooks
from buttress.modes import Modes
from buttress.registry import LoadedPlugin, Local, attack_entry_of, build, provides
from buttress.settings import Where
from buttress.threat import ThreatModel
from buttress.types import Adv, Batch
from buttress.yaml_source import parse_yaml


@dataclass(frozen=True)
class Score:
    """Accuracies on one split.

    Args:
        clean: share of examples classified correctly.
        robust: share of examples whose attacked version is classified correctly.
        n: number of examples.
        clean_correct: ``[n]`` bools, on the device.
        robust_correct: ``[n]`` bools, on the device.
        robust_losses: ``[n]`` cross-entropies of the attacked versions in nats, on the device.
    """

    clean: float
    robust: float
    n: int
    clean_correct: Tensor
    robust_correct: Tensor
    robust_losses: Tensor


def load_attack(
    entry: str | Mapping[str, Any],
    where: Where | None = None,
    given: Mapping[str, Any] | None = None,
    local: Local | None = None,
) -> LoadedPlugin:
    """An evaluation attack by name: ``"fgsm"``, ``"pgd-20"`` or ``{"pgd": {"steps": 20}}``; the rest as in ``build``.

    Raises:
        PluginError, ConfigError: unknown or broken attack, wrong settings, or a plugin without ``generate_adv``.
    """
    name, settings = attack_entry_of(entry, "attack")
    attack, source, resolved = build("attack", name, settings, where, given, local=local)
    loaded = LoadedPlugin(source.name, attack, source, resolved)
    if not provides(loaded, "generate_adv"):
        raise PluginError(f"attack {name!r} from {source} does not implement generate_adv; choose an attack")
    return loaded


def attack_entry(text: str) -> dict[str, dict[str, Any]]:
    """An attack as a person writes it: ``fgsm``, ``pgd-20`` (twenty steps), or YAML: ``pgd: {steps: 50, restarts: 3}``.

    Raises:
        ConfigError: none of these.
    """
    name, settings = attack_entry_of(parse_yaml(text, f"--attack {text!r}").value, f"--attack {text!r}")
    return {name: settings}


def attack_name(attack: LoadedPlugin) -> str:
    """What tables and files call an attack: ``pgd-20``, ``pgd-20-margin``, ``pgd-50x3`` for three restarts, ``fgsm``.

    A setting ``version`` other than ``standard`` is part of the name.
    """
    steps, restarts, loss, version = (attack.settings.get(key) for key in ("steps", "restarts", "loss", "version"))
    name = attack.label + (f"-{steps}" if steps else "") + (f"x{restarts}" if restarts and restarts > 1 else "")
    name = name if version in (None, "standard") else f"{name}-{version}"
    return name if loss in (None, "ce") else f"{name}-{loss}"


class Evaluator:
    """Scores a model under one attack, as often as asked.

    Args:
        model: evaluated in eval mode; its modes, weights, buffers and gradients are left as found.
        attack: an attack plugin.
        threat: the threat model.
        seed: of the attack's random draws, which depend on it and on the batch number alone.
        batch_size: examples a forward.
    """

    def __init__(
        self, model: nn.Module, attack: LoadedPlugin, threat: ThreatModel, *, seed: int = 0, batch_size: int = 500
    ) -> None:
        device = next(model.parameters()).device
        self.attack = attack
        self._model, self._batch_size = model, batch_size
        self._state = RunState(threat, device, seed=seed, phase="evaluate")
        self._hooks = Hooks([attack], self._state, ValueChecks("always", device))
        self._modes = Modes(model)
        self._name = "evaluation"

    def attacked(self, batch: Batch, number: int = 0) -> Adv:
        """Adversarial examples for batch number ``number``, made in eval mode."""
        self._state.step, self._state.elsewhere = number, f"{self._name}, batch {number + 1}"
        self._state.rewind()
        with self._modes.attacking("eval"):
            return self._hooks.generate_adv(self._model, batch)

    def score(
        self, split: Split, epoch: int | None = None, scored: Callable[[int], None] = lambda examples: None
    ) -> Score:
        """Clean and robust accuracy on ``split``; one synchronisation with the device at the end.

        Args:
            split: the examples.
            epoch: after which this is, from 1, for messages.
            scored: hears the number of examples of every batch that is done.

        Raises:
            DataError: the split is empty.
            HookError: the attack failed.
        """
        self._name = "evaluation" if epoch is None else f"evaluation after epoch {epoch}"
        if not len(split):
            raise DataError("evaluation: expected at least one example, got an empty split")
        clean, robust, losses = [], [], []
        order = torch.arange(len(split))
        for number, batch in enumerate(split.batches(order, self._batch_size)):
            adv = self.attacked(batch, number)
            with torch.no_grad(), self._modes.evaluating():
                clean.append(is_correct(self._model(batch.x), batch.y))
                logits_adv = self._model(adv.x)
                robust.append(is_correct(logits_adv, batch.y))
                losses.append(cross_entropy(logits_adv, batch.y))
            scored(len(batch.y))
        clean_correct, robust_correct = torch.cat(clean), torch.cat(robust)
        n = len(clean_correct)
        right = torch.stack([clean_correct.sum(), robust_correct.sum()]).tolist()
        return Score(right[0] / n, right[1] / n, n, clean_correct, robust_correct, torch.cat(losses))


def evaluate(
    model: nn.Module,
    split: Split,
    attack: str | Mapping[str, Any] | LoadedPlugin,
    threat: ThreatModel,
    *,
    seed: int = 0,
    batch_size: int = 500,
) -> Score:
    """Clean and robust accuracy of ``model`` on ``split`` under ``attack``.

    Args:
        model: maps ``[B,*]`` to logits ``[B,K]``; left as found.
        split: examples, on the model's device.
        attack: ``"fgsm"``, ``{"pgd": {"steps": 20, "step_size": "2/255"}}``, or a loaded attack.
        threat: the threat model.
        seed: of the attack's random draws.
        batch_size: examples a forward.
    """
    loaded = attack if isinstance(attack, LoadedPlugin) else load_attack(attack)
    return Evaluator(model, loaded, threat, seed=seed, batch_size=batch_size).score(split)
