"""The verbs of sign."""

from __future__ import annotations

import outlast
from outlast_recipes.common.data_verbs import get
from outlast_recipes.sign import command_check, command_evaluate, command_predict, command_prepare

COMMANDS = (
    get("sign", "Its clips are given by the authors of each data set, such as FSL-105, under their own terms."),
    outlast.Command(
        "data prepare",
        "make .npz files of videos: keypoints by MediaPipe, image features by InceptionV3",
        command_prepare.arguments,
        command_prepare.run,
    ),
    outlast.Command(
        "data check",
        "every .npz file and every label that is wrong, with its reason",
        command_check.arguments,
        command_check.run,
    ),
    outlast.Command(
        "evaluate",
        "gloss, category, occluded clips, classes, confusion matrix, size and latency of a trained run",
        command_evaluate.arguments,
        command_evaluate.run,
    ),
    outlast.Command(
        "predict",
        "the likeliest glosses and categories of one file, and the frames that decided",
        command_predict.arguments,
        command_predict.run,
    ),
)
