"""The median of checkpoints that any training script has left, batch norm measured afresh, evaluated under attack.

    python examples/offline_median.py epoch_*.pth last.safetensors --output median.safetensors

``.pth`` files go through torch's restricted loader, which runs no code; ``.safetensors`` hold none. The network and the
data below are those of the checkpoints: put yours in their place. Files of buttress's own runs need no script:
``buttress ensemble``.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

from buttress import Split, ThreatModel, evaluate
from buttress.kernels import median
from buttress.nn import load_weights, reestimate


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 10))


def data() -> tuple[Split, Split]:
    digits = load_digits()
    x, y = torch.tensor(digits.images / 16).float().unsqueeze(1), torch.tensor(digits.target)
    return Split(x[:1400], y[:1400]), Split(x[1400:], y[1400:])


def read(path: Path) -> dict[str, torch.Tensor]:
    """The network's weights out of a file, under whatever key, and without prefixes like ``DataParallel``'s."""
    model = network()
    load_weights(model, path)  # every name and shape, or a message that says which
    return model.state_dict()


def middle(tensors: list[torch.Tensor]) -> torch.Tensor:
    """The median, element by element, the lower one of an even number; counters are those of the last file."""
    return median(tensors) if tensors[0].is_floating_point() else tensors[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description="The median of checkpoints of one network.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()

    model, (train, test) = network(), data()
    threat, attack = ThreatModel("linf", "1/20"), {"pgd": {"steps": 20, "step_size": "1/160"}}

    def score(name: str) -> None:
        result = evaluate(model, test, attack, threat)
        print(f"{name}: clean {100 * result.clean:.1f} %, PGD-20 {100 * result.robust:.1f} %, n = {result.n}")

    checkpoints = [read(path) for path in options.files]
    for path, weights in zip(options.files, checkpoints, strict=True):
        model.load_state_dict(weights)
        score(path.name)
    model.load_state_dict({name: middle([each[name] for each in checkpoints]) for name in model.state_dict()})
    score("median, batch norm too")
    reestimate(model, train.x.split(100))
    score("median, batch norm measured afresh")
    save_file(model.state_dict(), options.output)


if __name__ == "__main__":
    main()
