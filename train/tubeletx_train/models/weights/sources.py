"""Where each method keeps its encoder: a table of key maps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_Renames = tuple[tuple[str, str], ...]

# The blocks of the released code: convolution and batch norm beside each other, by name.
_RELEASED_BLOCKS: _Renames = (
    (r"\bconv(\d)\.0\.0\.", r"conv\1.conv_s."),
    (r"\bconv(\d)\.0\.1\.", r"conv\1.bn_s."),
    (r"\bconv(\d)\.0\.3\.", r"conv\1.conv_t."),
    (r"\bconv(\d)\.0\.weight$", r"conv\1.conv.weight"),
    (r"\bconv(\d)\.1\.", r"bn\1."),
    (r"\bdownsample\.0\.", "downsample.conv."),
    (r"\bdownsample\.1\.", "downsample_bn."),
)
_RELEASED_2PLUS1D: _Renames = (
    (r"^stem\.0\.", "stem.conv_s."),
    (r"^stem\.1\.", "stem.bn_s."),
    (r"^stem\.3\.", "stem.conv_t."),
    (r"^stem\.4\.", "stem.bn_t."),
    *_RELEASED_BLOCKS,
)
_RELEASED_3D: _Renames = ((r"^stem\.0\.", "stem.conv."), (r"^stem\.1\.", "stem.bn."), *_RELEASED_BLOCKS)

_NUMBERED_STAGES: _Renames = ((r"^stem\.", "0."), (r"^layer(\d)\.", r"\1."))

# The I3D port whose units are called Conv3d_1a_7x7, Mixed_3b.b1a and so on.
_PYTORCH_I3D: _Renames = (
    (r"^conv3d_", "Conv3d_"),
    (r"^mixed_", "Mixed_"),
    (r"\.branch_0\.", ".b0."),
    (r"\.branch_(\d)\.0\.", r".b\1a."),
    (r"\.branch_(\d)\.1\.", r".b\1b."),
    (r"\.batch3d\.", ".bn."),
)


@dataclass(frozen=True)
class WeightSource:
    """How a kind of file names an encoder's tensors.

    Attributes:
        name: What it is called in reports.
        prefix: What stands before the encoder's names.
        renames: Regular expressions and their replacements, applied in turn to our names.
    """

    name: str
    prefix: str = ""
    renames: _Renames = ()

    def keys(self, names: Iterable[str]) -> dict[str, str]:
        """Our names of tensors to the file's."""
        return {name: self.prefix + self._renamed(name) for name in names}

    def _renamed(self, name: str) -> str:
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name


TORCHVISION = WeightSource("torchvision")
RELEASED_2PLUS1D = WeightSource("tubelet_contrast or CtP", "backbone.", _RELEASED_2PLUS1D)
RELEASED_3D = WeightSource("tubelet_contrast or CtP, R3D", "backbone.", _RELEASED_3D)

# The first of those that fit a file equally well is reported.
WEIGHT_SOURCES = (
    WeightSource("tubeletx pretraining", "query_net.encoder."),
    WeightSource("tubeletx fine-tuning", "encoder."),
    TORCHVISION,
    RELEASED_2PLUS1D,
    RELEASED_3D,
    WeightSource("MoCo or VideoMoCo", "module.encoder_q."),
    WeightSource("RSPNet", "encoder_q.encoder.base_network.", _NUMBERED_STAGES),
    WeightSource("TCLR", "module.0."),
    WeightSource("Pretext-Contrast", "module.base_network.", _NUMBERED_STAGES),
    WeightSource("GDT", "video_network.base."),
    WeightSource("SeLaVi", "module.video_network.base."),
    WeightSource("AVID-CMA", "module.video_model."),
    WeightSource("pytorch-i3d", "", _PYTORCH_I3D),
)

_PARALLEL = "module."

# A file for each architecture of other methods that is not built here has a tensor of such a name.
_NOT_BUILT = ((r"(^|\.)conv2x\.(0\.)?spt_conv1\.weight$", "AVID-CMA's own R(2+1)D, with a 3D stem and max pooling"),)
# TCLR's last stage begins with one whole convolution where the others' have a factored one.
_TCLR_LAYER = re.compile(r"(^|\.)layer4\.0\.conv1\.0\.weight$")
_FACTORED_LAYER = re.compile(r"(^|\.)layer1\.0\.conv1\.0\.0\.weight$")


def not_built(file_keys: Iterable[str]) -> str | None:
    """What a file holds if that is an architecture that is not built here."""
    names = list(file_keys)
    return next((text for pattern, text in _NOT_BUILT if any(re.search(pattern, name) for name in names)), None)


def is_tclr_network(file_keys: Iterable[str]) -> bool:
    """Whether a file's network is R(2+1)D-18 with TCLR's last stage."""
    names = list(file_keys)
    return any(map(_TCLR_LAYER.search, names)) and any(map(_FACTORED_LAYER.search, names))


def detect_source(names: Iterable[str], file_keys: Mapping[str, object]) -> WeightSource:
    """The source under which most of an encoder's tensors are found in a file, behind whatever prefix.

    Networks that were trained in parallel have "module." before every name, or lost it when they were saved; each
    source is tried both ways, as its method publishes it first. Where none of them fits half of the encoder, every
    prefix counts that the file has before a source's names, the source then being called by those.
    """
    names = list(names)
    candidates = list(WEIGHT_SOURCES)
    for source in WEIGHT_SOURCES:
        bare = source.prefix.removeprefix(_PARALLEL)
        other = bare if bare != source.prefix else _PARALLEL + bare
        candidates.append(WeightSource(source.name, other, source.renames))

    def matched(source: WeightSource) -> int:
        return sum(key in file_keys for key in source.keys(names).values())

    best = max(candidates, key=matched)
    if 2 * matched(best) < len(names):  # a file of a known kind is not searched for another, fuller network
        best = max((best, *_behind_any_prefix(names, file_keys)), key=matched)
    return best


def _behind_any_prefix(names: Sequence[str], file_keys: Iterable[str]) -> Iterator[WeightSource]:
    """The spellings of `WEIGHT_SOURCES` behind each prefix that the file has before one of three tensors' names."""
    spellings = {source.renames: source for source in reversed(WEIGHT_SOURCES)}
    for renames, source in reversed(spellings.items()):
        spelt = WeightSource("", "", renames).keys(names[:: max(len(names) // 3, 1)]).values()
        endings = tuple(f".{name}" for name in spelt)
        found = {key.removesuffix(ending[1:]): None for key in file_keys for ending in endings if key.endswith(ending)}
        title = TORCHVISION.name if not renames else source.name
        yield WeightSource(f"names of {title}", "", renames)
        for prefix in found:
            yield WeightSource(f"names of {title} behind {prefix}", prefix, renames)
