"""Files and words from a stranger, made to run code, to take memory or to reach out of their folder: all refused."""

import io
import json
import os
import pickle
import random
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from buttress.cli import main
from buttress.config.file import load_config
from buttress.errors import ButtressError
from buttress.kernels import median_files
from buttress.nn.loading import load_weights
from buttress.storage.history import DiskHistory
from buttress.storage.reading import read_json
from buttress.storage.run_folder import planned_folder
from buttress.training.assembly import assemble
from buttress.training.checkpoint_file import load_checkpoint
from buttress.training.dataset import load_data
from buttress.training.existing import existing_folder

from .report import Section

CANARY = "canary"
"""The file that a payload makes when its code has run."""

SECONDS = 1.0
"""What a refusal may take."""

Attempt = Callable[[], object]


class Bomb:
    """Touches the canary when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


@dataclass(frozen=True)
class Payload:
    """One attempt.

    Args:
        prepare: writes files into the working folder and returns what a user would then do.
        reason: what the refusal says.
    """

    prepare: Callable[[], Attempt]
    reason: str


def _weights(name: str, write: Callable[[Path], object]) -> Callable[[], Attempt]:
    """``write`` makes the weights file ``name``, from which a model is to start."""

    def prepare() -> Attempt:
        path = Path(name)
        write(path)
        return lambda: load_weights(torch.nn.Linear(2, 2), path)

    return prepare


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": Bomb()}, protocol=2))


def _saved(value: Any, **options: Any) -> Callable[[Path], object]:
    return lambda path: torch.save(value, path, **options)


def _legacy_tar(path: Path) -> None:
    """The format of torch before 0.1.10: a tar of pickles."""
    with tarfile.open(path, "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(Bomb(), protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _zip_of_pickle(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(), protocol=2))
        archive.writestr("archive/version", "3\n")


def _safetensors(header: Any, data: bytes = b"\0" * 16, length: int | None = None) -> Callable[[Path], object]:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return lambda path: path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def _entry(start: int, stop: int, shape: list[int] | None = None) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape or [(stop - start) // 4], "data_offsets": [start, stop]}


OVERLAPPING = {"weight": _entry(0, 16, [2, 2]), "bias": _entry(8, 16)}
HUGE = {"weight": _entry(0, 1 << 60, [1 << 29, 1 << 29]), "bias": _entry(1 << 60, (1 << 60) + 8)}


def _median_of(write: Callable[[Path], object]) -> Callable[[], Attempt]:
    """The same headers at the reader of ``buttress ensemble``, which is our own."""

    def prepare() -> Attempt:
        path = Path("m.safetensors")
        write(path)
        return lambda: median_files([path, path])

    return prepare


NET = "{name: mlp, hidden: [2]}"
CONFIG = """
name: payload
data: {name: circles, per_class: 8, batch_size: 4}
model: {name: mlp, hidden: [2]}
threat: {norm: linf, eps: 1/10, box: null}
plugins: [fgsm]
optimizer: {lr: 0.1}
epochs: 1
device: cpu
"""


def _config(text: str | bytes) -> Callable[[], Attempt]:
    def prepare() -> Attempt:
        path = Path("payload.yaml")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return lambda: _assembled(path)

    return prepare


def _assembled(path: Path) -> None:
    file = load_config(path)
    data, settings = load_data(file)
    assemble(file, data, settings, None)


def _alias_bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(lines)


def _npz(**arrays: Any) -> Callable[[], Attempt]:
    def prepare() -> Attempt:
        np.savez("payload.npz", **arrays)
        Path("payload.yaml").write_text(CONFIG.replace("circles, per_class: 8", "npz, path: payload.npz"))
        return lambda: _assembled(Path("payload.yaml"))

    return prepare


def _npz_that_promises_a_terabyte() -> Attempt:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 37,)})
    with zipfile.ZipFile("payload.npz", "w") as archive:
        archive.writestr("x_train.npy", header.getvalue())
    Path("payload.yaml").write_text(CONFIG.replace("circles, per_class: 8", "npz, path: payload.npz"))
    return lambda: _assembled(Path("payload.yaml"))


def _run_folder() -> Path:
    run = Path("run")
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text(CONFIG)
    (run / "manifest.json").write_text("{}")
    return run


def _link(name: str) -> Callable[[], Attempt]:
    """A run folder in which ``name`` is a link to something of the user's."""

    def prepare() -> Attempt:
        run = _run_folder()
        outside = Path("home")
        outside.mkdir()
        (outside / "precious").write_text("precious")
        place = run / name
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(Path("..", *[".."] * (len(place.parts) - 2), "home", "" if name == "weights" else "precious"))
        return lambda: existing_folder(run)

    return prepare


