"""The verb ``doctor``."""

from __future__ import annotations

from pathlib import Path

from buttress.cli.answer import json_answer
from buttress.cli.candidates import configs
from buttress.cli.options import FILE, json_option, trust_option
from buttress.cli.verb import option, verb


@verb(imports_torch=True)
@option(
    "--model",
    "config",
    type=FILE,
    metavar="CONFIG",
    help="config whose model to examine too: the layouts and precisions in which its gradients can be taken",
    shell_complete=configs,
)
@trust_option("a config in a run folder")
@json_option
def doctor(config: Path | None, trust: bool, as_json: bool) -> str:
    """Examine the installation, and a model, and advise what to do."""
    from buttress.doctor import facts_text, installation_facts, model_facts

    facts = installation_facts()
    if config is not None:
        facts = {"model": model_facts(config, trust=trust), **facts}
    return json_answer(facts) if as_json else facts_text(facts)
