"""The median of files against torch.median of their stacked tensors; what is read, kept and left behind."""

import functools
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from buttress.errors import CheckpointError, StorageError
from buttress.kernels import blocks, combine_files, file_work, median_files, use_backend
from buttress.kernels.averages import MEAN, trimmed_mean_reduction
from buttress.kernels.backend import operation
from buttress.storage.tensor_file import TensorFile, open_tensor_files

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
NAMES = {"conv.weight": (4, 3, 3, 3), "scalar": (), "empty": (0, 2), "bn.bias": (5,), "long": (1_003,)}


def version(number: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(number)
    tensors = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(DTYPES[k % 4])
        for k, (name, shape) in enumerate(NAMES.items())
    }
    return {**tensors, "bn.count": torch.tensor(number), "mask": torch.tensor([True, False])}


def saved(folder: Path, n: int) -> list[Path]:
    paths = [folder / f"{number}.safetensors" for number in range(n)]
    for number, path in enumerate(paths):
        save_file(version(number), path)
    return paths


def stacked(n: int, name: str) -> Tensor:
    return torch.stack([version(number)[name] for number in range(n)])


def assert_medians(actual: dict[str, Tensor], n: int) -> None:
    assert set(actual) == {*NAMES, "bn.count", "mask"}
    for name in NAMES:
        assert torch.equal(actual[name], stacked(n, name).median(0).values), name
        assert actual[name].dtype == version(0)[name].dtype
    assert actual["bn.count"].item() == n - 1
    assert actual["mask"].tolist() == [True, False]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["torch", "auto"])
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    with use_backend(request.param):
        yield


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


# Values


@pytest.mark.parametrize("n", [1, 2, 3, 8, 35])
def test_the_median_of_files_is_that_of_their_tensors(tmp_path: Path, n: int, backend: None, threads: int):
    paths = saved(tmp_path, n)
    assert_medians(median_files(paths), n)
    assert median_files(paths, tmp_path / "out.safetensors") == {}
    assert_medians(load_file(tmp_path / "out.safetensors"), n)


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("budget", [4_096, 10_000, 1 << 20])
def test_a_small_budget_gives_the_same_in_smaller_blocks(
    tmp_path: Path, n: int, budget: int, threads: int, monkeypatch: pytest.MonkeyPatch
):
    read: list[int] = []
    read_rows = operation("read_rows")

    def counted(descriptors: Sequence[int], offsets: Sequence[int], rows: Sequence[memoryview]) -> int:
        read.extend(map(len, rows))
        return read_rows(descriptors, offsets, rows)

    monkeypatch.setattr(file_work, "operation", lambda name: counted)
    paths = saved(tmp_path, n)
    assert_medians(median_files(paths, budget=budget), n)
    floating = sum(tensor.nbytes for tensor in version(0).values() if tensor.is_floating_point())
    assert sum(read) == n * floating + 8 + 2  # every value once; integers from the last file only
    assert n * max(read) < budget
    assert (max(read) < 4 * 1_003) == (budget < 1 << 20)  # several blocks, or one


def test_rows_are_filled_from_their_files_and_offsets(tmp_path: Path, backend: None):
    paths = saved(tmp_path, 3)
    rows = [bytearray(size) for size in (100, 1, 0)]
    with open_tensor_files(paths) as opened:
        files_of = [file.fileno() for file in opened]
        assert operation("read_rows")(files_of, [9, 0, 4], [memoryview(row) for row in rows]) == 3
    contents = [path.read_bytes() for path in paths]
    assert rows == [contents[0][9:109], contents[1][:1], b""]


def test_a_row_beyond_the_end_of_its_file_is_not_filled(tmp_path: Path, backend: None):
    paths = saved(tmp_path, 3)
    rows, size = [bytearray(b"?" * 20) for _ in paths], paths[1].stat().st_size
    with open_tensor_files(paths) as opened:
        files_of = [file.fileno() for file in opened]
        assert operation("read_rows")(files_of, [0, size - 7, 0], [memoryview(row) for row in rows]) == 1
    assert rows[0] == paths[0].read_bytes()[:20]
    assert rows[2] == b"?" * 20


def test_rows_begin_at_different_offsets_in_their_pages():
    rows = blocks.BlockRows(60, 4_096)
    block = blocks.Block("x", torch.float32, 0, 1_024, 4_096, ahead=False)
    _, values = rows.shaped(block)
    assert len({value.data_ptr() % 4_096 for value in values}) == 61
    assert all(value.data_ptr() % 64 == values[0].data_ptr() % 64 for value in values)


def test_files_may_hold_their_tensors_in_another_order(tmp_path: Path):
    values = {"a": torch.ones(3), "b": torch.zeros(4, dtype=torch.float64)}
    save_file(values, tmp_path / "a")
    # safetensors puts the wider dtype first; the other order is written by hand
    places = {"a": ("F32", 3, 0, 12), "b": ("F64", 4, 12, 44)}
    header = json.dumps(
        {name: {"dtype": t, "shape": [n], "data_offsets": [start, end]} for name, (t, n, start, end) in places.items()}
    ).encode()
    data = values["a"].numpy().tobytes() + values["b"].numpy().tobytes()
    (tmp_path / "b").write_bytes(len(header).to_bytes(8, "little") + header + data)
    actual = median_files([tmp_path / "a", tmp_path / "b"])
    assert actual["a"].tolist() == [1] * 3
    assert actual["b"].tolist() == [0] * 4


