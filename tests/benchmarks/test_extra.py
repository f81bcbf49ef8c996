"""``bench_extra.py``: fifty million images take no more than 200 MB beside the pages of their file."""

import json
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_fifty_million_mapped_images_take_less_than_200_mb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import bench_extra

    words = ["--stored", "500", "--real", "1000", "--batches", "2", "--rounds", "1", "--cold-rounds", "1"]
    monkeypatch.setattr(
        sys, "argv", ["bench_extra.py", *words, "--folder", str(tmp_path), "--json", str(tmp_path / "r")]
    )
    bench_extra.main()
    result = json.loads((tmp_path / "r").read_text())
    assert result["images"] == 50_000_000
    assert list(result["memory"]) == ["with replacement", "without replacement"]
    for each in result["memory"].values():
        assert each["growth_bytes"] < 200e6
        assert each["n"] == sum(each["labels"]) - 1000 == 50_000_000
        assert each["images_drawn"] == 2 * 512
    assert list(tmp_path.iterdir()) == [tmp_path / "r"]
