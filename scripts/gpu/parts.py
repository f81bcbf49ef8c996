"""The parts of the check, in their order: what each runs on a GPU, in how many seconds, and its stand-in on the CPU."""

from typing import NamedTuple

SECONDS = 540
"""Time of everything together."""
PREPARATION = 25
"""Seconds of it for packages and facts, before the first part."""


class Part(NamedTuple):
    """A script that is run.

    Args:
        name: name of the part and of its file of results.
        title: subject of the part.
        seconds: time that it has on a GPU, besides what the parts before it left over.
        script: path of the script below the repository.
        arguments: arguments on a GPU.
        dry: arguments of the stand-in on the CPU, or the reason why there is none.
    """

    name: str
    title: str
    seconds: int
    script: str
    arguments: str
    dry: str

    def command(self, *, dry: bool) -> list[str]:
        """The path of the script and its arguments."""
        return [self.script, *(self.dry if dry else self.arguments).split()]

    def without_stand_in(self) -> str:
        """The reason why nothing stands in for the part on the CPU, or an empty text."""
        return "" if self.dry.startswith("--") else self.dry


PARTS = (
    Part(
        "build", "the extension with its CUDA part", 120, "scripts/gpu/build.py", "", "nothing is built without a GPU"
    ),
    Part("tests", "the tests that need a GPU", 50, "scripts/gpu/suite.py", "--device cuda", "--device cpu"),
    Part(
        "waits",
        "steps of every built-in plugin in which the host may not wait for the GPU",
        25,
        "scripts/gpu/waits.py",
        "--device cuda",
        "--device cpu --plugins pgd rwp mixup ema",
    ),
    Part(
        "layouts",
        "input gradients in channels_last",
        15,
        "scripts/gpu/layouts.py",
        "--device cuda",
        "--device cpu",
    ),
    Part(
        "median",
        "the compiled median",
        20,
        "benchmarks/bench_median.py",
        "--device cuda --n 3 9 16 31 60 61 120 --size 16777216 --rounds 7",
        "--device cpu --n 3 --size 4096 --rounds 1",
    ),
    Part(
        "perturb",
        "weight perturbations",
        15,
        "benchmarks/bench_perturb.py",
        "--device cuda --rounds 31",
        "--device cpu --quick --rounds 1",
    ),
    Part(
        "lsc",
        "the masked cross-entropy",
        10,
        "benchmarks/bench_lsc.py",
        "--device cuda --rounds 30",
        "--device cpu --shapes 64x10 --rounds 1",
    ),
    Part(
        "hooks",
        "the engine's overhead",
        20,
        "benchmarks/bench_hooks.py",
        "--device cuda --rounds 10 --overhead-rounds 7",
        "--device cpu --quick --rounds 1 --overhead-rounds 1",
    ),
    Part(
        "optimizer",
        "the optimizer's step",
        15,
        "benchmarks/bench_optimizer.py",
        "--device cuda --rounds 31",
        "--device cpu --quick --rounds 1",
    ),
    Part(
        "transforms",
        "transforms of batches",
        10,
        "benchmarks/bench_transforms.py",
        "--device cuda --rounds 31",
        "--device cpu --batch 8 --rounds 1",
    ),
    Part(
        "step",
        "the training step of each method over that of its public code",
        45,
        "benchmarks/bench_step.py",
        "--device cuda --batch 128 --rounds 3 --warmup 1 --settings float32 channels_last tf32 bf16 bf16-attack graphs "
        "bf16-graphs",
        "--device cpu --quick --rounds 1 --warmup 0 --stacks pgd-at --settings float32 bf16",
    ),
    Part(
        "images",
        "images a second of PreActResNet-18 and WRN-34-10, eager and by CUDA graphs",
        70,
        "benchmarks/bench_images.py",
        "--device cuda --models preact_resnet18 wrn_34_10 --precisions bf16 tf32 float32 --compile off graphs "
        "--limit 65",
        "--device cpu --models preact_tiny --precisions float32 bf16 --batch 4 --steps 1 --rounds 1 --warmup 1",
    ),
    Part(
        "compile",
        "the same, compiled",
        95,
        "benchmarks/bench_images.py",
        "--device cuda --models preact_resnet18 wrn_34_10 --precisions bf16 float32 --formats channels_last "
        "--compile model --warmup 3",
        "--device cpu --models preact_tiny --precisions bf16 --formats channels_last --compile model --limit 0",
    ),
)
