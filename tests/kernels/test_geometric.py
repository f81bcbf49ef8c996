"""The geometric median against closed forms: a line, the Fermat point, a point that is the median itself."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize

from buttress.errors import CheckpointError
from buttress.kernels import blocks, geometric_median_files
from buttress.kernels.geometric import geometric_weights


def median_of(points: object, **settings: float) -> np.ndarray:
    """By the distances alone, then the weighted mean."""
    points = np.asarray(points, dtype=np.float64)
    squares = ((points[:, None] - points) ** 2).sum(-1)
    return np.array(geometric_weights(squares, **settings).weights) @ points


@pytest.mark.parametrize("places", [[3.0], [1, 5, 2], [0, 0.1, 0.3, 7, 100], [4, 4, 4], [1, 2, 2, 9, 9]])
def test_on_a_line_it_is_the_median(places: list[float]):
    direction = np.array([3.0, -4.0, 12.0])
    assert median_of(np.outer(places, direction)) == pytest.approx(np.median(places) * direction)


def test_of_two_it_is_the_first_and_of_four_on_a_line_a_middle_one():
    assert median_of([[1.0, 2], [3, 7]]).tolist() == [1, 2]
    assert median_of([[0.0], [9], [5], [2]]).tolist() == [5]


def fermat_point(corners: np.ndarray) -> np.ndarray:
    """Barycentric coordinates of the first isogonic centre: a / sin(A + 60 degrees)."""
    sides = [np.linalg.norm(corners[(k + 1) % 3] - corners[(k + 2) % 3]) for k in range(3)]
    a, b, c = sides
    angles = [math.acos((y * y + z * z - x * x) / (2 * y * z)) for x, y, z in ((a, b, c), (b, c, a), (c, a, b))]
    weights = [side / math.sin(angle + math.pi / 3) for side, angle in zip(sides, angles, strict=True)]
    return np.array(weights) @ corners / sum(weights)


@pytest.mark.parametrize(
    "corners", [[[0, 0], [4, 0], [1, 3]], [[0, 0], [1, 0], [0.5, 0.9]], [[0, 0], [1e4, 0], [5e3, 3e3]]]
)
def test_of_a_triangle_it_is_the_fermat_point(corners: list[list[float]]):
    corners = np.array(corners, dtype=float)
    assert median_of(corners, tolerance=1e-12) == pytest.approx(fermat_point(corners), rel=1e-6)


def test_of_a_triangle_with_a_wide_angle_it_is_that_corner():
    assert median_of([[-5.0, 0], [0, 1], [5, 0]]).tolist() == [0, 1]  # 157 degrees


def test_a_point_given_several_times_counts_as_often():
    assert median_of([[0.0, 0], [4, 0], [1, 3], [4, 0], [4, 0]]).tolist() == [4, 0]


@pytest.mark.parametrize("n", [4, 7, 20])
def test_the_sum_of_distances_exceeds_the_least_by_no_more_than_said(n: int):
    points = np.random.default_rng(n).normal(size=(n, 6))
    points[-1] *= 1e4  # an outlier

    def total(y: np.ndarray) -> float:
        return float(np.linalg.norm(points - y, axis=1).sum())

    least = minimize(total, np.median(points, axis=0), method="BFGS", options={"gtol": 1e-9}).fun
    squares = ((points[:, None] - points) ** 2).sum(-1)
    for tolerance in (1e-2, 1e-9):
        result = geometric_weights(squares, tolerance)
        assert result.excess <= tolerance
        assert total(np.array(result.weights) @ points) <= least * (1 + tolerance) + 1e-9
    few = geometric_weights(squares, 1e-12, iterations=2)
    assert few.iterations == 2
    assert few.excess > 1e-12


def saved(folder: Path, points: list[list[float]]) -> list[Path]:
    paths = [folder / f"{number}.safetensors" for number in range(len(points))]
    for number, (path, point) in enumerate(zip(paths, points, strict=True)):
        values = torch.tensor(point, dtype=torch.float64)
        save_file({"a": values[:1].clone(), "b": values[1:].clone(), "count": torch.tensor(number)}, path)
    return paths


def test_of_files_all_tensors_are_one_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    points = np.random.default_rng(0).normal(size=(5, 5_001))
    paths = saved(tmp_path, points.tolist())
    expected = median_of(points)
    for size in (1 << 15, 700):
        monkeypatch.setattr(blocks, "BLOCK_SIZE", size)
        result = geometric_median_files(paths)
        assert torch.cat([result["a"], result["b"]]).numpy() == pytest.approx(expected, abs=1e-7)
        assert result["count"].item() == 4
    assert geometric_median_files(paths, tmp_path / "out.safetensors", dtype=torch.float32) == {}
    assert torch.equal(load_file(tmp_path / "out.safetensors")["b"], result["b"].float())


def test_a_file_that_is_the_median_comes_back_bit_for_bit(tmp_path: Path):
    paths = saved(tmp_path, [[1.0, -0.0, 3], [0.1, -0.0, 0.3], [-7, -0.0, -4]])
    middle = geometric_median_files(paths)["b"]
    assert middle.numpy().tobytes() == load_file(paths[1])["b"].numpy().tobytes()


def test_a_file_without_distances_is_named(tmp_path: Path):
    paths = saved(tmp_path, [[1.0, 2], [1, math.nan], [1, 1]])
    with pytest.raises(CheckpointError, match=rf"{paths[1]} holds values that are not finite.*leave it out"):
        geometric_median_files(paths, tmp_path / "out")
    assert not (tmp_path / "out").exists()
