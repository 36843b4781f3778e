"""Distillation: teacher logits on views that student and teacher share, and four losses.

LOGITS.safetensors    `logits` (N, K, C) float16; in its metadata: format, the store's hash, names of the clips,
                      classes, split, seed, frames and strength of the views, the teacher's run and step, and a
                      hash of the logits

Logits on clips as they are in the store would not fit the student's changed views (Beyer et al., CVPR 2022): so K views
of each clip are looked at, and the student makes the same ones again from the seed. Temperature is applied when they
are read, never stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import outlast
from outlast_recipes.skeleton.augment import Batch, Strength
from outlast_recipes.skeleton.config import Loss
from outlast_recipes.skeleton.store import Store

TEMPERATURES: dict[Loss, float] = {"kl": 4.0, "standardised": 2.0, "dkd": 4.0, "dist": 1.0}
"""Of the papers; see the functions below."""

FORMAT = 1


@dataclass(frozen=True)
class TeacherFacts:
    """The facts of a file of teacher logits.

    Attributes:
        data: hash of the store.
        names: of the clips, in the order of the logits.
        classes: C.
        split: words that say which part of which split.
        seed, frames, strength: of the views.
        teacher: run and step that made them.
    """

    data: str
    names: list[str]
    classes: int
    split: str
    seed: int
    frames: int
    strength: Strength
    teacher: str


def write(path: Path, logits: NDArray[np.float16], about: TeacherFacts) -> None:
    """Write a file of logits, whole or not at all.

    Args:
        path: ends in .safetensors.
        logits: (N, K, C).
        about: what they belong to.
    """
    facts = {"format": FORMAT, "hash": _hash(logits), **asdict(about)}
    temporary = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file({"logits": np.ascontiguousarray(logits)}, temporary, {"about": json.dumps(facts)})
    temporary.replace(path)


class TeacherLogits:
    """A file of logits, compared with the data that a student is trained on.

    Args:
        path: the file, or a folder that holds exactly one, as Kaggle attaches data sets.

    Attributes:
        about: what they belong to.
        views: K.
        hash: of the logits and all that they belong to.

    Raises:
        outlast.DataError: there is no such file, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = _the_file(path)
        try:
            with safetensors.safe_open(self.path, "numpy") as opened:
                facts: dict[str, Any] = json.loads((opened.metadata() or {})["about"])
                self._logits: NDArray[np.float16] = opened.get_tensor("logits")
            written, form = facts.pop("hash"), facts.pop("format")
            self.about = TeacherFacts(**{**facts, "strength": Strength(**facts["strength"])})
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else error
            raise outlast.DataError(
                f"{self.path} is not a file of teacher logits ({why}). Write one with: outlast teacher-logits "
                "skeleton RUN"
            ) from error
        if form != FORMAT:
            raise outlast.DataError(
                f"{self.path} has format {form}; this version reads {FORMAT}. Write it again "
                "with: outlast teacher-logits skeleton RUN"
            )
        if written != _hash(self._logits):
            raise outlast.DataError(
                f"{self.path} is damaged: its logits do not match their hash. Write it again with: outlast "
                "teacher-logits skeleton RUN"
            )
        self.views = self._logits.shape[1]
        self.hash = hashlib.blake2b(json.dumps([written, facts], sort_keys=True).encode(), digest_size=16).hexdigest()
        self._rows = {name: row for row, name in enumerate(self.about.names)}

    def check(self, store: Store, names: Sequence[str], classes: int, frames: int) -> None:
        """Refuse logits of other clips, classes or views.

        Args:
            store: what the student is trained on.
            names: of the clips of its training part, all of them.
            classes: of the student.
            frames: of its views.

        Raises:
            outlast.DataError: they do not fit; names the first difference.
        """
        about = self.about
        if about.data != store.hash:
            raise outlast.DataError(
                f"{self.path} belongs to data with the hash {about.data[:12]}, and {store.folder} has "
                f"{store.hash[:12]}. Give logits for this store; write them with: outlast teacher-logits skeleton RUN"
            )
        strangers = sorted(self._rows.keys() ^ set(names))
        if strangers or len(about.names) != len(self._logits):
            first = f", such as {strangers[0]}" if strangers else ""
            raise outlast.DataError(
                f"{self.path} has logits for {len(about.names)} clips ({about.split}), and this training has "
                f"{len(names)} training clips; {len(strangers)} clips are in only one of the two{first}. Train the "
                "teacher and the student on the same split, so that the teacher has seen no clip of the student's "
                "validation or test."
            )
        if (about.classes, about.frames) != (classes, frames):
            raise outlast.DataError(
                f"{self.path} has {about.classes} classes and views of {about.frames} frames; this training has "
                f"{classes} classes and {frames} frames. Write the logits with a teacher of the same classes and "
                "frames."
            )

    def of(self, store: Store, batch: Batch, view: int) -> Tensor:
        """(N, C) float32: the teacher's logits on one view of these clips."""
        rows = [self._rows[store.entries[number].name] for number in batch.numbers.tolist()]
        return torch.from_numpy(self._logits[rows, view].astype(np.float32))