def test_nan_in_a_file_is_nan_in_the_result(tmp_path: Path):
    for number, value in enumerate([1.0, torch.nan, 3.0]):
        save_file({"w": torch.tensor([value, 2.0])}, tmp_path / f"{number}")
    actual = median_files([tmp_path / f"{number}" for number in range(3)])["w"]
    assert actual.isnan().tolist() == [True, False]


def added(stack: Tensor) -> Tensor:
    """The sum over the first dimension in float64, one after another."""
    return functools.reduce(torch.add, stack.double())


def test_the_mean_is_taken_in_float64_and_rounded_once(tmp_path: Path):
    paths = saved(tmp_path, 7)
    actual = combine_files(paths, MEAN)
    for name in NAMES:
        assert torch.equal(actual[name], added(stacked(7, name)).div(7).to(actual[name].dtype)), name


@pytest.mark.parametrize(("n", "cut"), [(3, 1), (8, 1), (9, 3)])
def test_the_trimmed_mean_leaves_out_the_ends(tmp_path: Path, n: int, cut: int):
    actual = combine_files(saved(tmp_path, n), trimmed_mean_reduction(cut))
    for name in NAMES:
        kept = stacked(n, name).sort(dim=0).values[cut : n - cut]
        assert torch.equal(actual[name], added(kept).div(n - 2 * cut).to(actual[name].dtype)), name


def test_the_trimmed_mean_keeps_nan(tmp_path: Path):
    for number, value in enumerate([1.0, torch.nan, 3.0, 4.0]):
        save_file({"w": torch.tensor([value, 2.0])}, tmp_path / f"{number}")
    actual = combine_files([tmp_path / f"{number}" for number in range(4)], trimmed_mean_reduction(1))["w"]
    assert actual.isnan().tolist() == [True, False]


def test_a_prefix_chooses_tensors_and_is_left_out(tmp_path: Path):
    for number in range(3):
        save_file({"state.model.w": torch.full((2,), number + 0.5), "rng": torch.zeros(number)}, tmp_path / f"{number}")
    actual = combine_files([tmp_path / f"{number}" for number in range(3)], MEAN, prefix="state.model.")
    assert {name: tensor.tolist() for name, tensor in actual.items()} == {"w": [1.5, 1.5]}


# Integers


def test_equal_integers_are_asked_for_and_a_difference_is_named(tmp_path: Path):
    paths = saved(tmp_path, 3)
    with pytest.raises(
        CheckpointError, match=rf"{paths[1]}: integer tensor 'bn.count' differs from that of {paths[0]}"
    ):
        median_files(paths, tmp_path / "out", integers="equal")
    assert "out" not in names(tmp_path)
    assert median_files([paths[2], paths[2]], integers="equal")["bn.count"].item() == 2


# Progress


@pytest.mark.parametrize("integers", ["last", "equal"])
def test_progress_reaches_the_total_without_going_back(tmp_path: Path, threads: int, integers: str):
    save_file(version(3), tmp_path / "a")
    seen: list[tuple[int, int]] = []
    paths = [tmp_path / "a"] * 4
    median_files(paths, integers=integers, budget=20_000, progress=lambda *now: seen.append(now))
    floating = sum(tensor.nbytes for tensor in version(3).values() if tensor.is_floating_point())
    total = 4 * floating + (8 + 2) * (4 if integers == "equal" else 1)
    assert {whole for _, whole in seen} == {total}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == total
    assert len(seen) > 4


