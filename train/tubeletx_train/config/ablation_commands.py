"""The commands that run an arm of the paper's ablations."""

from __future__ import annotations

from collections.abc import Iterator

from tubeletx_train.config.ablations import AblationTable, Arm, canonical_arm
from tubeletx_train.config.recipes import load_recipe

_RELEASED = "protocol/released"

# The manifest that each downstream experiment trains on.
MANIFESTS = {
    "ucf_low_shot": "ucf101",
    "gym_low_shot": "gym99",
    "ssv2_sub": "ssv2",
    "ub_s1": "ub_s1",
    "hmdb51": "hmdb51",
}


def arm_commands(table: AblationTable, arm: Arm, protocol: str) -> Iterator[str]:
    """Pretraining, then a fine-tuning for each column."""
    name = canonical_arm(arm.name)
    pretrain = f"tubeletx-train pretrain --config {name}"
    if protocol == "released":
        pretrain += f" --config {_RELEASED} --run.output {_output(name, protocol)}"
    yield pretrain
    for column in table.columns:
        yield finetune_command(arm, column, protocol)


def finetune_command(arm: Arm, column: str, protocol: str) -> str:
    """The fine-tuning of an arm's pretraining on the experiment of a column."""
    name = canonical_arm(arm.name)
    recipe = f"downstream/released/{column}" if protocol == "released" else f"downstream/{column}"
    output = _output(name, protocol)
    return (
        f"tubeletx-train finetune --config {recipe} --checkpoint {output} --method {name} "
        f"--data.train manifests/{MANIFESTS[column]}.csv --run.output {output}/{column}"
    )


def _output(name: str, protocol: str) -> str:
    output = load_recipe(name)["run"]["output"]
    return f"{output}-released" if protocol == "released" else str(output)
