"""Trains many small runs side by side on one device.

A step of a small network is a thousand kernels of microseconds each, which no one process launches fast enough for a
large GPU. So each run's step, from the clips of its bank to the update of its weights, is captured as a CUDA graph
once, and the graphs of many runs are replayed on streams of their own. What a step computes is what the trainer's does,
made of the same parts; a test holds the two against each other. On a CPU a step is called as it is.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import pickle
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from studies.arms import SUPERVISED, UNTRAINED, reuse_of
from studies.bank import Bank, BankInTheMaking
from studies.measure import Features, Measurements, embed, read_out_all
from studies.runs import Run, Study, provenance
from tubeletx_train.common.seeding import seed_everything
from tubeletx_train.config.data import IMAGENET
from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.engine.precision import Settled, keep_in_float32, settle_precision
from tubeletx_train.engine.schedule import build_schedule
from tubeletx_train.engine.task import checked_samples
from tubeletx_train.evaluation.pretrained import save_pretraining, untrained_net
from tubeletx_train.pretrain.build import build_moco, channels_last
from tubeletx_train.pretrain.views import PairViews

# What is written down of every step; 0 where a run has no such thing.
METRICS = ("loss", "top1", "batch_top1", "alignment", "uniformity", "age_gap", "track_error", "grad_norm")
_LOG_POINTS = 50
_WARM_UP = 2
# Steps that are launched ahead of the device.
_AHEAD = 8
_TELL_SECONDS = 5.0
_MOST_FAILURES = 20

_logger = logging.getLogger(__name__)


class PlainColors(nn.Module):
    """Normalises clips whose colours stay as they are, without a number from the host."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", IMAGENET.mean), ("deviation", IMAGENET.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1, 1) * 255)

    def forward(self, clip: Tensor, sample_ids: Tensor, *, epoch: Tensor, which: int) -> Tensor:  # noqa: ARG002
        """uint8 (B, 3, T, S, S) to normalised floats."""
        return (clip - self.mean) / self.deviation


@functools.cache
def learning_rates(optim: OptimConfig) -> tuple[float, ...]:
    """The rate of every step."""
    assert optim.steps is not None
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=optim.lr)
    schedule = build_schedule(optimizer, optim, optim.steps, optim.steps)
    rates = []
    for _ in range(optim.steps):
        rates.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    return tuple(rates)


class Sgd:
    """SGD with momentum and weight decay whose rate is a tensor, as a captured step needs it."""

    def __init__(self, parameters: Sequence[Tensor], config: OptimConfig, rate: Tensor) -> None:
        self._parameters = list(parameters)
        self._buffers = [torch.zeros_like(parameter) for parameter in parameters]
        self._config, self._rate = config, rate

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters by their gradients."""
        gradients: list[Tensor] = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        gradients = list(torch._foreach_add(gradients, self._parameters, alpha=self._config.weight_decay))
        torch._foreach_mul_(self._buffers, self._config.momentum)
        torch._foreach_add_(self._buffers, gradients)
        torch._foreach_sub_(self._parameters, torch._foreach_mul(self._buffers, self._rate))

    def reset(self) -> None:
        """Forget the steps made."""
        torch._foreach_zero_(self._buffers)


class AdamW:
    """torch's AdamW with a rate that is a tensor on a GPU, and set before each step on a CPU."""

    def __init__(self, parameters: Sequence[nn.Parameter], config: OptimConfig, rate: Tensor) -> None:
        on_gpu = rate.is_cuda
        self._rate = rate
        self._optimizer = torch.optim.AdamW(
            parameters,
            lr=config.lr,
            betas=(config.momentum, 0.999),
            weight_decay=config.weight_decay,
            foreach=True,
            capturable=on_gpu,
        )
        if on_gpu:
            self._optimizer.param_groups[0]["lr"] = rate

    def step(self) -> None:
        """Update the parameters by their gradients."""
        if not self._rate.is_cuda:
            self._optimizer.param_groups[0]["lr"] = self._rate.item()
        self._optimizer.step()

    def reset(self) -> None:
        """Forget the steps made."""
        for state in self._optimizer.state.values():
            for value in state.values():
                value.zero_()


class NoGraphsError(RuntimeError):
    """The device does not take a step as a graph."""


