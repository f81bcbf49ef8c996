"""Names and settings of a stranger's run stay text in what is made of it: a report, a model card."""

import json
from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import pytest

from buttress.exporting.markdown import plain_text
from buttress.report.elements import Section, Table, figure_of
from buttress.report.material import RunsOfConfig, read_run
from buttress.report.page import page_html

SCRIPT = "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)>"


def test_a_report_holds_names_of_others_as_text(stranger: Path) -> None:
    run = read_run(stranger / "runs" / "tiny" / "file")
    rows = [replace(row, track=SCRIPT) for row in run.rows]
    records = [replace(record, track=SCRIPT) for record in run.records]
    share = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 8}
    attack = {"attack": SCRIPT, "attacked": 8, "wrong": 4, **share}
    places = dict.fromkeys(("track", "checkpoint", "split", "threat", "weights", "mark"), SCRIPT)
    evaluation = {"each": True, "attacks": [attack], "worst": share, "epoch": 1, "seed": 0, **places}
    finding = dict.fromkeys(("status", "check", "reason", "cure", "track", "checkpoint", "mark"), SCRIPT)
    hostile = replace(
        run,
        rows=rows,
        records=records,
        attack=SCRIPT,
        manifest={SCRIPT: SCRIPT},
        damaged=[SCRIPT],
        evaluations=[evaluation],
        audit=[finding],
        caution=SCRIPT,
    )
    page = page_html([RunsOfConfig(SCRIPT, [hostile])])
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("alert(1)") >= 8  # it is there, as text


def test_a_report_may_load_nothing(stranger: Path) -> None:
    page = page_html([RunsOfConfig("a", [read_run(stranger / "runs" / "tiny" / "file")])])
    assert "content=\"default-src 'none';" in page


def test_a_figure_draws_no_link_of_somebody(stranger: Path) -> None:
    name = '<A href="https://example.org">live</a><b>bold</b>'
    figure = figure_of("", go.Figure(go.Scatter(x=[0], y=[0], name=name)))
    drawn = json.loads(figure.json)["data"][0]["name"]
    assert drawn == '&lt;A href="https://example.org">live</a><b>bold</b>'
    assert Section("", [Table([], [])], [figure]).figures == [figure]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("plain_name (1)", "plain_name (1)"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("![x](https://example.org/a.png)", "![x]\\(https://example.org/a.png)"),
        ("[x][y]", "[x]\\[y]"),
        ("a | b\n\n# heading\n[y]: https://example.org", "a \\| b # heading [y]: https://example.org"),
    ],
    ids=["plain", "html", "picture", "reference", "lines"],
)
def test_words_of_others_stay_text_in_a_model_card(words: str, line: str) -> None:
    assert plain_text(words) == line
