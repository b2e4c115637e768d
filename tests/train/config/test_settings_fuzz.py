"""Whatever is given for a setting of a command: it is taken, or refused with one line."""

import math

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.labelled import EvaluateConfig, FinetuneConfig
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.repetition import CountTestConfig, CountVideosConfig, RepetitionConfig
from tubeletx_train.config.settings import describe_type, option_types
from tubeletx_train.config.tree import flatten, to_tree
from tubeletx_train.data.examine import CheckConfig
from tubeletx_train.data.shards import ShardsConfig
from tubeletx_train.demo import DemoConfig
from tubeletx_train.evaluation.attention import AttentionConfig
from tubeletx_train.evaluation.pair_retrieval import RetrievalConfig
from tubeletx_train.evaluation.probe import ProbeConfig
from tubeletx_train.evaluation.tables import TableConfig
from tubeletx_train.models.weights.export_checkpoint import ExportConfig
from tubeletx_train.pretrain.preview import PreviewConfig

COMMANDS = {
    PretrainConfig: ["--data.videos", "x"],
    PreviewConfig: ["--data.videos", "x"],
    FinetuneConfig: ["--checkpoint", "x"],
    EvaluateConfig: ["--checkpoint", "x"],
    RepetitionConfig: ["--checkpoint", "x", "--data.train", "x"],
    CountTestConfig: ["--checkpoint", "x"],
    CountVideosConfig: ["--checkpoint", "x", "--videos", "x"],
    RetrievalConfig: ["--checkpoint", "x", "--videos", "x"],
    ProbeConfig: ["--checkpoint", "x", "--videos", "x"],
    AttentionConfig: ["--checkpoints", "[x]", "--videos", "x"],
    CheckConfig: ["--videos", "x"],
    ShardsConfig: ["--videos", "x", "--output", "x"],
    TableConfig: ["--number", "7"],
    ExportConfig: ["--checkpoint", "x"],
    DemoConfig: [],
}
ODD = """
None null nan .nan -.inf 1e400 -1 0 1.5 1e3 0x10 1_000 yes {} [] [1 [nan] [1,2] [2,1] 1,2 (1,2) {a:1} &a[*a] 2001-15-44
!!python/name:os ' \\ % $HOME -- - ü a:b
"""
TEXTS = st.one_of(
    st.sampled_from(["", " ", "a: b", "- 1", "{a: 1}", "&a [*a]", "\x00", "\u200b", "9" * 400, *ODD.split()]),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=12),
)


@pytest.mark.parametrize("config_class", list(COMMANDS))
def test_every_type_has_words(config_class):
    for name, hint in option_types(config_class).items():
        assert "typing" not in describe_type(hint), name


@pytest.mark.parametrize("config_class", list(COMMANDS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_on_the_command_line(config_class, data):
    name = data.draw(st.sampled_from(list(option_types(config_class))))
    text = data.draw(TEXTS)
    try:
        config = parse_config(config_class, [*COMMANDS[config_class], f"--{name}={text}"], prog="test")
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017 - that there is one is no requirement
        return
    for value in flatten(to_tree(config)).values():
        assert not isinstance(value, float) or math.isfinite(value), name


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_in_a_recipe(tmp_path, data):
    """Of its own making, and of any text at all."""
    values = st.one_of(TEXTS, st.integers(), st.floats(), st.booleans(), st.none(), st.dates(), st.lists(st.integers()))
    name = data.draw(st.sampled_from(list(option_types(PretrainConfig))))
    *sections, last = name.split(".")
    tree = {last: data.draw(values)}
    for section in reversed(sections):
        tree = {section: tree}
    written = data.draw(st.one_of(st.just(yaml.safe_dump(tree, allow_unicode=True)), st.text(max_size=20)))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(written, encoding="utf-8", errors="surrogateescape")
    try:
        parse_config(PretrainConfig, ["--data.videos", "x", "--config", str(recipe)], prog="test")
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017
