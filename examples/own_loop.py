"""PGD adversarial training with MEAT in a plain PyTorch loop: digits from scikit-learn, a small network.

    python examples/own_loop.py

The model, the optimizer and the loader are the user's own; ``engine.step`` takes the place of forward, backward and
``optimizer.step()``. MEAT keeps the weights at the ends of the epochs from the fifth on, and gives their median as a
track.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from buttress import Batch, Engine, Split, ThreatModel, evaluate

torch.manual_seed(0)
digits = load_digits()
x, y = torch.tensor(digits.images / 16).float().unsqueeze(1), torch.tensor(digits.target)
loader = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=100, shuffle=True)
test = Split(x[1400:], y[1400:])
model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
defenses = [{"pgd": {"steps": 10, "step_size": "1/40"}}, {"meat": {"start": 4, "history": "memory"}}]
engine = Engine(model, optimizer, defenses, threat := ThreatModel("linf", "1/10"))

for _ in range(12):
    for images, labels in loader:
        engine.step(images, labels)
    engine.end_epoch()

attack = {"pgd": {"steps": 20, "step_size": "1/80"}}
scores = {"live": evaluate(model, test, attack, threat)}
for track in engine.tracks():
    with engine.track(track, lambda: (Batch(*pair) for pair in loader)) as ensemble:
        scores[track.name] = evaluate(ensemble, test, attack, threat)
for name, score in scores.items():
    print(f"{name}: clean {100 * score.clean:.1f} %, PGD-20 {100 * score.robust:.1f} %, n = {score.n}")