def _the_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.rglob("*.safetensors"))
    if len(found) != 1:
        raise outlast.DataError(
            f"{path} holds {len(found)} safetensors files; expected one file of teacher logits. Give the path of the "
            "file."
        )
    return found[0]


def _hash(logits: NDArray[np.float16]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(logits), digest_size=16).hexdigest()


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, loss: Loss, temperature: float | None = None
) -> Tensor:
    """The distillation loss between student and teacher logits, averaged over clips; zero for equal logits.

    Args:
        student, teacher: (N, C) float32.
        labels: (N,); "dkd" treats the labelled class apart.
        loss: "kl" (Hinton et al., 2015), "standardised" (Sun et al., CVPR 2024), "dkd" (Zhao et al., CVPR 2022) or
            "dist" (Huang et al., NeurIPS 2022).
        temperature: that of TEMPERATURES when None.
    """
    warm = TEMPERATURES[loss] if temperature is None else temperature
    if loss == "kl":
        return _kl(student / warm, teacher / warm) * warm**2
    if loss == "standardised":
        return _kl(_standardised(student) / warm, _standardised(teacher) / warm) * warm**2
    if loss == "dkd":
        return _decoupled(student / warm, teacher / warm, labels) * warm**2
    ours, theirs = (student / warm).softmax(1), (teacher / warm).softmax(1)
    return (_unlike(ours, theirs) + _unlike(ours.T, theirs.T)) * warm**2


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True)


def _standardised(logits: Tensor) -> Tensor:
    """Mean 0 and deviation 1 for each clip: what matters is their order, not their size."""
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True, correction=0) + 1e-6)


TARGET, OTHERS = 1.0, 8.0  # weights of the two terms of DKD; the paper uses 1 and 1 to 8 by pair of networks


def _decoupled(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """The labelled class against all others, and the others among themselves."""
    labelled = F.one_hot(labels, student.shape[1]).bool()

    def binary(logits: Tensor) -> Tensor:
        """(N, 2) log-probabilities of the labelled class and of the rest."""
        log = logits.log_softmax(1)
        return torch.stack([log[labelled], log.masked_fill(labelled, -torch.inf).logsumexp(1)], 1)

    ours, theirs = binary(student), binary(teacher)
    target = (theirs.exp() * (theirs - ours)).sum(1).mean()
    rest = (len(labels), student.shape[1] - 1)
    others = _kl(student[~labelled].view(rest), teacher[~labelled].view(rest))
    return TARGET * target + OTHERS * others


def _unlike(ours: Tensor, theirs: Tensor) -> Tensor:
    """1 less Pearson's correlation of rows, averaged."""
    ours, theirs = ours - ours.mean(1, keepdim=True), theirs - theirs.mean(1, keepdim=True)
    return 1 - F.cosine_similarity(ours, theirs, dim=1, eps=1e-8).mean()