class Trainee:
    """A run under way.

    Attributes:
        run: Which.
        config: Its settings.
        step: Steps launched.
        net: Its networks.
    """

    def __init__(
        self, run: Run, config: PretrainConfig, bank: Bank, device: torch.device, *, graphs: bool = True
    ) -> None:
        """Build networks as the trainer does, from the same seed.

        Args:
            run: Which run.
            config: Its settings.
            bank: Its clips.
            device: That trains, and holds the bank.
            graphs: Whether a GPU takes the steps as graphs.
        """
        optim = config.optim
        assert optim.steps is not None
        if config.color.probability or optim.accumulate > 1 or optim.optimizer not in ("adamw", "sgd"):
            raise ValueError(f"{run.arm}: needs color.probability 0, optim.accumulate 1 and adamw or sgd")
        self.run, self.config, self.step, self.total = run, config, 0, optim.steps
        self.device, self._bank = device, bank
        seed_everything(config.run.seed)
        self.net = channels_last(build_moco(config).to(device)).train()
        self.views = PairViews(config.contrast, config.tubelets, config.color, seed=config.run.seed)
        self.views.color = PlainColors()  # type: ignore[assignment]
        self.views.to(device)
        self._parameters = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        self._rates = torch.tensor(learning_rates(optim), device=device)
        self._rate = torch.zeros((), device=device)
        kind = AdamW if optim.optimizer == "adamw" else Sgd
        self._optimizer = kind(self._parameters, optim, self._rate)
        self._place = torch.zeros((), dtype=torch.int64, device=device)
        self._history = torch.zeros(self.total, len(METRICS), device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        on_gpu = device.type == "cuda" and graphs
        self._stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]

    def settle_precision(self) -> Settled:
        """Check the precision by the first batch, as the trainer does."""
        few = slice(checked_samples(self.config.optim.batch_size))

        def make_loss() -> Any:
            views = self.views(self._bank.batch(self._place))
            rows = views.rows(few)
            return lambda: self.net.compare(*rows).loss.mean()

        return settle_precision(self.config.optim.precision, self.net, make_loss, self.device)

    def begin(self, settled: Settled) -> None:
        """Make ready to step in a precision.

        Raises:
            RuntimeError: The step cannot be captured.
        """
        self._precision = settled.precision
        keep_in_float32(self.net, settled.float32_layers)
        if self._stream is None:
            return
        before = {name: value.clone() for name, value in self.net.state_dict().items()}
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP):
                self._body()
            self._graph = torch.cuda.CUDAGraph()
            self._graph.capture_begin(capture_error_mode="thread_local")
            self._body()
            self._graph.capture_end()
            self.net.load_state_dict(before)
            self._optimizer.reset()
            self._place.zero_()
            self._history.zero_()

    def advance(self) -> None:
        """Launch a step."""
        if self._graph is None:
            self._body()
        else:
            with torch.cuda.stream(self._stream):
                self._graph.replay()
        self.step += 1

    def wait(self) -> None:
        """Wait until what was launched is done."""
        if self._stream is not None:
            self._stream.synchronize()

    def log(self) -> list[dict[str, float]]:
        """Means of `METRICS` over stretches of the run so far, and the step that ends each."""
        found = []
        history = self._history[: self.step].cpu()
        edges = torch.linspace(0, self.step, min(_LOG_POINTS, self.step) + 1).round().long().tolist()
        for start, stop in itertools.pairwise(edges):
            means = history[start:stop].mean(0).tolist()
            found.append({"step": stop} | {name: round(value, 4) for name, value in zip(METRICS, means, strict=True)})
        return found

    def diverged(self) -> bool:
        """Whether a loss or gradient so far was not finite."""
        return not bool(torch.isfinite(self._history[: self.step]).all())

    def _body(self) -> None:
        """A step, with nothing in it that needs an answer of the device."""
        for parameter in self._parameters:
            parameter.grad = None
        self._rate.copy_(self._rates.index_select(0, self._place.view(1))[0])
        views = self.views(self._bank.batch(self._place))
        self.net.update_key_net()
        autocast = self._precision != "float32"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast, cache_enabled=False):
            output = self.net.compare(views.query, views.key, views.own_negative, views.tubelets)
        loss = output.loss.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.net.enqueue(output.key)
        norm = get_total_norm([parameter.grad for parameter in self._parameters if parameter.grad is not None])
        if self.config.optim.clip_norm is not None:
            clip_grads_with_norm_(self._parameters, self.config.optim.clip_norm, norm)
        self._optimizer.step()
        values = {"loss": loss.detach(), "grad_norm": norm} | output.metrics
        row = torch.stack([values.get(name, norm.new_zeros(())).float() for name in METRICS])
        self._history.index_copy_(0, self._place.view(1), row[None])
        self._place.add_(1)


def _read_out(features: bytes) -> dict[str, Any]:
    return read_out_all(pickle.loads(features))


def _start_worker() -> None:
    torch.set_num_threads(1)


