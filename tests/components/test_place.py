"""Places of values: below one another, as messages name them, and before the messages of others."""

import pytest

from buttress.components.place import Place
from buttress.errors import ConfigError, PluginError

LINES = {(): "a.yaml:1", ("plugins",): "a.yaml:2", ("plugins", 0, "pgd"): "a.yaml:3"}
FILE = Place("a.yaml", (), LINES)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (FILE, "a.yaml:1"),
        (FILE / "plugins", "a.yaml:2: plugins"),
        (FILE / "plugins" / 0 / "pgd" / "steps", "a.yaml:3: plugins.pgd.steps"),
        (FILE / "plugins" / 1 / "swa", "a.yaml:2: plugins.swa"),
        (FILE / "two\nlines", "a.yaml:1: two\\u000alines"),
        (Place("a.yaml", ("threat", "eps"), {}), "a.yaml: threat.eps"),
        (Place("plugins") / 0 / "pgd", "plugins.0.pgd"),
        (Place("pgd"), "pgd"),
    ],
)
def test_a_place_names_file_line_and_key(place: Place, text: str):
    assert str(place) == text


def test_several_keys_lead_where_one_after_the_other_leads():
    assert str(FILE.under("plugins", 0, "pgd")) == str(FILE / "plugins" / 0 / "pgd")
    assert FILE.under() == FILE


def test_the_place_stands_before_what_is_refused_there():
    with pytest.raises(PluginError, match=r"^a\.yaml:2: plugins: no such plugin$"), (FILE / "plugins").error_context():
        raise PluginError("no such plugin")


def test_the_cause_of_a_refusal_is_kept():
    cause = KeyError("x")
    with pytest.raises(ConfigError) as caught, FILE.error_context():
        raise ConfigError("wrong") from cause
    assert caught.value.__cause__ is cause


def test_other_exceptions_pass():
    with pytest.raises(KeyError, match="x"), FILE.error_context():
        raise KeyError("x")
