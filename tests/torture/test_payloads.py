"""Hostile files and words are refused with the reason, and their code does not run. One table."""

from pathlib import Path

import pytest

from .payloads import CANARY, PAYLOADS, Bomb, Payload, verdict


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_is_refused_with_the_reason(name: str):
    found = verdict(PAYLOADS[name])
    assert not found.wrong
    assert PAYLOADS[name].reason in found.said


def test_the_canary_can_be_touched():
    import pickle

    def careless() -> object:
        return pickle.loads(pickle.dumps(Bomb()))

    assert verdict(Payload(lambda: careless, "")).wrong == "ran its code"
    assert Path(CANARY).exists()
