"""The smallest task of the training loop: a perceptron with dropout on made-up clips."""

import dataclasses

import torch
from torch import nn

from tubeletx_train.common.non_finite import require_finite
from tubeletx_train.common.seeding import seed_everything
from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.config.run import RunConfig
from tubeletx_train.data import EpochSampler
from tubeletx_train.engine.loop import TrainingResult, TrainingTask, run_training
from tubeletx_train.engine.optimization import Optimization
from tubeletx_train.engine.run import Run, open_run

SAMPLES = 24


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    run: RunConfig
    optim: OptimConfig = dataclasses.field(default_factory=lambda: OptimConfig(batch_size=4, steps=12, lr=0.1))
    dropout: float = 0.5


class ToyTask(TrainingTask[torch.Tensor]):
    def __init__(self, config: ToyConfig, run: Run) -> None:
        self.config = config
        self.evaluations: list[int] = []
        self._run = run
        self._batch_size = run.ranks.share(config.optim.batch_size, "optim.batch_size")
        self.steps_per_epoch = self._sampler().batches_per_epoch
        self.total_steps = config.optim.steps or config.optim.epochs * self.steps_per_epoch
        seed_everything(config.run.seed)
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(config.dropout), nn.ReLU(), nn.Linear(8, 1))
        self.optimization = Optimization(
            self.net.to(run.device),
            config.optim,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            device=run.device,
            ranks=run.ranks,
        )

    def _sampler(self, start: int = 0, stop: int | None = None) -> EpochSampler:
        ranks = self._run.ranks
        return EpochSampler(
            SAMPLES, self._batch_size, rank=ranks.rank, world_size=ranks.world_size, start=start, stop=stop
        )

    def batches(self, start, stop):
        for batch in self._sampler(start, stop):
            yield torch.tensor([sample_id for _, sample_id in batch])

    def clips(self, batch):
        return len(batch)

    def train_step(self, batch):
        inputs = torch.sin(batch[:, None] * torch.arange(1.0, 7.0))
        rows = []
        for part in inputs.chunk(self.config.optim.accumulate):
            with self.optimization.autocast():
                loss = (self.net(part)[:, 0] - part.sum(1)).float().square()
            require_finite(
                loss,
                step=self.step + 1,
                epoch=self.step // self.steps_per_epoch,
                sample_ids=batch,
                dump=lambda: {"model": self.net.state_dict()},
                path=self._run.output / "non-finite.pt",
            )
            self.optimization.backward(loss.sum() / len(batch))
            rows.append(loss.detach())
        return {"loss": torch.cat(rows).mean().item()} | self.optimization.step()

    def learning_rate(self):
        return self.optimization.learning_rate

    def evaluate(self):
        self.evaluations.append(self.step)
        torch.rand(3)  # must not disturb the training's own draws
        return {"weight": self.net[0].weight.abs().mean().item()}

    def state_dict(self):
        return {"model": self.net.state_dict()} | self.optimization.state_dict()

    def load_state_dict(self, state):
        self.net.load_state_dict(state["model"])
        self.optimization.load_state_dict(state)


def train_toy(config: ToyConfig, make_task: type[ToyTask] = ToyTask) -> TrainingResult:
    with open_run(config.run) as run:
        task = make_task(config, run)
        return run_training(task, run)
