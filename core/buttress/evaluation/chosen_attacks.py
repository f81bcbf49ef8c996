"""The attacks that ``--attack`` chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from buttress.attack_losses import names_of_attack_losses
from buttress.components.construct import choose
from buttress.components.loaded import LoadedPlugin
from buttress.components.sources import Local
from buttress.config.own_code import OwnCode
from buttress.errors import ConfigError
from buttress.evaluation.subject import ModelUnderAttack
from buttress.scoring.attacks import attack_entry, attack_name, load_attack


def load_attacks(texts: Sequence[str], subject: ModelUnderAttack) -> list[tuple[str, LoadedPlugin]]:
    """Attacks by their names in tables: the short name, or the whole text where the short name is taken.

    Raises:
        PluginError, ConfigError: unknown, wrong settings, or twice the same.
    """
    own = subject.file.config.evaluation.attack
    entries = [(text, attack_entry(text)) for text in texts] or [("fgsm", {"fgsm": {}}), (json.dumps(own), own)]
    local = _components_for([entry for _, entry in entries], subject.file.own)
    named: dict[str, LoadedPlugin] = {}
    for text, entry in entries:
        attack = load_attack(entry, given={"num_classes": subject.data.num_classes}, local=local)
        if attack.label == "clean":  # it is always there, as the first row
            continue
        short = attack_name(attack)
        name = text if short in named else short
        if name in named:
            raise ConfigError(
                f"--attack {text!r} is given twice; leave one out, or write out what makes it another one"
            )
        named[name] = attack
    return list(named.items())


def _components_for(entries: Sequence[Mapping[str, Any]], own: OwnCode) -> Local:
    """The components of the run's own file; none, with nothing executed, where all attacks and losses are installed."""
    attacks = [item for entry in entries for item in entry.items()]
    if local := own.components_for("attack", [name for name, _ in attacks]):
        return local
    losses = [names_of_attack_losses(choose("attack", name).factory, settings or {}) for name, settings in attacks]
    return own.components_for("attack_loss", [name for names in losses for name in names])
