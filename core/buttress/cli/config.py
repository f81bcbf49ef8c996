"""Verbs about configs: ``config show``, ``validate``, ``schema``."""

from __future__ import annotations

from pathlib import Path

import click

from buttress.cli.answer import json_answer
from buttress.cli.options import config_arguments, json_option, trust_option
from buttress.cli.verb import Group
from buttress.console.output import Exact, notice
from buttress.errors import TrustError


@click.group(cls=Group)
def config() -> None:
    """Show and check configs."""


@config.command("show", imports_torch=True)
@config_arguments
@trust_option("the config")
@json_option
def config_show(config: Path, overrides: tuple[str, ...], trust: bool, as_json: bool) -> str:
    """Show a config with every default filled in."""
    from buttress.config.file import dump_config, load_config
    from buttress.training.assembly import check_config

    file = load_config(config, overrides, trust=trust, inspect_only=True)
    try:
        resolved = check_config(file).resolved
    except TrustError as problem:
        notice(f"shown without the defaults of plugins, data and model, which are not checked: {problem}")
        resolved = file.config.model_dump()
    return json_answer(resolved) if as_json else Exact(dump_config(resolved).rstrip())


@config.command("validate", imports_torch=True)
@config_arguments
@trust_option("the config")
def config_validate(config: Path, overrides: tuple[str, ...], trust: bool) -> str:
    """Check a config, its plugins, data and model."""
    from buttress.config.file import load_config
    from buttress.training.assembly import check_config

    try:
        check_config(load_config(config, overrides, trust=trust, inspect_only=True))
    except TrustError as problem:
        return f"{config}: the keys are valid; plugins, data and model are not checked: {problem}"
    return f"{config}: valid"


@config.command("schema")
def config_schema() -> str:
    """Print the JSON schema of a config."""
    from buttress.config.schema import schema

    return json_answer(schema())
