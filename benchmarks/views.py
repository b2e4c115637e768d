"""What a pretraining makes of the clips of a pair, from bytes to network input: in one pass, and step by step.

16 pairs of 16 x 112 x 112 with the tubelets of preset `paper` and colour jitter, as `PairViews` makes them. "one pass"
is `augment_clips_` into memory that is kept; "step by step" crops and pastes patches, then changes colours, each into
fresh memory, as the trainer still does where own negatives and the like are asked for. The floats are the
same to the bit. Pairs come as workers hand them over ("decoded": cut and resized there), or out of a bank (windows of
16 x 128 x 171, cut and resized here: all in one call, or a call a clip).

On one thread, timed by its processor time. Run: python benchmarks/views.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from harness import write_result
from torch import Tensor

from tubeletx.config import TubeletConfig
from tubeletx.ops import augment_clips_
from tubeletx_train.config.data import ColorConfig, DataConfig
from tubeletx_train.config.pretrain import ContrastConfig
from tubeletx_train.data import PairBatch
from tubeletx_train.data.bank import BankBatch
from tubeletx_train.data.clips import clip_generator, draw_crop
from tubeletx_train.pretrain.views import PairViews, Views

PAIRS, FRAMES, HEIGHT, WIDTH, SIDE, ROUNDS = 16, 16, 128, 171, 112, 9


def bank_batch() -> BankBatch:
    config = DataConfig("unused")
    clips = [torch.randint(256, (1, FRAMES, HEIGHT, WIDTH, 3), dtype=torch.uint8) for _ in range(2 * PAIRS)]
    windows = [draw_crop(clip_generator(0, 0, place, 0, 1), WIDTH, HEIGHT, config) for place in range(2 * PAIRS)]
    return BankBatch(
        clips=[clip.permute(0, 4, 1, 2, 3) for clip in clips],
        windows=torch.tensor(windows, dtype=torch.int32).view(PAIRS, 2, 4),
        flips=torch.rand(PAIRS, 2) < config.flip,
        side=SIDE,
        sample_ids=torch.arange(PAIRS),
        epoch=0,
        sources=torch.zeros(PAIRS, 2, dtype=torch.int64),
        bad=[],
    )


def clip_by_clip(batch: BankBatch, which: int) -> Tensor:
    """The clips that are shown, in fresh memory."""
    shown = torch.empty((PAIRS, FRAMES, SIDE, SIDE, 3), dtype=torch.uint8).permute(0, 4, 1, 2, 3)
    for row in range(PAIRS):
        window, flip = batch.windows[row, which].view(1, 1, 4), batch.flips[row, which].view(1, 1)
        augment_clips_([shown[row : row + 1]], [batch.clips[2 * row + which]], window, flip)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    bank = bank_batch()

    def decoded(clip_1: Tensor, clip_2: Tensor) -> PairBatch:
        return PairBatch(clip_1, clip_2, bank.sample_ids, 0, bank.sources, [])

    pairs = decoded(bank.clip_1, bank.clip_2)
    views = PairViews(ContrastConfig(), TubeletConfig.preset("paper"), ColorConfig())
    forms: dict[str, dict[str, Callable[[], Views]]] = {
        "decoded": {"one pass": lambda: views(pairs), "step by step": lambda: views._step_by_step(pairs)},
        "bank": {
            "one pass": lambda: views(bank),
            "step by step": lambda: views._step_by_step(decoded(clip_by_clip(bank, 0), clip_by_clip(bank, 1))),
        },
    }
    report: dict[str, object] = {}
    for source, candidates in forms.items():
        made = [candidate() for candidate in candidates.values()]
        assert torch.equal(made[0].query, made[1].query)
        assert torch.equal(made[0].key, made[1].key)
        del made
        rounds = []
        for _ in range(ROUNDS):
            seconds = {}
            for form, candidate in candidates.items():
                since = time.thread_time()
                candidate()
                seconds[form] = (time.thread_time() - since) / PAIRS
            rounds.append(seconds)
        ratio = statistics.median(one["step by step"] / one["one pass"] for one in rounds)
        medians = {form: statistics.median(one[form] for one in rounds) * 1e3 for form in candidates}
        report[source] = {"milliseconds_a_pair": medians, "times_one_pass": {"step by step": ratio}}
        print(f"{source:8} {medians['one pass']:6.2f} ms a pair in one pass, step by step {ratio:.2f} times as long")
    print("written:", write_result("views", report))


if __name__ == "__main__":
    main()
