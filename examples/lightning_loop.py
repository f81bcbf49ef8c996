"""PGD adversarial training with MEAT in a Lightning loop: digits from scikit-learn, stopped halfway and resumed.

    pip install lightning
    python examples/lightning_loop.py

Optimization is manual, because ``engine.step`` is the whole training step. The engine is made when training starts: by
then the model is on its device, and Lightning's optimizer, which counts the steps, is there. The engine's state (of the
plugins, and how far it is) travels in Lightning's checkpoint as tensors and plain values.
"""

import tempfile
from pathlib import Path

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from buttress import Batch, Engine, Split, ThreatModel, evaluate

digits = load_digits()
x, y = torch.tensor(digits.images / 16).float().unsqueeze(1), torch.tensor(digits.target)
test = Split(x[1400:], y[1400:])
threat = ThreatModel("linf", "1/10")
defenses = [{"pgd": {"steps": 10, "step_size": "1/40"}}, {"meat": {"start": 2, "history": "memory"}}]


class RobustDigits(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization, self.saved = False, None
        self.net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))

    def train_dataloader(self):  # shuffled by the epoch's number, so that a resumed run sees the same batches
        order = torch.randperm(1400, generator=torch.Generator().manual_seed(self.current_epoch))
        return DataLoader(TensorDataset(x[order], y[order]), batch_size=100)

    def configure_optimizers(self):
        return torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9)

    def on_train_start(self):
        self.engine = Engine(self.net, self.optimizers(), defenses, threat)
        if self.saved:
            self.engine.load_state_dict(self.saved)

    def training_step(self, batch, _):
        losses, _ = self.engine.step(*batch)
        self.log("loss", losses.mean())

    def on_train_epoch_end(self):
        self.engine.end_epoch()

    def on_save_checkpoint(self, checkpoint):
        checkpoint["engine"] = self.engine.state_dict()

    def on_load_checkpoint(self, checkpoint):
        self.saved = checkpoint["engine"]


def train(epochs, resume=None):
    torch.manual_seed(0)
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    trainer = lightning.Trainer(max_epochs=epochs, reload_dataloaders_every_n_epochs=1, accelerator="cpu", **quiet)
    trainer.fit(module := RobustDigits(), ckpt_path=resume, weights_only=True)
    return trainer, module


_, whole = train(6)
with tempfile.TemporaryDirectory() as folder:
    half, _ = train(3)
    half.save_checkpoint(Path(folder, "half.ckpt"))
    trainer, resumed = train(6, resume=Path(folder, "half.ckpt"))
same = all(a.equal(b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))
print(f"{trainer.global_step} steps; resumed as if never stopped, to the last bit: {same}")

attack = {"pgd": {"steps": 20, "step_size": "1/80"}}
scores = {"live": evaluate(resumed.net, test, attack, threat)}
for track in resumed.engine.tracks():
    with resumed.engine.track(track, lambda: (Batch(*pair) for pair in resumed.train_dataloader())) as ensemble:
        scores[track.name] = evaluate(ensemble, test, attack, threat)
for name, score in scores.items():
    print(f"{name}: clean {100 * score.clean:.1f} %, PGD-20 {100 * score.robust:.1f} %, n = {score.n}")
