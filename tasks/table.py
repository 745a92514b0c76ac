"""Every task by its name."""

from typing import TypeAlias

from tasks.classification import BINARY, MULTICLASS, MULTILABEL, Classification

Task: TypeAlias = Classification
"""A task of any kind; with a second kind, the union of both."""
TASKS: dict[str, Task] = {task.name: task for task in (BINARY, MULTICLASS, MULTILABEL)}


def choose_task(num_classes: int, multi_label: bool) -> Task:
    """Returns the task that the labels of a data set ask for."""
    return MULTILABEL if multi_label else BINARY if num_classes == 2 else MULTICLASS
