"""Load evaluation attacks by name, and name them in tables and files."""

from collections.abc import Mapping
from typing import Any

from buttress.attack_losses import attack_losses_of
from buttress.components.construct import Component, choose, making
from buttress.components.curves import expect_no_curves
from buttress.components.entries import attack_entry_of
from buttress.components.loaded import LoadedPlugin, provides
from buttress.components.place import Place
from buttress.components.sources import Local
from buttress.config.yaml_source import parse_yaml
from buttress.errors import PluginError


def load_attack(
    entry: str | Mapping[str, Any],
    place: Place | None = None,
    given: Mapping[str, Any] | None = None,
    local: Local | None = None,
) -> LoadedPlugin:
    """Load an evaluation attack: ``"fgsm"``, ``"pgd-20"`` or ``{"pgd": {"steps": 20}}``; the rest as in ``build``.

    Raises:
        PluginError, ConfigError: the attack is unknown or broken, has wrong settings or one that changes over epochs,
            or lacks ``generate_adv``.
    """
    name, settings = attack_entry_of(entry, Place("attack"))
    component = choose("attack", name, place, local)
    with making(local, given) as parts:
        attack, resolved = component.make(settings, place or Place(name), given)
        _expect_no_run_needed(component, resolved, place or Place(name))
    expect_no_curves(attack, place or Place(name))
    loaded = LoadedPlugin(component.source.name, attack, component.source, resolved, parts)
    if not provides(loaded, "generate_adv"):
        raise PluginError(f"attack {name!r} from {component.source} does not implement generate_adv; choose an attack")
    return loaded


def _expect_no_run_needed(component: Component, settings: Mapping[str, Any], place: Place) -> None:
    """Refuse a loss that only a run has: an evaluation attacks weights, whatever they were trained with."""
    for setting, loss in attack_losses_of(component.factory, settings).items():
        if loss.needs_run:
            raise PluginError(
                f"attack loss {loss.name!r} is the training loss of a run, and an evaluation has none; choose another "
                "one, such as ce",
                key=place / setting,
            )


def attack_entry(text: str) -> dict[str, dict[str, Any]]:
    """The entry of an attack written as ``fgsm``, ``pgd-20`` (20 steps) or, in YAML, ``pgd: {steps: 50, restarts: 3}``.

    Raises:
        ConfigError: the text is none of these.
    """
    option = f"--attack {text!r}"
    name, settings = attack_entry_of(parse_yaml(text, option).value, Place(option))
    return {name: settings}


def attack_name(attack: LoadedPlugin) -> str:
    """The name of an attack in tables and files: ``fgsm``, ``pgd-20``, ``pgd-20-margin``, or ``pgd-50x3`` (3 restarts).

    A loss is named without its settings. Targets and early stop are part of the name, and so is a setting ``version``
    other than ``standard``.
    """
    steps, restarts, loss, version = (attack.settings.get(key) for key in ("steps", "restarts", "loss", "version"))
    name = attack.label + (f"-{steps}" if steps else "")
    name += f"x{restarts}" if isinstance(restarts, int) and restarts > 1 else ""
    name = name if version in (None, "standard") else f"{name}-{version}"
    loss = next(iter(loss)) if isinstance(loss, Mapping) else loss
    name = name if loss in (None, "ce") else f"{name}-{loss.rpartition(':')[2]}"
    targets = attack.settings.get("targets")
    name = name if targets is None else f"{name}-targets-{targets}"
    return f"{name}-early-stop" if attack.settings.get("early_stop") else name


def name_of_entry(entry: Mapping[str, Mapping[str, Any]]) -> str:
    """Like ``attack_name``, for an entry with all its settings, as in the config of a run; loads no attack."""
    ((name, settings),) = entry.items()
    return attack_name(LoadedPlugin(name.rpartition(":")[2], None, None, settings))