class SideBySide:
    """Runs what is missing of a study on one device."""

    def __init__(
        self,
        study: Study,
        runs: Sequence[Run],
        pool: ProcessPoolExecutor,
        drawn: Future[None],
        *,
        device: torch.device,
        reuse: int,
        width: int,
        graphs: bool,
        points: int,
        end: float,
        lines: Path | None = None,
        commit: str | None = None,
    ) -> None:
        """Makes ready.

        Args:
            study: Where runs are kept.
            runs: In the order in which they begin.
            pool: Draws clips and fits classifiers.
            drawn: Done once the clips to measure by are in the study's folder.
            device: That trains.
            reuse: How often a clip is used, where the arm does not say.
            width: Runs at once.
            graphs: Whether a GPU takes the steps as graphs.
            points: Measurements along a run, its last one counted.
            end: By `time.monotonic`, when to stop; runs under way are lost.
            lines: A file that every result is added to as it comes, a line each.
            commit: Of the sources, where git cannot tell.
        """
        self._study, self._pool, self._device, self._graphs = study, pool, device, graphs
        self._reuse, self._width, self._points, self._end = reuse, width, points, end
        # Opened to append: of several processes each line is whole.
        self._lines = None if lines is None else os.open(lines, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._waiting = [run for run in runs if study.result(run) is None and run.arm != SUPERVISED]
        self._configs = {run: self._config(run) for run in self._waiting}
        self._drawn = drawn
        self._folder = tempfile.TemporaryDirectory(prefix="clips-", ignore_cleanup_errors=True)
        self._making: dict[tuple[Any, ...], BankInTheMaking] = {}
        self._banks: dict[tuple[Any, ...], Bank] = {}
        self._numbers = itertools.count()  # names of their files
        self._active: list[Trainee] = []
        self._measuring: list[tuple[Run, dict[str, Any], dict[int, Future[dict[str, Any]]]]] = []
        self._along: dict[Run, dict[int, Future[dict[str, Any]]]] = {}
        self._settled: Settled | None = None
        self._provenance = provenance(device, commit)
        self._pace = 0.0  # seconds a step of the run that ended last
        self._begun: dict[Run, float] = {}
        self.done = self.failed = 0

    def go(self) -> int:
        """Run; returns how many runs are complete.

        Raises:
            NoGraphsError: The first step could not be captured.
        """
        ticks = launched = 0
        told = time.monotonic()
        while time.monotonic() < self._end and self.failed <= _MOST_FAILURES:
            self._collect()
            while len(self._active) < self._width and self._admit():
                pass
            if not self._active:
                if not self._waiting or not self._time_for_another():
                    break
                time.sleep(0.05)  # clips are being drawn
                continue
            for trainee in list(self._active):
                try:
                    trainee.advance()
                    self._after_step(trainee)
                except Exception:  # one run's trouble is not that of the others
                    self._active.remove(trainee)
                    self._fail(trainee.run)
            ticks += 1
            launched += len(self._active)
            if time.monotonic() - told > _TELL_SECONDS:
                rate = launched / (time.monotonic() - told)
                _logger.info("%d runs at once, %d to come, %.0f steps/s", len(self._active), len(self._waiting), rate)
                told, launched = time.monotonic(), 0
            if ticks % _AHEAD == 0 and self._active:
                self._active[ticks // _AHEAD % len(self._active)].wait()
        if self.failed > _MOST_FAILURES and not self.done and self._graphs:
            raise NoGraphsError
        while self._measuring and time.monotonic() < self._end:
            self._collect()
            time.sleep(0.02)
        return self.done

    @functools.cached_property
    def _clips(self) -> Measurements:
        self._drawn.result()
        return Measurements.load(self._study.measurements, self._device)

    def _config(self, run: Run) -> PretrainConfig:
        return config_from_tree(PretrainConfig, self._study.recipe(run), "studies")

    def _key(self, run: Run) -> tuple[Any, ...]:
        """What decides a run's clips."""
        config = self._configs[run]
        assert config.optim.steps is not None
        steps = max(config.optim.steps // (reuse_of(run.arm) or self._reuse), 1)
        drawn = config.data.leaves if config.data.source == "leaves" else None
        return (config.run.seed, drawn, config.data.split, config.contrast.mode, steps)

    def _make_banks(self) -> None:
        """Have the clips drawn of the runs that come next."""
        for run in self._waiting[: self._width]:
            key = self._key(run)
            if run.arm != UNTRAINED and key not in self._making and key not in self._banks:
                path = Path(self._folder.name) / str(next(self._numbers))
                self._making[key] = BankInTheMaking.start(self._configs[run], key[-1], path, self._pool)

    def _time_for_another(self) -> bool:
        steps = self._configs[self._waiting[0]].optim.steps or 0
        return time.monotonic() + self._pace * steps < self._end

    def _fail(self, run: Run) -> None:
        self.failed += 1
        _logger.exception("%s, seed %d failed", run.arm, run.seed)

    def _admit(self) -> bool:
        """Begin the next run whose clips are there; whether one was begun."""
        if not self._waiting or not self._time_for_another():
            return False
        self._make_banks()
        run = self._waiting[0]
        if run.arm == UNTRAINED:
            self._waiting.pop(0)
            net = untrained_net(self._configs[run], self._clips.fit.clips, self._device)
            self._measure(run, self._configs[run], embed(net, self._clips), 0, {})
            return True
        key = self._key(run)
        if key not in self._banks:
            if not self._making[key].done():
                return False
            needed = {self._key(other) for other in self._waiting} | {self._key(t.run) for t in self._active}
            self._banks = {name: bank for name, bank in self._banks.items() if name in needed}
            self._banks[key] = self._making.pop(key).finish(self._device)
        self._waiting.pop(0)
        try:
            trainee = Trainee(run, self._configs[run], self._banks[key], self._device, graphs=self._graphs)
            if self._settled is None:
                self._settled = trainee.settle_precision()
            trainee.begin(self._settled)
        except Exception as error:
            if self._graphs and not self.done and not self._active:
                raise NoGraphsError from error
            self._fail(run)
            return True
        self._begun[run] = time.monotonic()
        self._along[run] = {}
        self._active.append(trainee)
        return True

    def _after_step(self, trainee: Trainee) -> None:
        """Measure where it is due."""
        every = max(trainee.total // self._points, 1)
        last = trainee.step == trainee.total
        if not last and trainee.step % every:
            return
        trainee.wait()
        features = embed(trainee.net.query_net, self._clips, whole=last)
        if trainee.diverged() or not all(torch.isfinite(values).all() for values in features.fit.values()):
            self._active.remove(trainee)
            self._write(
                trainee.run, self._common(trainee) | {"along": [], "diverged": "loss, gradient or features not finite"}
            )
            return
        if not last:
            self._along[trainee.run][trainee.step] = self._submit(features)
            return
        self._active.remove(trainee)
        save_pretraining(trainee.config, trainee.net, self._study.encoder(trainee.run))
        self._pace = (time.monotonic() - self._begun[trainee.run]) / trainee.total
        self._measure(trainee.run, trainee.config, features, trainee.total, self._common(trainee))

    def _common(self, trainee: Trainee) -> dict[str, Any]:
        steps = self._key(trainee.run)[-1]
        return {"precision": str(self._settled), "log": trainee.log(), "reuse": trainee.total / steps}

    def _submit(self, features: Features) -> Future[dict[str, Any]]:
        return self._pool.submit(_read_out, pickle.dumps(features))

    def _measure(self, run: Run, config: PretrainConfig, features: Features, step: int, common: dict[str, Any]) -> None:
        futures = self._along.pop(run, {}) | {step: self._submit(features)}
        self._measuring.append((run, {"config": to_tree(config)} | self._provenance | common, futures))

    def _collect(self) -> None:
        """Write the results that are complete."""
        for entry in list(self._measuring):
            run, result, futures = entry
            if not all(future.done() for future in futures.values()):
                continue
            self._measuring.remove(entry)
            try:
                found = {step: future.result() for step, future in futures.items()}
            except Exception:
                self._fail(run)
                continue
            *_, (last, measured) = found.items()
            along = [
                {"step": step} | {name: values["probe"][name] for name in ("linear", "knn")}
                for step, values in found.items()
            ]
            self._write(run, result | {"along": along if last else []} | measured)

    def _write(self, run: Run, result: dict[str, Any]) -> None:
        result = {"arm": run.arm, "seed": run.seed} | result
        result.setdefault("config", to_tree(self._configs[run]) | {})
        result = self._provenance | result
        self._study.write_result(run, result)
        if self._lines is not None:
            os.write(self._lines, (json.dumps(result) + "\n").encode())
        self.done += 1
        probe = result.get("probe", {}).get("linear", float("nan"))
        _logger.info("%d done: %s, seed %d, linear probe %.3f", self.done, run.arm, run.seed, probe)


@contextmanager
def worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, that see no GPU."""
    os.environ["OMP_NUM_THREADS"] = "1"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker)
    try:
        for _ in range(jobs):
            pool.submit(time.time)  # starts a process
        if hidden is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = hidden
        yield pool
    finally:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
