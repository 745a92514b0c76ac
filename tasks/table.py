"""The tasks by name."""

from typing import TypeAlias

from app.errors import UsageError
from tasks.classification import BINARY, MULTICLASS, MULTILABEL, Classification
from tasks.detection import DETECTION, Detection

Task: TypeAlias = Classification | Detection
"""A task of any kind."""
TASKS: dict[str, Task] = {task.name: task for task in (BINARY, MULTICLASS, MULTILABEL, DETECTION)}


def classes_of(task: Task) -> Classification:
    """Returns the task if it is classification.

    Raises:
        UsageError: it is another task.
    """
    if isinstance(task, Classification):
        return task
    raise UsageError("This is for models that give classes to whole examples, and this one finds boxes in them.")


def choose_task(num_classes: int, multi_label: bool, has_boxes: bool = False) -> Task:
    """Returns the task that the labels of a data set ask for."""
    if has_boxes:
        return DETECTION
    return MULTILABEL if multi_label else BINARY if num_classes == 2 else MULTICLASS
