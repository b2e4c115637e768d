"""Data sets by name, each with a parser of the list files it is published with."""

from tubeletx_train.data.datasets.charades import CHARADES
from tubeletx_train.data.datasets.diving48 import DIVING48
from tubeletx_train.data.datasets.finegym import FX_S1, GYM99, GYM288, UB_S1
from tubeletx_train.data.datasets.folder import read_folder
from tubeletx_train.data.datasets.hmdb51 import HMDB51
from tubeletx_train.data.datasets.kinetics import KINETICS400, MINI_KINETICS
from tubeletx_train.data.datasets.lists import PublishedDataset
from tubeletx_train.data.datasets.path_lists import PATH_LISTS
from tubeletx_train.data.datasets.ssv2 import SSV2
from tubeletx_train.data.datasets.ucf101 import UCF101
from tubeletx_train.data.datasets.ucfrep import UCFREP

DATASETS: dict[str, PublishedDataset] = {
    "kinetics400": KINETICS400,
    "mini_kinetics": MINI_KINETICS,
    "ucf101": UCF101,
    "hmdb51": HMDB51,
    "ssv2": SSV2,
    "gym99": GYM99,
    "gym288": GYM288,
    "fx_s1": FX_S1,
    "ub_s1": UB_S1,
    "diving48": DIVING48,
    "ucfrep": UCFREP,
    "charades": CHARADES,
    "lists": PATH_LISTS,
}

__all__ = ["DATASETS", "PublishedDataset", "read_folder"]
