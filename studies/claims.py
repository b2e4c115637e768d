"""What the study is to settle: which of two arms does better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from studies.arms import FULL, groups, shorter_form_of
from studies.results import MAIN_MEASURE, Estimate, Results, markdown


@dataclass(frozen=True)
class Claim:
    """Something to settle: whether `higher` does better than `lower`."""

    text: str
    higher: str
    lower: str


PAPER_CLAIMS = (
    Claim("Tubelet contrast learns motion, temporal contrast does not (Table 2)", FULL, "temporal"),
    Claim("Static tubelets do worse than temporal contrast (Table 3)", "temporal", "static"),
    Claim("Linear motion does better than none (Table 3)", "linear", "static"),
    Claim("Non-linear motion does better than linear (Table 3)", "nonlinear", "linear"),
    Claim("Scaling helps (Table 4)", "scale", "nonlinear"),
    Claim("Shearing helps (Table 4)", "shear", "nonlinear"),
    Claim("Rotation helps (Table 4)", FULL, "nonlinear"),
    Claim("Rotation helps more than scaling (Table 4)", FULL, "scale"),
    Claim("Two tubelets do better than one (Table 5)", FULL, "one_tubelet"),
    Claim("Two tubelets do better than three (Table 5)", FULL, "three_tubelets"),
    Claim("All videos serve tubelet contrast better than a tenth (Figure 5)", FULL, "rotation_10"),
    Claim("All videos serve tubelet contrast better than a quarter; the paper: hardly (Figure 5)", FULL, "rotation_25"),
    Claim("All videos serve temporal contrast better than a quarter (Figure 5)", "temporal", "temporal_25"),
)

OWN_CLAIMS = (
    Claim("Paths of the released code's extent teach more than Eq. 6 alone", FULL, "paper_equation"),
    Claim("Temperature .1 does better than .07", FULL, "temperature_07"),
    Claim("Temperature .1 does better than the paper's .2", FULL, "temperature_20"),
    Claim(
        "Negatives of the same step do better than a queue (256 keys, momentum .99)", FULL, "queue_m99_k256_adamw_004"
    ),
    Claim("On the plateau negatives of the same step do better than that queue", "rotation_long", "queue_long"),
    Claim("Groups of 8 that share patches learn more motion", "shared_8", FULL),
    Claim("Groups of 64 learn more than groups of 8", "shared_64", "shared_8"),
    Claim("Groups of 8 that share the first place too learn more", "shared_8_place", "shared_8"),
    Claim("Groups of 8 that share patches and first place learn more than no groups", "shared_8_place", FULL),
    Claim("An own negative that turns otherwise helps", "turned", FULL),
    Claim("In groups of 8 an own negative that turns otherwise helps", "shared_8_turned", "shared_8"),
    Claim("With groups of 8 and an own negative that turns otherwise more is learned", "shared_8_turned", FULL),
    Claim("Fresh clips do better than clips used 16 times", "reuse_1", "reuse_16"),
    Claim("An own negative played backwards helps", "reversed", FULL),
    Claim("An own negative on another path helps", "resampled", FULL),
    Claim("Paths that bend twice as often teach more", "sigma_3", FULL),
    Claim("Still backgrounds help", "still", FULL),
    Claim("Over still backgrounds an own negative played backwards helps", "still_reversed", "still"),
    Claim("The same patches on both clips do better than other ones", FULL, "per_clip_patches"),
    Claim(
        "With other patches an own negative played backwards helps",
        "per_clip_patches_reversed",
        "per_clip_patches",
    ),
    Claim("Paths in the same place do better than paths moved as a whole", FULL, "path_offset"),
    Claim("Colour jitter helps", "color_independent", FULL),
    Claim("A jitter for each clip does better than one for both", "color_independent", "color_shared"),
    Claim("To predict tracks beside contrast helps", "tracks", FULL),
    Claim("In groups of 8 to predict tracks helps", "shared_8_tracks", "shared_8"),
    Claim("A key network ten times as fast does better", FULL, "batch_m99"),
    Claim(
        "With a key network as slow, negatives of the same step do better than a queue of 256",
        "batch_m99",
        "queue_m99_k256_adamw_004",
    ),
    Claim("Videos do better than drawn clips", FULL, "leaves"),
    Claim("Drawn clips do better the less they move", "leaves", "leaves_moving"),
    Claim("Drawn clips do better of few large shapes", "leaves", "leaves_small"),
    Claim("Drawn clips do better alike in their mean colour", "leaves", "leaves_tinted"),
)


def longer(claims: Sequence[Claim], group: str) -> tuple[Claim, ...]:
    """Those of the claims whose arms both have a longer form in a group, about these forms."""
    form = {shorter_form_of(arm): arm for arm in groups()[group]}
    return tuple(
        Claim(claim.text, form[claim.higher], form[claim.lower])
        for claim in claims
        if claim.higher in form and claim.lower in form
    )


def claims_table(results: Results, claims: Sequence[Claim]) -> str:
    """A Markdown table: for each claim the differences between its arms, bold where their interval leaves out zero.

    Args:
        results: Of all arms.
        claims: Rows; those whose arms were not both run say so.
    """
    rows = []
    for claim in claims:
        found = {measure: results.difference(claim.higher, claim.lower, measure) for measure in results.measures}
        rows.append([claim.text, *map(_difference, found.values()), _verdict(found[MAIN_MEASURE])])
    return markdown(rows, ["claim", *results.measures, f"{MAIN_MEASURE} says"])


def _difference(found: Estimate | None) -> str:
    if found is None:
        return "-"
    if math.isnan(found.half_width):
        return f"{100 * found.mean:+.1f}"
    low, high = found.mean - found.half_width, found.mean + found.half_width
    text = f"{100 * found.mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"**{text}**" if found.leaves_out_zero else text


def _verdict(found: Estimate | None) -> str:
    if found is None:
        return "not run"
    if math.isnan(found.half_width):
        return "one seed decides nothing"
    if not found.leaves_out_zero:
        return "not told apart"
    return "holds" if found.mean > 0 else "the opposite"
