"""Labels of manifests as what a loss takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tubeletx_train.config.labelled import LabelledDataConfig, Task
from tubeletx_train.data import DataError, VideoRecord, class_names
from tubeletx_train.data.manifest import are_numbers

_CLASSES_SHOWN = 5


class Targets:
    """Turns a record's labels into a class index, or into a vector of zeros and ones.

    Attributes:
        task: "recognition" or "multilabel".
        classes: Their names by index.
        num_classes: Outputs of the network.
    """

    def __init__(self, task: Task, classes: Sequence[str], num_classes: int | None = None) -> None:
        """Args: see `class_names` for `classes`; `num_classes` may exceed their number, but not fall short of it."""
        if num_classes is not None and num_classes < len(classes):
            raise DataError(f"the manifests have {len(classes)} classes, data.num_classes says {num_classes}")
        self.task = task
        self.classes = list(classes)
        self.num_classes = num_classes or len(classes)
        self._numbers = are_numbers(classes)
        self._index = {self._key(name): index for index, name in enumerate(classes)}

    def _key(self, label: str) -> str:
        """The label as it is compared: 01 is 1 where classes are numbers."""
        return str(int(label)) if self._numbers and are_numbers([label]) else label

    @classmethod
    def of(cls, task: Task, records: Sequence[VideoRecord], config: LabelledDataConfig) -> Targets:
        """The classes of all splits' records. Raises DataError where a record lacks the label that the task needs."""
        for record in records:
            if task == "recognition" and record.label is None:
                raise DataError(f"{record.path}: has no label; fine-tuning needs a manifest whose every row has one")
        if task == "multilabel" and not any(record.labels for record in records):
            raise DataError('none of the videos has labels; task "multilabel" needs the manifest\'s column `labels`')
        return cls(task, class_names(records, config.num_classes), config.num_classes)

    def index(self, record: VideoRecord) -> int:
        """The class of a record. Raises DataError for one that the network has no output for."""
        if record.label is None:
            raise DataError(f"{record.path}: has no label")
        return self._of_label(record, record.label)

    def _of_label(self, record: VideoRecord, label: str) -> int:
        key = self._key(label)
        if key not in self._index:
            names = ", ".join(self.classes[:_CLASSES_SHOWN]) + (" ..." if len(self.classes) > _CLASSES_SHOWN else "")
            raise DataError(f"{record.path}: label {label!r} is not one of the {len(self.classes)} classes ({names})")
        return self._index[key]

    def of_video(self, record: VideoRecord) -> Tensor:
        """The target of the whole video: int64 scalar, or (C,) float32."""
        return self.of_stretch(record, 0.0, float("inf"))

    def of_stretch(self, record: VideoRecord, start: float, end: float) -> Tensor:
        """The target of what lies between two times, in seconds from the beginning of the file.

        Several labels count where they overlap it; a single one holds for the whole video.
        """
        if self.task == "recognition":
            return torch.tensor(self.index(record))
        target = torch.zeros(self.num_classes)
        for item in record.labels:
            index = self._of_label(record, item.label)
            if item.start <= end and item.end >= start:
                target[index] = 1
        return target
