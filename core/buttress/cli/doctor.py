"""The verb ``doctor``."""

from __future__ import annotations

from buttress.cli.answer import json_answer
from buttress.cli.options import json_option
from buttress.cli.verb import verb


@verb(imports_torch=True)
@json_option
def doctor(as_json: bool) -> str:
    """Examine the installation, and advise how to repair it."""
    from buttress.doctor import facts_text, installation_facts

    facts = installation_facts()
    return json_answer(facts) if as_json else facts_text(facts)
