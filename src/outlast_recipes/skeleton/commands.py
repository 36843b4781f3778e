"""The verbs of skeleton."""

from __future__ import annotations

import outlast
from outlast_recipes.common.data_verbs import get
from outlast_recipes.skeleton import (
    command_check,
    command_evaluate,
    command_predict,
    command_prepare,
    command_teacher,
)

COMMANDS = (
    get(
        "skeleton",
        "NTU RGB+D is given on request by its authors; NW-UCLA and UTKinect-Action3D are on the pages of theirs.",
    ),
    outlast.Command(
        "data prepare",
        "prepare one memory-mapped store from a folder of skeleton files",
        command_prepare.arguments,
        command_prepare.run,
    ),
    outlast.Command(
        "data check",
        "count a store by split and class; find missing, damaged and duplicate clips",
        command_check.arguments,
        command_check.run,
    ),
    outlast.Command(
        "evaluate",
        "top-1, top-5, classes, confusion matrix, size and latency of a trained run",
        command_evaluate.arguments,
        command_evaluate.run,
    ),
    outlast.Command(
        "teacher-logits",
        "write a trained run's logits on views of its training clips, for students",
        command_teacher.arguments,
        command_teacher.run,
    ),
    outlast.Command(
        "predict",
        "the five likeliest actions of one file, and a picture of the joints that decided",
        command_predict.arguments,
        command_predict.run,
    ),
)
