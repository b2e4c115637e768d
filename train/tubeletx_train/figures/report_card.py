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
_ACTION_QUESTIONS = {
    "way": "one way or the other, each the other played backwards",
    "how often": "once or again",
    "which first": "of the same two, one or the other first",
    "what": "what turns or is moved, which frames without order tell too",
}
_ALL = "all classes"
_NO_ACTIONS = (
    "<p>No rendered actions were asked for: <code>tubeletx-train render gym --output gym/</code> makes them in "
    "minutes, and <code>--rendered gym/</code> adds them to this page.</p>"
)
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}small{color:#666}img{max-width:100%}
"""


@dataclass(frozen=True)
class Answers:
    """What the stages of one encoder say about one kind of clips; shares from 0 to 1, one for each stage.

    Attributes:
        stages: Their names.
        axes: Accuracy of a choice of two, by axis.
        pairs: Likewise by pair of classes.
        classes: Accuracy over all classes.
        chance: Of that.
        controls: By control, as `axes`, which it need not have all of, and over all classes under "all classes".
        backwards: Share of clips played backwards that are taken for the opposite class.
        ceiling: Accuracy over all classes of the same network trained with the labels.
        other_motion: Accuracy over all classes where another motion has the same label.
        confused: Two classes, and the share of their clips that are taken for the other.
        videos: Fitted on, judged by, where they are not the same for all cards.
    """

    stages: Sequence[str]
    axes: Mapping[str, Sequence[float]]
    pairs: Mapping[str, Sequence[float]]
    classes: Sequence[float]
    chance: float
    controls: Mapping[str, Mapping[str, Sequence[float]]]
    backwards: Sequence[float] | None = None
    ceiling: float | None = None
    other_motion: Sequence[float] | None = None
    confused: Sequence[tuple[str, str, float]] = ()
    videos: tuple[int, int] | None = None

    def best(self, axis: str) -> tuple[float, str]:
        """The largest accuracy over the stages, and where it is."""
        values = self.axes[axis]
        place = int(np.argmax(values))
        return values[place], self.stages[place]


@dataclass(frozen=True)
class Card:
    """What is shown of one encoder.

    Attributes:
        name: Its name.
        facts: What it is, and what the measurement took.
        motions: Of patches that move over still frames.
        actions_name: The rendered set that it was asked about, if any.
        actions: Of its actions.
    """

    name: str
    facts: Sequence[str]
    motions: Answers
    actions_name: str | None = None
    actions: Answers | None = None


def axis_order(answers: Answers) -> list[str]:
    """The axes in the order of the questions."""
    return [axis for axis in (*_QUESTIONS, *_ACTION_QUESTIONS) if axis in answers.axes]


def card_picture(path: str | Path, cards: Sequence[Card]) -> Path:
    """Write a PNG, a map of stages and axes for each encoder; returns `path`."""
    heights = [1.2 + 0.34 * len(card.motions.stages) for card in cards]
    figure = Figure(figsize=(9.5, sum(heights) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(cards), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for panel, card in zip(panels, cards, strict=True):
        columns = {axis: card.motions.axes[axis] for axis in axis_order(card.motions)}
        if card.actions is not None:
            columns |= {f"{card.actions_name}: {axis}": card.actions.axes[axis] for axis in axis_order(card.actions)}
        values = np.array(list(columns.values())).T
        image = panel.imshow(values, vmin=0.5, vmax=1, cmap="viridis", aspect="auto")
        panel.set_yticks(range(len(card.motions.stages)), card.motions.stages, fontsize=8)
        panel.set_xticks(range(len(columns)), list(columns), fontsize=8, rotation=20, ha="right")
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
    body.append(_overview({card.name: card.motions for card in cards}))
    body += _actions(cards)
    body.append(f'<img alt="accuracy by stage and question" src="data:image/png;base64,{image}">')
    for card in cards:
        body.append(_details(card.name, card.motions))
        if card.actions is not None:
            body.append(_details(f"{card.name}: {card.actions_name}", card.actions))
    body.append(f"<p><small>{escape(', '.join(f'{name} {value}' for name, value in made.items()))}</small></p>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _summary(card: Card) -> str:
    motions = card.motions
    ranked = sorted(axis_order(motions), key=lambda axis: motions.best(axis)[0])
    strong = [f"{axis} ({motions.best(axis)[0]:.0%} at {motions.best(axis)[1]})" for axis in reversed(ranked[-2:])]
    weak = [f"{axis} ({motions.best(axis)[0]:.0%})" for axis in ranked[:2]]
    facts = "; ".join(card.facts)
    text = f"tells best {' and '.join(strong)}, worst {' and '.join(weak)}."
    return f"<p><b>{escape(card.name)}</b> {escape(text)} <small>{escape(facts)}</small></p>"


def _actions(cards: Sequence[Card]) -> list[str]:
    """What rendered actions came to, or how to have some."""
    answers = {card.name: card.actions for card in cards if card.actions is not None}
    if not answers:
        return [_NO_ACTIONS]
    first = next(iter(answers.values()))
    fit, judge = first.videos or (0, 0)
    name = next(card.actions_name for card in cards if card.actions is not None)
    about = (
        "Actions on video that differ in the motion alone, from cameras, at speeds and in looks that are not fitted "
        f"on: {fit} videos to fit on, {judge} to judge by. The controls say how much is told without motion."
    )
    parts = [f"<h2>Rendered actions: {escape(str(name))}</h2>", f"<p>{about}</p>", _overview(answers)]
    for encoder, found in answers.items():
        if found.confused:
            pairs = ", ".join(f"{one} and {other} ({share:.0%})" for one, other, share in found.confused)
            parts.append(f"<p>{escape(f'{encoder} takes for one another: {pairs}.')}</p>")
    return parts


def _overview(answers: Mapping[str, Answers]) -> str:
    columns = [(name, control) for name, found in answers.items() for control in (None, *found.controls)]
    head = "".join(f"<th>{escape(name if control is None else control)}</th>" for name, control in columns)
    head += "<th>chance</th>"
    rows = [f"<tr><th>at its best stage</th>{head}</tr>"]
    axes = axis_order(next(iter(answers.values())))
    for axis in axes:
        cells = []
        for name, control in columns:
            found = answers[name]
            values = found.axes[axis] if control is None else found.controls[control].get(axis)
            place = found.stages.index(found.best(axis)[1])
            cells.append("<td></td>" if values is None else _cell(values[place]))
        question = (_QUESTIONS | _ACTION_QUESTIONS)[axis]
        rows.append(f"<tr><td>{axis}<br><small>{question}</small></td>{''.join(cells)}<td>50%</td></tr>")
    cells = []
    for name, control in columns:
        found = answers[name]
        values = found.classes if control is None else found.controls[control].get(_ALL)
        place = int(np.argmax(found.classes))
        cells.append("<td></td>" if values is None else _cell(values[place], found.chance))
    chance = next(iter(answers.values())).chance
    ceilings = [f"{name} {found.ceiling:.0%}" for name, found in answers.items() if found.ceiling is not None]
    ceiling = f"<br><small>trained with the labels: {escape(', '.join(ceilings))}</small>" if ceilings else ""
    rows.append(f"<tr><td>{_ALL}{ceiling}</td>{''.join(cells)}<td>{chance:.0%}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _details(title: str, answers: Answers) -> str:
    head = "".join(f"<th>{escape(stage)}</th>" for stage in answers.stages)
    rows = [f"<tr><th>{escape(title)}</th>{head}</tr>"]
    chance = answers.chance
    lines: list[tuple[str, Sequence[float], float]] = [(_ALL, answers.classes, chance)]
    if answers.other_motion is not None:
        lines.append(("all classes, by another motion of the label", answers.other_motion, chance))
    lines += [(axis, answers.axes[axis], 0.5) for axis in axis_order(answers)]
    lines += [(pair, shares, 0.5) for pair, shares in answers.pairs.items()]
    if answers.backwards is not None:
        lines.append(("backwards, taken for the opposite", answers.backwards, 0.5))
    for control, values in answers.controls.items():
        lines += [(f"{control}: {axis}", values[axis], 0.5) for axis in axis_order(answers) if axis in values]
        if _ALL in values:
            lines.append((f"{control}: {_ALL}", values[_ALL], chance))
    for name, shares, least in lines:
        cells = "".join(_cell(share, least) for share in shares)
        rows.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    return f"<details><summary>{escape(title)}, stage by stage</summary><table>{''.join(rows)}</table></details>"


def _cell(share: float, chance: float = 0.5) -> str:
    strength = max(0.0, min((share - chance) / (1 - chance), 1.0))
    return f'<td style="background:rgba(47,111,176,{0.55 * strength:.2f})">{share:.0%}</td>'
