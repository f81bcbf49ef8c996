"""``bench_images.py``: a case that fails stops no other."""

import pytest


def test_a_case_that_fails_is_recorded_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import bench_images

    words = "--models preact_tiny --precisions tf32 float32 --formats contiguous --batch 2 --steps 1 --rounds 1"
    monkeypatch.setattr("sys.argv", ["bench_images.py", *words.split(), "--warmup", "0"])
    assert bench_images.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert "tf32 is an arithmetic of CUDA devices" in lines[2]
    assert lines[3].split()[:4] == ["off", "float32", "preact_tiny", "contiguous"]