def test_an_error_in_the_callback_stops_everything_and_leaves_nothing(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(blocks, "BLOCK_SIZE", 2)  # over 500 blocks, and still a worker for every thread
    paths = saved(tmp_path, 3)
    calls = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        median_files(paths, tmp_path / "out", progress=stop)
    assert len(calls) < 250
    assert names(tmp_path) == [path.name for path in paths]


@pytest.mark.parametrize("n", [1, 7, 60])
@pytest.mark.parametrize("budget", [1 << 16, 1 << 22, 64 << 20, 1 << 30])
@pytest.mark.parametrize("scratch", [0, 500])
def test_all_workers_together_keep_within_the_budget(n: int, budget: int, scratch: int, threads: int):
    workers, size = blocks.share_of(budget, n, 4, scratch)
    assert 1 <= workers <= threads
    rows = blocks.BlockRows(n, size * 4)
    held = sum(row.nbytes for row in rows._rows)
    assert 1 <= size <= 1 << 15
    assert workers * (held + scratch * size) <= budget
    assert size == 1 << 15 or budget < held + (n + 1) * 128 + (size + 2) * (4 * (n + 1) + scratch)  # no less than fits


# Refusals


def wrong_names(folder: Path) -> None:
    save_file({"conv.weight": torch.zeros(4, 3, 3, 3)}, folder / "1.safetensors")


def extra_name(folder: Path) -> None:
    save_file({**version(1), "more": torch.zeros(1)}, folder / "1.safetensors")


def wrong_shape(folder: Path) -> None:
    save_file({**version(1), "bn.bias": version(1)["bn.bias"][:4].clone()}, folder / "1.safetensors")


def wrong_dtype(folder: Path) -> None:
    save_file({**version(1), "long": version(1)["long"].float()}, folder / "1.safetensors")


def truncated(folder: Path) -> None:
    path = folder / "1.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


BAD = {
    "names": (wrong_names, r"1.safetensors lacks 'bn.bias', unlike .*0.safetensors"),
    "extra": (extra_name, r"1.safetensors also holds 'more', unlike .*0.safetensors"),
    "shape": (wrong_shape, r"1.safetensors: 'bn.bias' has shape \(4,\), torch.bfloat16, expected shape \(5,\)"),
    "dtype": (
        wrong_dtype,
        r"1.safetensors: 'long' is torch.float32, expected torch.float64 as in .*0.safetensors; .*float64",
    ),
    "truncated": (truncated, r"1.safetensors cannot be read: its header promises .* the file is truncated"),
    "missing": (lambda folder: (folder / "1.safetensors").unlink(), r"1.safetensors does not exist"),
    "text": (lambda folder: (folder / "1.safetensors").write_text("hello"), r"1.safetensors cannot be read: .*5 bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_do_not_fit_are_named_and_nothing_is_written(tmp_path: Path, case: str):
    paths = saved(tmp_path, 3)
    damage, message = BAD[case]
    damage(tmp_path)
    before = names(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        median_files(paths, tmp_path / "out")
    assert names(tmp_path) == before


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = saved(tmp_path, 3)

    def cut(self: TensorFile, *_: int) -> None:  # after the headers have been checked
        if self.path == paths[1]:
            with paths[1].open("rb+") as stream:
                stream.truncate(1_500)

    monkeypatch.setattr(TensorFile, "will_need", cut)
    with pytest.raises(CheckpointError, match=rf"{paths[1]} cannot be read: it has become shorter"):
        median_files(paths, tmp_path / "out")
    assert "out" not in names(tmp_path)


@pytest.mark.parametrize("link", [False, True])
def test_the_output_may_be_no_input(tmp_path: Path, link: bool):
    paths = saved(tmp_path, 2)
    out = tmp_path / "link" if link else paths[1]
    if link:
        out.symlink_to(paths[1])
    content = paths[1].read_bytes()
    with pytest.raises(ValueError, match=f"{out} is one of the files to read; choose another file"):
        median_files(paths, out)
    assert paths[1].read_bytes() == content


def test_wrong_arguments_are_refused(tmp_path: Path):
    paths = saved(tmp_path, 2)
    with pytest.raises(ValueError, match="expected at least one file, got none"):
        median_files([])
    with pytest.raises(ValueError, match="even: expected lower, upper or mean, got 'low'"):
        median_files(paths, even="low")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"budget: expected at least \d+ bytes for 2 files, got 100"):
        median_files(paths, budget=100)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files of at most 10,000 bytes, as when the disk fills up in the middle of a write."""
    actual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, actual)


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, threads: int, request: pytest.FixtureRequest):
    for number in range(3):
        save_file({"w": torch.randn(40_000)}, tmp_path / f"{number}")
    (tmp_path / "out").write_text("old")
    request.getfixturevalue("small_disk")
    with pytest.raises(StorageError, match=r"cannot write .*out: .*free some space"):
        median_files([tmp_path / f"{number}" for number in range(3)], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "old"
    assert names(tmp_path) == ["0", "1", "2", "out"]


PEAK = """
import re, sys
from pathlib import Path
from buttress.kernels import median_files
def kib(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
folder, budget = Path(sys.argv[1]), int(sys.argv[2])
paths = sorted(folder.glob("[0-9]*"))
median_files(paths[:1], folder / "out", budget=4096)  # loads what it needs
Path("/proc/self/clear_refs").write_text("5")  # the peak begins again at the size now
before = kib("VmRSS")
median_files(paths, folder / "out", budget=budget)
print(kib("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc to measure the peak")
@pytest.mark.parametrize(("budget", "kind"), [(1 << 20, "safetensors"), (8 << 20, "safetensors"), (1 << 20, "pth")])
def test_memory_stays_within_the_budget(tmp_path: Path, budget: int, kind: str):
    """In a process of its own: 12 files of 4 MB."""
    for number in range(12):
        (torch.save if kind == "pth" else save_file)({"w": torch.randn(1_000_000)}, tmp_path / f"{number}.{kind}")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path), str(budget)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) << 10 < budget + (4 << 20)  # 4 MiB for Python's and torch's own; the files hold 48 MB
