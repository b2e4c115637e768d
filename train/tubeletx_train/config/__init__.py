"""Typed configurations and recipes."""

from tubeletx_train.config.pretrain import ContrastConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig
from tubeletx_train.config.recipes import describe, load_recipe, recipe_names

__all__ = [
    "ContrastConfig",
    "ModelConfig",
    "OptimConfig",
    "PretrainConfig",
    "RunConfig",
    "describe",
    "load_recipe",
    "recipe_names",
]
