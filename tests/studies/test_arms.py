import pytest

from studies.arms import (
    FULL,
    REFERENCES,
    all_arms,
    arm_recipe,
    chosen_arms,
    description,
    groups,
    reuse_of,
    shorter_form_of,
    times_of,
)
from studies.claims import PAPER_CLAIMS, longer
from studies.videos import write_study_manifest
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.tree import flatten, merge
from tubeletx_train.data import DataError, VideoRecord, read_manifest, write_manifest


def test_every_arm_is_told_apart_and_named():
    arms = all_arms()
    assert len(set(arms)) == len(arms)
    assert all(description(arm) for arm in arms)
    assert set(REFERENCES) | {FULL} <= set(groups()["paper"])


def test_arms_are_chosen_by_name_and_group():
    assert chosen_arms(["temporal", "paper"])[0] == "temporal"
    assert set(chosen_arms(["temporal", "paper"])) == set(groups()["paper"])
    with pytest.raises(UsageError, match="did you mean 'temporal'"):
        chosen_arms(["temporl"])


@pytest.mark.parametrize("size", ["small", "paper"])
@pytest.mark.parametrize("arm", all_arms())
def test_every_arm_is_a_recipe_of_pretraining(arm, size):
    config_from_tree(PretrainConfig, merge(arm_recipe(arm, size), {"data": {"videos": "v"}}), arm)


def test_arms_differ_from_the_full_method_by_one_thing():
    full = flatten(arm_recipe(FULL))
    allowed = {
        "temporal": {"contrast.mode", "tubelets.transforms", "optim.lr"},
        "static": {"tubelets.motion", "tubelets.transforms"},
        "linear": {"tubelets.motion", "tubelets.transforms"},
        "nonlinear": {"tubelets.transforms"},
        "one_tubelet": {"tubelets.num_tubelets"},
        "three_tubelets": {"tubelets.num_tubelets"},
        "rotation_25": {"data.split"},
        "temperature_20": {"contrast.temperature"},
        "reversed": {"contrast.own_negatives"},
        "per_clip_patches": {"contrast.patches"},
        "sigma_3": {"tubelets.sigma"},
        "tracks": {"tracks.weight"},
        "leaves": {"data.source", "data.split"},
    }
    for arm, names in allowed.items():
        other = flatten(arm_recipe(arm))
        assert {name for name in full.keys() | other.keys() if full.get(name) != other.get(name)} == names


def test_a_longer_arm_is_the_usual_one_for_more_steps_on_the_same_clips():
    assert flatten(arm_recipe("static_long")) == flatten(arm_recipe("static"))
    assert (times_of("static_long"), reuse_of("static_long")) == (4, 16)
    assert (times_of("static"), reuse_of("static")) == (1, None)
    usual, other = flatten(arm_recipe("temporal")), flatten(arm_recipe("queue_long_temporal"))
    queue = {"contrast.queue_size", "contrast.batch_negatives", "contrast.momentum"}
    assert {name for name in usual if usual[name] != other[name]} == queue


@pytest.mark.parametrize("group", ["long", "paper_loss"])
def test_claims_are_carried_over_to_longer_arms(group):
    claims = longer(PAPER_CLAIMS, group)
    compared = {shorter_form_of(arm) for claim in claims for arm in (claim.higher, claim.lower)}
    assert {FULL, "temporal", "static", "linear", "nonlinear"} <= compared
    assert all(arm in groups()[group] for claim in claims for arm in (claim.higher, claim.lower))


def test_every_claim_of_the_paper_is_settled_on_the_plateau():
    assert len(longer(PAPER_CLAIMS, "long")) == len(PAPER_CLAIMS)


def test_a_size_gives_way_to_what_makes_the_arm():
    paper = flatten(arm_recipe("color_shared", "paper"))
    assert paper["model.encoder"] == "r2plus1d_18"
    assert paper["data.crop_size"] == 112
    assert paper["color.shared"] is True
    assert flatten(arm_recipe("temperature_07", "paper"))["contrast.temperature"] == 0.07
    assert flatten(arm_recipe(FULL, "paper"))["contrast.temperature"] == 0.2


def test_videos_are_split_once_and_for_all(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.mp4").touch()
    manifest = write_study_manifest(str(folder), tmp_path / "videos.csv")
    splits = {}
    for record in read_manifest(manifest):
        splits.setdefault(record.split, []).append(record.path)
    assert {name: len(paths) for name, paths in splits.items()} == {
        "train": 7,
        "train_10": 2,
        "train_25": 2,
        "train_50": 3,
        "held_out": 3,
    }
    assert not set(splits["train"]) & set(splits["held_out"])
    assert set(splits["train_10"]) <= set(splits["train_25"]) <= set(splits["train_50"]) <= set(splits["train"])
    again = write_study_manifest(str(folder), tmp_path / "again.csv")
    assert [r.path for r in read_manifest(again)] == [r.path for r in read_manifest(manifest)]


def test_a_manifest_may_say_which_videos_are_held_out(tmp_path):
    given = tmp_path / "given.csv"
    records = [VideoRecord(f"{tmp_path}/{i}.mp4", split="held_out" if i > 7 else "train") for i in range(10)]
    write_manifest(given, records)
    rows = read_manifest(write_study_manifest(str(given), tmp_path / "out.csv"))
    assert [r.path for r in rows if r.split == "held_out"] == [r.path for r in records[8:]]
    assert sum(r.split == "train_50" for r in rows) == 4
    write_manifest(given, records[:8])
    with pytest.raises(DataError, match="one or more held out, has 8 and 0"):
        write_study_manifest(str(given), tmp_path / "out.csv")
