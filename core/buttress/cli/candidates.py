"""Words that a shell may complete: recipes, YAML files, components, hooks. Loads no torch."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem

_SUFFIXES = (".yaml", ".yml")


def configs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """YAML files and recipes; where nothing of that kind begins so, whatever file the shell knows."""
    from buttress.config.recipes import recipes

    named = [CompletionItem(str(recipe)) for recipe in recipes() if str(recipe).startswith(incomplete)]
    written = [CompletionItem(name) for name in _yaml_files(incomplete)]
    return [*written, *named] or [CompletionItem(incomplete, type="file")]


def _yaml_files(incomplete: str) -> list[str]:
    folder, begin = os.path.split(incomplete)
    try:
        names = sorted(path.name for path in Path(folder or ".").expanduser().iterdir() if path.suffix in _SUFFIXES)
    except OSError:
        return []
    return [os.path.join(folder, name) for name in names if name.startswith(begin)]  # noqa: PTH118


def components(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of installed components, of the kind in ``--kind`` where it is given."""
    from buttress.components.sources import GROUPS, sources

    kind = ctx.params.get("kind")
    names = {source.name for group in ([kind] if kind else GROUPS) for source in sources(group)}
    return sorted(name for name in names if name.startswith(incomplete))


def launchers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of launchers."""
    from buttress.components.sources import sources

    return [source.name for source in sources("launcher") if source.name.startswith(incomplete)]


def hooks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of hooks."""
    from buttress.hookspecs import HOOKS

    return [name for name in HOOKS if name.startswith(incomplete)]


def exclusive_hooks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of hooks that can be wrapped."""
    from buttress.hookspecs import EXCLUSIVE

    return [name for name in EXCLUSIVE if name.startswith(incomplete)]
