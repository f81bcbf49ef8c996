"""Recipes: configs that distributions bring along, listed by entry point and read without importing anything.

An entry point of the group ``buttress.recipes`` names a package, a folder of ``.yaml`` files: ``digits/at.yaml`` in it
is the recipe ``digits/at``, and ``dist:digits/at`` names it wherever a config is expected. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

from packaging.utils import canonicalize_name

from buttress.components.installed import Point, entry_points_of
from buttress.errors import ConfigError, nearest

GROUP = "buttress.recipes"


@dataclass(frozen=True)
class Recipe:
    """A config of a distribution; ``path`` is the file."""

    distribution: str
    version: str
    name: str
    path: Path

    def __str__(self) -> str:
        return f"{self.distribution}:{self.name}"

    @property
    def summary(self) -> str:
        """The comment on the first line, if there is one."""
        try:
            first = self.path.read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError):  # reading it as a config says what is wrong
            return ""
        return first.lstrip("# ").strip() if first.startswith("#") else ""


def recipes(pattern: str = "") -> list[Recipe]:
    """All installed recipes, by distribution and name; an entry point that names no folder has none.

    Args:
        pattern: text that ``dist:name`` has to hold, case ignored; ``*``, ``?`` and ``[...]`` as in a shell.
    """
    installed = [recipe for point in entry_points_of(GROUP) for recipe in _recipes_of(point)]
    matching = [recipe for recipe in installed if fnmatchcase(str(recipe).lower(), f"*{pattern.lower()}*")]
    return sorted(matching, key=lambda recipe: (canonicalize_name(recipe.distribution), recipe.name))


def resolve_config_path(config: Path) -> Path:
    """The file of a config: the path itself, or the file of ``dist:recipe`` if no file has that name.

    Raises:
        ConfigError: no such file, distribution or recipe, with the nearest; or two recipes of that name.
    """
    distribution, colon, name = str(config).partition(":")
    if config.exists():
        return config
    if not colon:
        raise ConfigError(f"cannot be read: no such file{_nearest_config(config)}", key=config)
    wanted = canonicalize_name(distribution)
    points = [point for point in entry_points_of(GROUP) if canonicalize_name(point.distribution) == wanted]
    if not points:
        known = {point.distribution for point in entry_points_of(GROUP)}
        hint = nearest(distribution, known)
        raise ConfigError(f"no such file, and no distribution {distribution!r} with recipes{hint}", key=config)
    for point in points:
        if not _folders(point):
            raise ConfigError(
                f"entry point {point.name} = {point.value} of {point.distribution} {point.version} names no "
                f"folder; repair or uninstall {distribution}",
                key=config,
            )
    of_distribution = [recipe for point in points for recipe in _recipes_of(point)]
    matching = [recipe.path for recipe in of_distribution if recipe.name == name]
    if not matching:
        hint = nearest(name, {recipe.name for recipe in of_distribution})
        raise ConfigError(f"{distribution} has no recipe {name!r}{hint} (see: buttress recipes list)", key=config)
    if len(matching) > 1:
        files = " and ".join(map(str, matching))
        raise ConfigError(f"{distribution} has two recipes {name!r}: give one of the files, {files}", key=config)
    return matching[0]


def _nearest_config(config: Path) -> str:
    """A hint: the recipe whose name ends the path, as in a checkout, or the nearest YAML file beside the path."""
    parts = config.with_suffix("").parts
    meant = [each for each in recipes() if Path(each.name).parts == parts[-len(Path(each.name).parts) :]]
    if meant:
        return f"; it comes with {meant[0].distribution} as a recipe: {meant[0]}"
    beside = {path.name: path for path in (*config.parent.glob("*.yaml"), *config.parent.glob("*.yml"))}
    close = get_close_matches(config.name, beside, n=1)
    return f"; did you mean {beside[close[0]]}?" if close else "; see for those that come along: buttress recipes list"


def _recipes_of(point: Point) -> Iterator[Recipe]:
    for folder in _folders(point):
        for path in sorted(folder.rglob("*.yaml")):
            yield Recipe(point.distribution, point.version, path.relative_to(folder).with_suffix("").as_posix(), path)


def _folders(point: Point) -> list[Path]:
    """The folders of the package. Finding a top-level package executes nothing; finding one below would execute it."""
    top, *below = point.value.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return []
    places = (spec.submodule_search_locations if spec else None) or []
    folders = dict.fromkeys(Path(place, *below) for place in places)
    return [folder for folder in folders if folder.is_dir()]