def _history_elsewhere(name: str) -> Callable[[], Attempt]:
    def prepare() -> Attempt:
        save_file({"w": torch.zeros(3)}, "elsewhere.safetensors")
        history = DiskHistory(Path("run/history/meat"))
        state = {"kind": "disk", "files": [{"name": name, "sha256": "0" * 64}]}
        return lambda: history.load_state_dict(state)

    return prepare


def _checkpoint(text: str) -> Callable[[], Attempt]:
    def prepare() -> Attempt:
        path = Path("step-00000001.json")
        path.write_text(text)
        return lambda: load_checkpoint(path)

    return prepare


def _json(text: str) -> Callable[[], Attempt]:
    def prepare() -> Attempt:
        Path("payload.json").write_text(text)
        return lambda: read_json(Path("payload.json"))

    return prepare


class RefusalError(ButtressError):
    """The command has refused with exit code 2."""


def _command(*words: str) -> Callable[[], Attempt]:
    def attempt() -> None:
        Path("payload.yaml").write_text(CONFIG)
        if main([word.format(config="payload.yaml") for word in words]) == 2:
            raise RefusalError("exit 2")

    return lambda: attempt


RUN_NAME = "letters, digits, . _ - (no path)"

PAYLOADS: dict[str, Payload] = {
    "a pickle that runs code, as .pth": Payload(_weights("w.pth", _pickle), "restricted loader"),
    "code inside torch.save": Payload(_weights("w.pth", _saved({"weight": Bomb()})), "restricted loader"),
    "code deep inside torch.save": Payload(
        _weights("w.pth", _saved({"state_dict": {"a": [{"b": (Bomb(),)}]}})), "restricted loader"
    ),
    "code in the legacy format of torch.save": Payload(
        _weights("w.pth", _saved({"w": Bomb()}, _use_new_zipfile_serialization=False)), "restricted loader"
    ),
    "code in torch's legacy tar": Payload(_weights("w.pt", _legacy_tar), "restricted loader"),
    "code in a bare zip of a pickle": Payload(_weights("w.pth", _zip_of_pickle), "restricted loader"),
    "a whole pickled module": Payload(_weights("w.pth", _saved(torch.nn.Linear(2, 2))), "only tensors are taken"),
    "a pickle named .safetensors": Payload(_weights("w.safetensors", _pickle), "cannot be read"),
    "a safetensors header of an exabyte": Payload(
        _weights("w.safetensors", _safetensors(b"{}", length=1 << 60)), "cannot be read"
    ),
    "safetensors that promise an exabyte": Payload(_weights("w.safetensors", _safetensors(HUGE)), "cannot be read"),
    "safetensors that overlap": Payload(_weights("w.safetensors", _safetensors(OVERLAPPING)), "cannot be read"),
    "a safetensors header nested 100,000 deep": Payload(
        _weights("w.safetensors", _safetensors(b"[" * 100_000)), "cannot be read"
    ),
    "ensemble of a header of an exabyte": Payload(_median_of(_safetensors(b"{}", length=1 << 60)), "cannot hold"),
    "ensemble of files that promise an exabyte": Payload(_median_of(_safetensors(HUGE)), "cannot be read"),
    "ensemble of tensors that overlap": Payload(_median_of(_safetensors(OVERLAPPING)), "cannot be read"),
    "ensemble of a header nested 100,000 deep": Payload(_median_of(_safetensors(b"[" * 100_000)), "cannot be read"),
    "a YAML tag that calls": Payload(_config(f"a: !!python/object/apply:os.system ['touch {CANARY}']"), "YAML tag"),
    "a YAML tag in a flow, in a key": Payload(_config("{? !!python/name:os.system : 1}"), "YAML tag"),
    "aliases that multiply to 10^12": Payload(_config(_alias_bomb()), "more than"),
    "an alias of itself": Payload(_config("a: &a [*a]"), "nested too deeply"),
    "a key given twice": Payload(_config(CONFIG + "epochs: 2\n"), "given twice"),
    "a config of 10 MB": Payload(_config(b"#" * 10_000_000), "expected at most 100,000 bytes"),
    "a config of 50,000 values": Payload(_config("a: [" + "1," * 49_900 + "1]"), "keys and values"),
    "a config nested 40,000 deep": Payload(_config("[" * 40_000), "nested too deeply"),
    "an integer of 90,000 digits": Payload(_config("epochs: " + "9" * 90_000), "characters, got 90,000"),
    "a model that is os.system": Payload(
        _config(CONFIG.replace(NET, f"{{target: 'os:system', args: {{command: touch {CANARY}}}}}")),
        "is refused",
    ),
    "a model that is a Python function": Payload(
        _config(CONFIG.replace(NET, "{target: 'subprocess:check_output', args: {args: [ls]}}")),
        "is refused",
    ),
    "weights to start from that are a pickle": Payload(
        lambda: (_pickle(Path("w.pth")), _config(CONFIG.replace("hidden: [2]", "hidden: [2], weights: w.pth"))())[1],
        "restricted loader",
    ),
    "a name that is a path": Payload(_config(CONFIG.replace("name: payload", "name: ../../payload")), "pattern"),
    "a run name that is a path": Payload(lambda: lambda: planned_folder(Path("runs"), "a", "../../b"), RUN_NAME),
    "a run name that is absolute": Payload(lambda: lambda: planned_folder(Path("runs"), "a", "/tmp/b"), RUN_NAME),
    "a run name with a NUL": Payload(lambda: lambda: planned_folder(Path("runs"), "a", "a\0b"), RUN_NAME),
    "a comparison's name that is a path": Payload(_command("compare", "{config}", "--name", "../../x"), "exit 2"),
    "an .npz of pickled objects": Payload(_npz(x_train=np.array([Bomb()], dtype=object)), "no readable .npz"),
    "an .npz that promises a terabyte": Payload(_npz_that_promises_a_terabyte, "no readable .npz"),
    "a history file outside of the folder": Payload(
        _history_elsewhere("../../../elsewhere.safetensors"), "no snapshot"
    ),
    "a run folder whose weights are a link": Payload(_link("weights"), "link out of the run folder"),
    "a run folder whose log is a link": Payload(_link("log.txt"), "link out of the run folder"),
    "a run folder with a link deep inside": Payload(_link("history/00000.safetensors"), "link out of the run folder"),
    "a checkpoint nested 100,000 deep": Payload(_checkpoint("[" * 100_000), "cannot be read"),
    "a checkpoint of a format that is a list": Payload(
        _checkpoint('{"format": [1], "sha256": ""}'), "has checkpoint format"
    ),
    "a checkpoint without its own sha256": Payload(_checkpoint('{"format": 2}'), "no checkpoint of buttress"),
    "JSON with an integer of 90,000 digits": Payload(_json("9" * 90_000), "cannot be read"),
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What became of one payload: what the refusal said, how long it took, and what was wrong with that, or nothing."""

    said: str
    seconds: float
    wrong: str


def verdict(payload: Payload) -> Verdict:
    """Try one payload in the working folder, which is empty."""
    attempt = payload.prepare()
    before = sorted(path.name for path in Path("..").iterdir())
    started, said, wrong = perf_counter(), "", ""
    try:
        attempt()
        wrong = "was not refused"
    except ButtressError as refusal:
        said = str(refusal)
        wrong = "" if payload.reason in said else f"was refused for another reason: {said}"
    except Exception as problem:  # a traceback is no refusal
        wrong = f"raised {type(problem).__name__}: {problem}"
    seconds = perf_counter() - started
    if Path(CANARY).exists():
        wrong = "ran its code"
    if sorted(path.name for path in Path("..").iterdir()) != before:
        wrong = "wrote outside of the working folder"
    return Verdict(said, seconds, wrong)


def _fastest(payload: Payload, work: Path, tries: int = 3) -> Verdict:
    """The verdict on one that is not slow, or the last; other work on the machine slows some of them."""
    here = Path.cwd()
    for _ in range(tries):
        folder = Path(tempfile.mkdtemp(dir=work)) / "inside"
        folder.mkdir()
        os.chdir(folder)
        try:
            found = verdict(payload)
        finally:
            os.chdir(here)
        if found.wrong or found.seconds <= SECONDS:
            break
    return found


def section(work: Path, rng: random.Random) -> Section:
    """Every payload once, in a folder of its own, in an order that changes with the seed."""
    lost, slowest = [], (0.0, "")
    for name in rng.sample(sorted(PAYLOADS), len(PAYLOADS)):
        found = _fastest(PAYLOADS[name], work)
        slowest = max(slowest, (found.seconds, name))
        lost += [f"{name}: {found.wrong}"] if found.wrong else []
        lost += [f"{name}: took {found.seconds:.1f} s to be refused"] if found.seconds > SECONDS else []
    return Section(
        "Hostile files and words",
        "Weights, checkpoints, configs, data and run folders from a stranger: code in pickles in every form that torch "
        "has had, headers that lie, YAML that calls or multiplies, paths and links out of the folder. Each must be "
        f"refused within {SECONDS:g} s by an error that gives the reason; code that runs touches a file.",
        [
            ("payloads", len(PAYLOADS)),
            ("refused with the reason", len(PAYLOADS) - len(lost)),
            ("canaries touched", sum("ran its code" in line for line in lost)),
            ("slowest refusal", f"{slowest[0]:.2f} s ({slowest[1]})"),
        ],
        lost,
    )
