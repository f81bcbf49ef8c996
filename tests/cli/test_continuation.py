"""What has changed since a run was started is said, recorded, and refused where it is the code of a plugin."""

from pathlib import Path

import pytest

from buttress.storage.seals import read_sealed, write_sealed
from buttress.training.manifest import read_manifest

from .conftest import Verb, stopped_at

WORDS = ["small.yaml", "plugins=[{pgd: {steps: 1}}, ema]", "model={name: mlp, hidden: [4]}", "epochs=2"]
RUN = Path("runs/small/a")
MANIFEST = RUN / "manifest.json"


@pytest.fixture(autouse=True)
def stopped(expect: Verb) -> None:
    """A run, stopped in its second epoch."""
    with stopped_at(5):
        expect("train", *WORDS, "--run", "a", code=1)


def record(section: str, **values: object) -> None:
    """Let the manifest say something else."""
    body = read_sealed(MANIFEST)
    body[section].update(values)
    write_sealed(MANIFEST, body)


def test_a_resume_is_recorded_and_nothing_is_said_where_nothing_differs(expect: Verb):
    assert "changed since" not in expect("resume", str(RUN))
    (found,) = read_manifest(MANIFEST).continued
    assert (found.differences, found.accepted) == ([], False)
    assert found.resumed > read_manifest(MANIFEST).started[:10]
    expect("resume", str(RUN))  # it has finished: nothing is trained
    assert len(read_manifest(MANIFEST).continued) == 1


def test_other_versions_and_threads_are_said_and_recorded_and_the_card_names_them(expect: Verb):
    record("packages", torch="1.0")
    record("hardware", torch_threads=7)
    said = expect("resume", str(RUN))
    assert 'changed since the run was started: packages.torch: "1.0", now "' in said
    assert "hardware.torch_threads: 7, now 1; for equality to the last bit set OMP_NUM_THREADS=7" in said
    (found,) = read_manifest(MANIFEST).continued
    assert [line.partition(": ")[0] for line in found.differences] == ["packages.torch", "hardware.torch_threads"]
    expect("export", str(RUN), "--output", "shelf")
    assert "continued after changes (packages.torch: " in Path("shelf/README.md").read_text()


def test_what_an_older_version_did_not_record_is_no_difference(expect: Verb):
    body = read_sealed(MANIFEST)
    for plugin in body["plugins"].values():
        del plugin["sha256"]
    unrecorded = ("hardware", "kernels", "packages", "attack_losses")
    write_sealed(MANIFEST, {key: value for key, value in body.items() if key not in unrecorded})
    assert "changed since" not in expect("resume", str(RUN))


def test_a_changed_file_of_a_built_in_plugin_is_said(expect: Verb):
    record("plugins", pgd={**read_sealed(MANIFEST)["plugins"]["pgd"], "sha256": "0" * 64})
    assert f'changed since the run was started: plugins.pgd.sha256: "{"0" * 64}", now "' in expect("resume", str(RUN))


@pytest.mark.parametrize(
    ("section", "name", "what"),
    [("plugins", "pgd", "version"), ("plugins", "pgd", "sha256"), ("attack_losses", "ce", "version")],
)
def test_other_code_of_a_plugin_or_a_loss_is_refused_until_it_is_accepted_which_is_remembered(
    expect: Verb, monkeypatch: pytest.MonkeyPatch, section: str, name: str, what: str
):
    monkeypatch.setattr("buttress.training.continuation._OWN", ())  # as if it came from another distribution
    record(section, **{name: {**read_sealed(MANIFEST)[section][name], what: "0.0.1"}})
    before = {path: path.read_bytes() for path in RUN.rglob("*.json")}
    said = expect("resume", str(RUN), code=2)
    assert f'was started with other code of its plugins: {section}.{name}.{what}: "0.0.1", now "' in said
    assert f"go on with what is there now: buttress resume {RUN} --accept-changes" in said
    assert before == {path: path.read_bytes() for path in RUN.rglob("*.json")}
    with stopped_at(7):
        expect("resume", str(RUN), "--accept-changes", code=1)
    expect("resume", str(RUN))
    assert [each.accepted for each in read_manifest(MANIFEST).continued] == [True, False]
