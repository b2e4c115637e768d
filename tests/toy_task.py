"""The smallest task of the training loop: a perceptron with dropout on made-up clips."""

import dataclasses

import torch
from torch import nn

from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.config.run import RunConfig
from tubeletx_train.data import EpochSampler
from tubeletx_train.engine.loop import TrainingResult, run_training
from tubeletx_train.engine.run import RunContext, open_run
from tubeletx_train.engine.task import TrainingTask

SAMPLES = 24


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    run: RunConfig
    optim: OptimConfig = dataclasses.field(default_factory=lambda: OptimConfig(batch_size=4, steps=12, lr=0.1))
    dropout: float = 0.5


@dataclasses.dataclass
class ToyBatch:
    sample_ids: torch.Tensor
    epoch: int


class ToySource:
    def __init__(self, config: ToyConfig, run: RunContext) -> None:
        self.batch_size = run.ranks.share(config.optim.batch_size, "optim.batch_size")
        self._ranks = run.ranks
        self.steps_per_epoch = self._sampler().batches_per_epoch

    def _sampler(self, start: int = 0, stop: int | None = None) -> EpochSampler:
        ranks = self._ranks
        return EpochSampler(
            SAMPLES, self.batch_size, rank=ranks.rank, world_size=ranks.world_size, start=start, stop=stop
        )

    def batches(self, start, stop):
        for batch in self._sampler(start, stop):
            yield ToyBatch(torch.tensor([sample_id for _, sample_id in batch]), batch[0][0])


class ToyTask(TrainingTask[ToyBatch]):
    make_source = ToySource

    def __init__(self, config: ToyConfig, run: RunContext) -> None:
        super().__init__(config, run, self.make_source(config, run))
        self.evaluations: list[int] = []
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(config.dropout), nn.ReLU(), nn.Linear(8, 1))
        self.net.to(run.device)
        self.optimization = self.build_optimization(self.net)

    def settle_precision(self, batch):
        """Float32, as `optim.precision` of the tests leaves it."""

    def check_loss(self, batch):
        raise NotImplementedError

    def train_step(self, batch):
        inputs = torch.sin(batch.sample_ids[:, None] * torch.arange(1.0, 7.0))
        rows = []
        for part in inputs.chunk(self.config.optim.accumulate):
            with self.optimization.autocast():
                loss = (self.net(part)[:, 0] - part.sum(1)).float().square()
            self.require_finite(loss, batch)
            self.optimization.backward(loss.sum() / len(inputs))
            rows.append(loss.detach())
        return {"loss": torch.cat(rows).mean().item()} | self.update(batch)

    def evaluate(self):
        self.evaluations.append(self.step)
        torch.rand(3)  # must not disturb the training's own draws
        return {"weight": self.net[0].weight.abs().mean().item()}


def train_toy(config: ToyConfig, make_task: type[ToyTask] = ToyTask) -> TrainingResult:
    with open_run(config.run) as run:
        task = make_task(config, run)
        return run_training(task, run)
