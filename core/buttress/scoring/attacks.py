"""Load evaluation attacks by name, and name them in tables and files."""

from collections.abc import Mapping
from typing import Any

from buttress.components.construct import build
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
        PluginError, ConfigError: the attack is unknown or broken, has wrong settings, or lacks ``generate_adv``.
    """
    name, settings = attack_entry_of(entry, Place("attack"))
    attack, source, resolved = build("attack", name, settings, place, given, local=local)
    loaded = LoadedPlugin(source.name, attack, source, resolved)
    if not provides(loaded, "generate_adv"):
        raise PluginError(f"attack {name!r} from {source} does not implement generate_adv; choose an attack")
    return loaded


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

    A setting ``version`` other than ``standard`` is part of the name.
    """
    steps, restarts, loss, version = (attack.settings.get(key) for key in ("steps", "restarts", "loss", "version"))
    name = attack.label + (f"-{steps}" if steps else "")
    name += f"x{restarts}" if isinstance(restarts, int) and restarts > 1 else ""
    name = name if version in (None, "standard") else f"{name}-{version}"
    return name if loss in (None, "ce") else f"{name}-{loss}"


def name_of_entry(entry: Mapping[str, Mapping[str, Any]]) -> str:
    """Like ``attack_name``, for an entry with all its settings, as in the config of a run; loads no attack."""
    ((name, settings),) = entry.items()
    return attack_name(LoadedPlugin(name.rpartition(":")[2], None, None, settings))
