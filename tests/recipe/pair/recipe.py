"""A chain of two small stages of NumPy: a mean is learned, then a walk towards it, which also draws random numbers."""

import numpy as np

import outlast


class Config(outlast.Config):
    steps: int = outlast.setting(6, "steps of each stage", on_resume="free")
    alone: bool = outlast.setting(False, "train a walk to nowhere instead", on_resume="fixed")
    stop_at: str = outlast.setting("", "stage:step at which the session is to end", on_resume="session")


class Point:
    def __init__(self):
        self.at = np.zeros(3)

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def train_mean(run, config, inputs):
    assert inputs == {}
    walk(run, config, np.zeros(3))


def train_walk(run, config, inputs):
    walk(run, config, inputs["mean"].part()["at"])


def walk(run, config, goal):
    outlast.seed_everything(config.seed)
    point = Point()
    run.track(model=point)
    for step in run.steps(config.steps):
        point.at = point.at + 0.1 * (goal - point.at) + np.random.standard_normal(3)
        run.log(distance=np.abs(point.at - goal).sum())
        if f"{run.id.rpartition('.')[2]}:{step}" == config.stop_at:
            run.session.request_stop("budget", "a test asks")


recipe = outlast.Recipe(
    name="pair",
    summary="a mean, and a walk towards it",
    Config=Config,
    stages=(
        outlast.Stage("mean", train_mean, metric="distance", mode="min"),
        outlast.Stage("walk", train_walk, after={"mean": "latest"}),
        outlast.Stage("stroll", train_mean, metric="distance", mode="min", instead=lambda config: config.alone),
    ),
)
