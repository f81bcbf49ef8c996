"""Verbs about plugins: ``plugins list``, ``show``, ``check``, ``new``."""

from __future__ import annotations

from pathlib import Path

import click

from buttress.cli.answer import json_answer
from buttress.cli.candidates import components, exclusive_hooks, hooks
from buttress.cli.options import FOLDER, WordType, json_option, trust_option
from buttress.cli.verb import Group, option
from buttress.console.output import Exact, say

_HOOKED = ("plugin", "attack", "logger")
_KINDS = (*_HOOKED, "model", "dataset", "schedule", "attack_loss", "launcher")


@click.group(cls=Group)
def plugins() -> None:
    """List, show, check and make plugins."""


@plugins.command("list")
@option("--kind", type=WordType(_KINDS), help="kind of component to list")
@option(
    "--hook",
    metavar="HOOK",
    help="hook that the listed components have; those whose hooks are not known are listed too",
    shell_complete=hooks,
)
@option(
    "--check", is_flag=True, help="also import each, apart from this process, for its status, hooks, paper and cost"
)
@json_option
def list_(kind: str | None, hook: str | None, check: bool, as_json: bool) -> str:
    """List the installed components, plugins by hook, without importing any."""
    from buttress.authoring.inventory import inventory
    from buttress.authoring.inventory_text import render_list

    rows = inventory(kind, check=check, hook=hook)
    return json_answer(rows) if as_json else render_list(rows)


@plugins.command()
@click.argument("name", metavar="NAME", help="name as in a config", shell_complete=components)
@option("--kind", type=WordType(_KINDS), help="kind of component, if several share the name")
@option("--check", is_flag=True, help="import it apart from this process first, for its status")
@json_option
def show(name: str, kind: str | None, check: bool, as_json: bool) -> str:
    """Show the settings, hooks, paper and cost of a component."""
    from buttress.authoring.inventory import description_of
    from buttress.authoring.inventory_text import description_text

    facts = description_of(kind, name, check=check)
    return json_answer(facts) if as_json else description_text(facts)


@plugins.command(imports_torch=True)
@click.argument(
    "target",
    metavar="NAME|PATH",
    help="name of an installed component, a .py file, or the folder of a package",
    shell_complete=components,
)
@click.argument("overrides", nargs=-1, metavar="[key=value]...", help="settings to examine it with")
@option(
    "--kind",
    type=WordType(_HOOKED),
    show_default="all that have the name, or are in the package",
    help="kind of component to examine",
)
@option("--only", multiple=True, metavar="NAME", help="name of the component to examine, of several; may be repeated")
@trust_option()
@json_option
def check(
    target: str, overrides: tuple[str, ...], kind: str | None, only: tuple[str, ...], trust: bool, as_json: bool
) -> str:
    """Examine which promises a plugin, an attack or a logger keeps."""
    from buttress.authoring.examination import examine_apart
    from buttress.errors import PluginError, WorkError

    reports = examine_apart(target, overrides, kind, only, trust=trust)
    texts = [report.pop("text") for report in reports]
    say(json_answer(reports) if as_json else "\n\n".join(texts))
    broken = [f"{report['plugin']} breaks {name}" for report in reports for name in report["broken"]]
    refused = [f"{report['plugin']} was not examined: {report['refused']}" for report in reports if "refused" in report]
    if broken:
        raise WorkError(f"{target}: {', '.join([*broken, *refused])}")
    if refused:
        raise PluginError(f"{target}: {', '.join(refused)}")
    return ""


@plugins.command()
@click.argument("name", metavar="NAME", help="name of the plugin in configs")
@option(
    "--hook",
    "chosen",
    multiple=True,
    metavar="HOOK",
    show_default="adjust_grads, where nothing is wrapped",
    help="hook to write an example of; may be repeated",
    shell_complete=hooks,
)
@option(
    "--wrap",
    "wraps",
    multiple=True,
    metavar="HOOK",
    help="exclusive hook to write a wrapper of; may be repeated",
    shell_complete=exclusive_hooks,
)
@option(
    "--kind",
    type=WordType(("model", "dataset")),
    show_default="plugin, or logger, by the hooks",
    help="kind of component to make, without hooks",
)
@option("--output", type=FOLDER, metavar="FOLDER", show_default="buttress-NAME", help="folder to make")
@option("--into", type=FOLDER, metavar="FOLDER", help="folder of a package to add to: module, tests and entry point")
def new(
    name: str, chosen: tuple[str, ...], wraps: tuple[str, ...], kind: str | None, output: Path | None, into: Path | None
) -> str:
    """Make a package with a working plugin, model or data set and its tests."""
    from buttress.authoring.scaffold import install_command, new_plugin

    folder = new_plugin(name, chosen, output, wraps=wraps, kind=kind, into=into)
    if into is not None:
        checks = folder / "tests" / f"test_{name.replace('-', '_')}.py"
        return Exact(
            f"added {name} to {folder}; next, once buttress is among its dependencies:\n\n"
            f'  pip install --no-build-isolation --editable "{folder}"\n  pytest "{checks}"'
        )
    return Exact(  # commands to copy: lines stay whole
        f'made {folder}; next:\n\n  {install_command(str(folder))}\n  pytest "{folder}"\n'
        f'  buttress train "{folder / "config.yaml"}"'
    )
