"""Text of strangers on a terminal: nothing that it would obey or hide comes through, everything else as it is."""

import sys
import unicodedata
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from buttress.cli import main
from buttress.console.reporter import Reporter, plain_console
from buttress.console.tables import fitted, table
from buttress.console.visible import one_line, visible

UNSEEN = {
    "escape": "\x1b]0;pwned\x07\x1b[2J",
    "a C1 control": "\x9b2J",
    "carriage return": "all is well\rnothing is",
    "backspaces": "bad\b\b\bfine",
    "delete": "a\x7fb",
    "null": "a\0b",
    "bidi override": "exe.\u202efdp",
    "bidi isolate": "\u2066x\u2069",
    "left-to-right mark": "\u200e",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "next line": "a\x85b",
    "byte order mark": "a\ufeffb",
    "tags": "a\U000e0041b",
    "half a character": "caf\udce9",
}


@pytest.mark.parametrize("text", UNSEEN.values(), ids=UNSEEN)
def test_what_a_terminal_would_obey_or_hide_is_escaped(text: str):
    shown = visible(text)
    assert shown.isprintable()
    assert "\\" in shown
    assert visible(shown) == shown


def test_every_control_character_is_escaped_and_no_letter_is():
    controls = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in ("Cc", "Cs")]
    assert [each for each in controls if visible(each) == each] == ["\t", "\n"]
    ordinary = "caf\u00e9 \u05e9\u05dc\u05d5\u05dd \u4f60\u597d \U0001f468\u200d\U0001f469 8/255 [red]x[/red] :bug: \\n"
    assert visible(ordinary) == ordinary


def test_a_word_within_a_sentence_begins_no_line():
    assert visible("a\n\tb") == "a\n\tb"
    assert one_line("a\n\tb") == "a\\u000a\\u0009b"


def test_cells_of_tables_are_one_line_each():
    for make in (table, fitted):
        rows = make(["name", "n"], [["a\x1b[2J", 1], ["b\nc", 2]]).splitlines()
        assert len(rows) == 4
        assert all(row.isprintable() for row in rows)


@pytest.mark.parametrize("text", UNSEEN.values(), ids=UNSEEN)
def test_a_reporter_escapes_it_on_the_screen_and_in_the_log(text: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    with Reporter(tmp_path / "log.txt", plain_console()) as reporter:
        reporter.doing(f"loading {text}")
        reporter.say(f"note: {text}")
        reporter.begin(2, 0, text)
        reporter.advance(text)
    said = capsys.readouterr().out + (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert all(line.isprintable() for line in said.split("\n"))
    assert said.count(visible(text)) >= 3


def test_markup_and_emoji_codes_are_letters(capsys: pytest.CaptureFixture):
    Reporter(console=plain_console()).say("[bold]track[/bold] :warning:")
    assert capsys.readouterr().out == "[bold]track[/bold] :warning:\n"


class Terminal:
    """A terminal that keeps what is written to it."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_a_progress_bar_takes_no_markup_from_a_track(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with Reporter(console=Console(file=terminal, force_terminal=True, width=100)) as reporter:  # type: ignore[arg-type]
        reporter.doing("building [/nothing]")
        reporter.begin(2, 0)
        reporter.busy("examples", "evaluating [/red]\x1b]0;pwned\x07", 1)
    assert "evaluating [/red]\\u001b]0;pwned\\u0007" in terminal.text
    assert "\x1b]0;" not in terminal.text


@pytest.mark.parametrize("place", ["", "threat", "optimizer", "plugins"])
def test_an_unknown_key_of_a_config_is_printed_without_effect(place: str, tmp_path: Path, capfd: pytest.CaptureFixture):
    key = "\x1b]0;pwned\x07\x1b[2J\nerror: all is well\u202e"
    config = {
        "name": "a", "data": {"name": "circles"}, "model": {"name": "mlp"}, "threat": {"norm": "linf", "eps": 0.1},
        "plugins": [{"pgd": {}}], "optimizer": {"lr": 0.1}, "epochs": 1,
    }  # fmt: skip
    if place == "plugins":
        config["plugins"] = [{"pgd": {key: 1}}]
    else:
        (config[place] if place else config)[key] = 1  # type: ignore[index]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert main(["config", "validate", str(tmp_path / "c.yaml")]) == 2
    said = capfd.readouterr().err
    assert all(line.isprintable() for line in said.split("\n"))
    assert not [line for line in said.split("\n") if line.startswith("error: all is well")]


@pytest.mark.parametrize(
    "words",
    [
        ["config", "validate", "no\x1b[2J.yaml"],
        ["evaluate", "run", "--no\x1b[2J"],
        ["no\x1b[2J"],
        ["plugins", "show", "no\x1b[2J\u202e"],
        ["config", "validate", "caf\udce9.yaml"],
    ],
    ids=["file", "option", "verb", "name", "bytes"],
)
def test_a_word_of_the_command_line_is_printed_without_effect(words: list[str], capfd: pytest.CaptureFixture):
    assert main(words) == 2
    said = capfd.readouterr().err
    assert all(line.isprintable() for line in said.split("\n"))
    assert "\\" in said


def test_json_holds_no_control_character(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    import json

    from buttress import doctor

    text = "".join(map(chr, [*range(32), 127, *range(128, 160), 0x202E, 0x2028]))
    monkeypatch.setattr(doctor, "installation_facts", lambda: {"text": text})
    assert main(["doctor", "--json"]) == 0
    said = capfd.readouterr().out
    assert all(line.isprintable() for line in said.split("\n"))
    assert json.loads(said) == {"text": text}
