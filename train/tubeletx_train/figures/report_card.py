"""The page and the picture of motion report cards."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

_QUESTIONS = {
    "direction": "right or left, up or down",
    "speed": "over the same places, once or twice as fast",
    "acceleration": "from rest, or to rest",
    "order": "out and back, or back and out",
    "turn": "clockwise or anticlockwise",
    "number of turns": "one or two",
    "scale": "growing or shrinking",
    "path": "the same path in another look, or another path in that look",
    "path or its reverse": "the same path in another look, or played backwards in that look",
}
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}small{color:#666}img{max-width:100%}
"""


@dataclass(frozen=True)
class Card:
    """What is shown of one encoder; shares from 0 to 1, one for each stage.

    Attributes:
        name: Its name.
        facts: What it is, and what the measurement took.
        stages: Their names.
        axes: Accuracy of a choice of two, by axis.
        pairs: Likewise by pair of motions.
        motions: Accuracy over all motions.
        controls: By control, as `axes`, which it need not have all of.
        backwards: Share of clips played backwards that are taken for the opposite motion.
    """

    name: str
    facts: Sequence[str]
    stages: Sequence[str]
    axes: Mapping[str, Sequence[float]]
    pairs: Mapping[str, Sequence[float]]
    motions: Sequence[float]
    controls: Mapping[str, Mapping[str, Sequence[float]]]
    backwards: Sequence[float] | None

    def best(self, axis: str) -> tuple[float, str]:
        """The largest accuracy over the stages, and where it is."""
        values = self.axes[axis]
        place = int(np.argmax(values))
        return values[place], self.stages[place]


def axis_order(card: Card) -> list[str]:
    """The axes in the order of the questions."""
    return [axis for axis in _QUESTIONS if axis in card.axes]


def card_picture(path: str | Path, cards: Sequence[Card]) -> Path:
    """Write a PNG, a map of stages and axes for each encoder; returns `path`."""
    axes_names = axis_order(cards[0])
    heights = [1.2 + 0.34 * len(card.stages) for card in cards]
    figure = Figure(figsize=(9.5, sum(heights) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(cards), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for panel, card in zip(panels, cards, strict=True):
        values = np.array([card.axes[axis] for axis in axes_names]).T
        image = panel.imshow(values, vmin=0.5, vmax=1, cmap="viridis", aspect="auto")
        panel.set_yticks(range(len(card.stages)), card.stages, fontsize=8)
        panel.set_xticks(range(len(axes_names)), axes_names, fontsize=8, rotation=20, ha="right")
        panel.set_title(card.name, loc="left", fontsize=10)
        for (row, column), value in np.ndenumerate(values):
            color = "white" if value < 0.8 else "black"
            panel.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=color)
        figure.colorbar(image, ax=panel, format=PercentFormatter(1.0), label="right, of two")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path


def card_page(cards: Sequence[Card], picture: Path, *, counts: Sequence[int], made: Mapping[str, str]) -> str:
    """The page, with the picture in it.

    Args:
        cards: Of all encoders.
        picture: As `card_picture` wrote it.
        counts: Clips fitted on, clips judged by, triples of paths.
        made: What the measurements were made on, by name.
    """
    fit, judge, triples = counts
    image = base64.b64encode(picture.read_bytes()).decode()
    title = "Motion report card: " + ", ".join(card.name for card in cards)
    body = [f"<h1>{escape(title)}</h1>", *(_summary(card) for card in cards)]
    body.append(
        "<p>Every question is a choice of two that no single frame decides: patches move over still frames, and a "
        f"linear classifier of the frozen features, fitted on {fit} clips of twenty motions, is judged by {judge} "
        f"others (paths: by the nearer of two features, {triples} triples). Chance is 50 %; with "
        f"{2 * judge // 20} clips for a pair of motions, a share of 50 % comes with a standard error of "
        f"{50 / (2 * judge / 20) ** 0.5:.0f} %. Each column shows the stage at which the encoder itself is best.</p>"
    )
    body.append(_overview(cards))
    body.append(f'<img alt="accuracy by stage and question" src="data:image/png;base64,{image}">')
    body += [_details(card) for card in cards]
    body.append(f"<p><small>{escape(', '.join(f'{name} {value}' for name, value in made.items()))}</small></p>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _summary(card: Card) -> str:
    ranked = sorted(axis_order(card), key=lambda axis: card.best(axis)[0])
    strong = [f"{axis} ({card.best(axis)[0]:.0%} at {card.best(axis)[1]})" for axis in reversed(ranked[-2:])]
    weak = [f"{axis} ({card.best(axis)[0]:.0%})" for axis in ranked[:2]]
    facts = "; ".join(card.facts)
    text = f"tells best {' and '.join(strong)}, worst {' and '.join(weak)}."
    return f"<p><b>{escape(card.name)}</b> {escape(text)} <small>{escape(facts)}</small></p>"


def _overview(cards: Sequence[Card]) -> str:
    columns = [(card, control) for card in cards for control in (None, *card.controls)]
    head = "".join(f"<th>{escape(card.name if control is None else control)}</th>" for card, control in columns)
    rows = [f"<tr><th>at its best stage</th>{head}</tr>"]
    for axis in axis_order(cards[0]):
        cells = []
        for card, control in columns:
            values = card.axes[axis] if control is None else card.controls[control].get(axis)
            place = card.stages.index(card.best(axis)[1])
            cells.append("<td></td>" if values is None else _cell(values[place]))
        rows.append(f"<tr><td>{axis}<br><small>{_QUESTIONS[axis]}</small></td>{''.join(cells)}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _details(card: Card) -> str:
    head = "".join(f"<th>{escape(stage)}</th>" for stage in card.stages)
    rows = [f"<tr><th>{escape(card.name)}</th>{head}</tr>"]
    lines: list[tuple[str, Sequence[float]]] = [("all motions", card.motions), *card.pairs.items()]
    if card.backwards is not None:
        lines.append(("backwards, taken for the opposite", card.backwards))
    for control, values in card.controls.items():
        lines += [(f"{control}: {axis}", values[axis]) for axis in axis_order(card) if axis in values]
    for index, (name, shares) in enumerate(lines):
        cells = "".join(_cell(share, chance=0.0 if index == 0 else 0.5) for share in shares)
        rows.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    return f"<details><summary>{escape(card.name)}, stage by stage</summary><table>{''.join(rows)}</table></details>"


def _cell(share: float, chance: float = 0.5) -> str:
    strength = max(0.0, min((share - chance) / (1 - chance), 1.0))
    return f'<td style="background:rgba(47,111,176,{0.55 * strength:.2f})">{share:.0%}</td>'
