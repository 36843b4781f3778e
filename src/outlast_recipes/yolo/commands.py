"""The verbs of yolo."""

from __future__ import annotations

import outlast
from outlast_recipes.common.data_verbs import get, nothing
from outlast_recipes.yolo import check, command_evaluate, command_predict, command_rectify, pipeline

COMMANDS = (
    get("yolo", "Pictures and labels are your own, or of a data set with its own terms."),
    nothing(
        "data prepare", "yolo prepares nothing: a training reads pictures, and labels of YOLO or COCO, as they are."
    ),
    outlast.Command(
        "data check",
        "check images and labels: damaged, out of range, out of order, in two splits; class balance",
        check.arguments,
        check.run,
    ),
    outlast.Command(
        "evaluate",
        "mAP, quad IoU and corner error of a trained run, with its predictions",
        command_evaluate.arguments,
        command_evaluate.run,
    ),
    outlast.Command(
        "pipeline",
        "check, train and publish in ten steps, which can also be run one by one",
        pipeline.arguments,
        pipeline.run,
    ),
    outlast.Command(
        "predict",
        "find objects in pictures with a trained run: drawings, and JSON",
        command_predict.arguments,
        command_predict.run,
    ),
    outlast.Command(
        "rectify",
        "cut out and straighten each plate or number in pictures",
        command_rectify.arguments,
        command_rectify.run,
    ),
)
