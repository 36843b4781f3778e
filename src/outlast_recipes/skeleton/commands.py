"""What `outlast` offers for skeletons besides training: data prepare, data check, evaluate, teacher-logits, predict, and other forms to export."""

from __future__ import annotations

import functools
import json
import shlex
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import outlast
from outlast_recipes.common import classification as evaluation
from outlast_recipes.common import exporting
from outlast_recipes.common.clip_store import SHARD, Reader, Store, prepare, stands_twice, unread
from outlast_recipes.common.training import device_of
from outlast_recipes.skeleton import distill, ntu, nw_ucla, predict, utkinect
from outlast_recipes.skeleton.augment import Strength
from outlast_recipes.skeleton.bodies import Clip
from outlast_recipes.skeleton.layouts import KINECT_1, KINECT_2, LAYOUTS
from outlast_recipes.skeleton.model import macs, parameters
from outlast_recipes.skeleton.splits import split
from outlast_recipes.skeleton.views import Part, Views

Tell = Callable[[int, int], None]

NTU_120 = 114_480  # clips
SHOWN = 20  # refused files that are named
SESSION = 2  # cores of the smallest session that a forecast is made for


# data prepare -------------------------------------------------------------------------------------------------------


def _prepare_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="where the files lie, at any depth")
    parser.add_argument("--to", type=Path, required=True, metavar="STORE", help="folder of the store that is made")
    parser.add_argument(
        "--format",
        choices=("auto", "ntu", "nw-ucla", "utkinect"),
        default="auto",
        help="of the files (default: told by their names)",
    )
    parser.add_argument(
        "--class-names",
        metavar="FILE",
        help='a line for each class, from the first; or "ntu" for the published names (default: A001, A002, ...)',
    )
    parser.add_argument("--keep-missing", action="store_true", help="read the 535 clips of NTU's list too")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--replace", action="store_true", help="make a store anew that is there already")


def _prepare(values: Namespace, tell: Tell) -> Iterable[str]:
    files, read, layout, classes = found_in(values.folder, values.format)
    if values.class_names:
        classes = _ntu_names(files) if values.class_names == "ntu" else _lines(Path(values.class_names))
    left_out = [] if values.keep_missing else [path for path in files if path.name.partition(".")[0] in ntu.missing()]
    if left_out:
        gone = set(left_out)
        files = [path for path in files if path not in gone]
        yield f"{len(left_out)} of NTU's list of missing skeletons are left out (--keep-missing reads them)."
    if values.workers is not None and values.workers < 1:
        raise outlast.ConfigError(f"--workers is {values.workers}; expected at least 1.")
    now = unread(files, values.to, layout)
    nbytes = sum(path.stat().st_size for path in now if path.exists())
    begin = time.perf_counter()
    workers = values.workers or outlast.detect("auto").limits.cores or 1
    store = prepare(
        files, read, values.to, layout=layout, classes=classes, workers=workers, replace=values.replace, progress=tell
    )
    seconds = time.perf_counter() - begin
    size = sum(path.stat().st_size for path in values.to.iterdir())
    yield f"{values.to}: {len(store)} clips of {len(store.classes)} classes ({layout}), {size / 1e6:.1f} MB"
    if len(now) < len(files):
        yield f"{len(files) - len(now)} files had been read by an earlier call."
    busy = min(workers, -(-len(now) // SHARD))
    if now:
        yield f"Read {len(now)} files with {busy} {'process' if busy == 1 else 'processes'} in {seconds:.1f} s: {nbytes / 1e6 / seconds:.1f} MB/s of text, {len(now) / seconds:.0f} files/s"
    yield from _refused(store)
    if layout == KINECT_2.name and now:
        hours = NTU_120 / (len(now) / seconds) * busy / SESSION / 3600
        yield (
            f"At this rate the {NTU_120:,} clips of NTU RGB+D 120 take {hours:.2f} h on {SESSION} cores and {NTU_120 * size / len(store) / 1e9:.1f} GB."
        )
    yield f"Look at it with: outlast data check skeleton {shlex.quote(str(values.to))} --split {_usual_split(store)}"


def found_in(folder: Path, form: str) -> tuple[list[Path], Reader, str, Sequence[str]]:
    """The files of a data set, what reads them, their layout and the names of their classes.

    Raises:
        outlast.DataError: there are none, or of several kinds.
    """
    kinds: dict[str, tuple[str, Reader, str, Sequence[str]]] = {
        "ntu": ("*.skeleton", ntu.read_clip, KINECT_2.name, ()),
        "nw-ucla": ("a*_s*_e*_v*.json", nw_ucla.read_clip, KINECT_1.name, nw_ucla.CLASSES),
        "utkinect": ("joints_s*_e*.txt", _utkinect, KINECT_1.name, utkinect.CLASSES),
    }
    there = {name: sorted(folder.rglob(kinds[name][0])) for name in (kinds if form == "auto" else [form])}
    there = {name: files for name, files in there.items() if files}
    if len(there) != 1:
        expected = "expected .skeleton files of NTU RGB+D, .json of NW-UCLA or joints_*.txt of UTKinect"
        found = (
            f"holds {' and '.join(there)} files: choose one with --format"
            if there
            else f"holds no files that are known; {expected}"
        )
        raise outlast.DataError(
            f"{folder} {found}." if folder.is_dir() else f"{folder} is not a folder; unpack archives first."
        )
    ((name, files),) = there.items()
    _, read, layout, classes = kinds[name]
    return files, read, layout, classes


def _utkinect(path: Path) -> list[Clip]:
    return utkinect.read_clips(path, path.with_name("actionLabel.txt"))


def _ntu_names(files: Sequence[Path]) -> list[str]:
    """Published names, 60 when no file shows a later action and else 120."""
    names = [path.name.removesuffix(".skeleton") for path in files if path.suffix == ".skeleton"]
    if not names:
        raise outlast.ConfigError(
            "--class-names ntu is for .skeleton files of NTU RGB+D; these files are of another data set."
        )
    return ntu.actions()[: 120 if any(name[-3:] > "060" for name in names if name[-3:].isdigit()) else 60]


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise outlast.DataError(f"{path} cannot be read ({error}); expected a line for each class.") from error


def _refused(store: Store) -> Iterable[str]:
    if store.refused:
        yield f"{len(store.refused)} files were refused:"
    yield from (f"  {each.why}" for each in store.refused[:SHOWN])
    if len(store.refused) > SHOWN:
        yield f"  and {len(store.refused) - SHOWN} more: all stand in {store.folder / 'index.json'} below refused"


def _usual_split(store: Store) -> str:
    if store.layout == KINECT_2.name:
        return "xsub"
    return "cameras" if any(entry.camera for entry in store.entries) else "subjects --train-subjects 1,2,3,4,5"


# data check ---------------------------------------------------------------------------------------------------------


def _check_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("store", type=Path, help="folder of a prepared store")
    parser.add_argument("--split", help="xsub, xview, xset, cameras, or subjects (default: by the data)")
    parser.add_argument(
        "--train-subjects", metavar="N,N,...", default="", help="who is trained on, with --split subjects"
    )
    parser.add_argument(
        "--validate-subjects", type=int, metavar="N", help="training subjects to choose by (default: a tenth of them)"
    )
    parser.add_argument("--quick", action="store_true", help="do not read all positions and compare their hashes")


def _check(values: Namespace, tell: Tell) -> Iterable[str]:
    store = Store(values.store)
    words = [word.strip() for word in values.train_subjects.split(",") if word.strip()]
    if not all(word.isdigit() for word in words):
        raise outlast.ConfigError(
            f"--train-subjects is {values.train_subjects!r}; expected numbers, such as 1,3,5,7,9."
        )
    people = [int(word) for word in words]
    chosen = values.split or _usual_split(store).partition(" ")[0]
    if chosen == "subjects" and not people and values.split is None:
        people = [1, 2, 3, 4, 5]
    parts = split(store.entries, chosen, train_subjects=people, validate=values.validate_subjects)
    yield f"{values.store}: {len(store)} clips of {len(store.classes)} classes, {store.layout}, hash {store.hash[:12]}"
    yield ""
    yield f"{'':32}{''.join(f'{name:>9}' for name in parts)}"
    for title, value in (
        ("clips", len),
        ("frames", lambda numbers: sum(store.entries[number].length for number in numbers)),
        ("subjects", lambda numbers: len({store.entries[number].subject for number in numbers})),
        ("with two bodies", lambda numbers: sum(store.entries[number].bodies > 1 for number in numbers)),
    ):
        yield f"{title:32}{''.join(f'{value(numbers):>9,}' for numbers in parts.values())}"
    counts = {name: Counter(store.entries[number].label for number in numbers) for name, numbers in parts.items()}
    for label, name in enumerate(store.classes):
        yield f"  {name[:29]:30}{''.join(f'{found[label]:>9}' for found in counts.values())}"
    yield ""
    never = [name for label, name in enumerate(store.classes) if not counts["train"][label]]
    if never:
        yield f"warning: {len(never)} classes are never trained on: {', '.join(never[:5])}"
    yield from _missing(store)
    yield from _refused(store)
    twice = stands_twice(store.entries, parts)
    if twice:
        yield (
            f"warning: {len(twice)} clips of the test are copies of clips that are trained on, such as {twice[0][1]} of {twice[0][0]}; "
            "`outlast evaluate` reports without them too"
        )
    else:
        yield "No clip of the test is a copy of one that is trained on."
    chosen_by = stands_twice(store.entries, parts, ("train",), "val")
    if chosen_by:
        yield f"warning: {len(chosen_by)} clips to choose by are copies of clips that are trained on, such as {chosen_by[0][1]} of {chosen_by[0][0]}"
    if not values.quick:
        yield from _hashes(store, tell)


def _missing(store: Store) -> Iterable[str]:
    inside = [entry.name for entry in store.entries if entry.name in ntu.missing()]
    if inside:
        yield f"warning: {len(inside)} clips are on NTU's list of missing skeletons, such as {inside[0]}"


def _hashes(store: Store, tell: Tell) -> Iterable[str]:
    wrong = []
    for number, entry in enumerate(store.entries):
        joints, mask = store[number]
        if Clip(entry.name, entry.label, entry.subject, entry.camera, joints, mask).hash != entry.hash:
            wrong.append(entry.name)
        tell(number + 1, len(store))
    if wrong:
        raise outlast.DataError(
            f"{store.folder} is damaged: the positions of {len(wrong)} clips are not those that were read, such as {wrong[0]}. Prepare it anew."
        )
    yield f"The positions of all {len(store)} clips are those that were read."


# what needs a trained run -------------------------------------------------------------------------------------------


def _run_arguments(parser: ArgumentParser, *, data: bool = True) -> None:
    parser.add_argument("run", help="a run's name or folder")
    parser.add_argument("--checkpoint-dir", type=Path, default=Path("runs"), metavar="PATH", help="folder that holds the run folders (default: runs)")  # fmt: skip
    parser.add_argument("--step", default="latest", help='a step, "latest" or "best" (default: latest)')
    parser.add_argument("--part", default="ema", choices=("ema", "best", "model"), help="averaged weights, those that were best on validation, or the bare ones (default: ema)")  # fmt: skip
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... or auto")
    if data:
        parser.add_argument("--data-root", metavar="STORE", help="folder of the prepared store")


def _opened(values: Namespace) -> outlast.Saved:
    flags = {"data_root": values.data_root} if getattr(values, "data_root", None) else {}
    return outlast.open_saved(values.run, root=values.checkpoint_dir, step=values.step, flags=flags)


def _same(labels: Any, store: Store, saved: outlast.Saved) -> None:
    """Refuse data of other joints or classes than those that a run was trained on; a different store of the same is allowed."""
    if (labels.layout, labels.classes) != (store.layout, store.classes):
        raise outlast.DataError(
            f"{saved.run_id} was trained on {labels.layout} with {len(labels.classes)} classes ({labels.classes[0]}, ...), and {store.folder} has "
            f"{store.layout} with {len(store.classes)} ({store.classes[0]}, ...)."
        )


def _evaluate_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser)
    parser.add_argument(
        "--on", default="test", choices=("train", "val", "test"), help="part of the split (default: test)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="default: evaluation-STEP-PART among the run's artifacts"
    )


def _evaluate(values: Namespace, _tell: Tell) -> Iterable[str]:
    from outlast_recipes.skeleton.recipe import opened, restored

    saved, device = _opened(values), device_of(values.device)
    network, labels = restored(saved, values.part)
    network.to(device)
    layout, frames = LAYOUTS[labels.layout], saved.config.data.frames
    store, parts, _ = opened(saved.config, whole=True)
    part = parts[values.on]
    if not len(part):
        raise outlast.DataError(
            f"The split {saved.config.data.split} of {saved.run_id} has no clips for {values.on}; choose another part with --on."
        )
    _same(labels, store, saved)
    logits, truth = evaluation.logits_of(network, part, frames, device)
    numbers = {name: each.numbers for name, each in parts.items()}
    copies = {pair[1] for pair in stands_twice(store.entries, numbers)} if values.on == "test" else set()
    clean = torch.tensor([store.entries[number].name not in copies for number in part.numbers])
    bodies = saved.config.model.bodies
    inputs = evaluation.example(layout, frames, device=device, bodies=bodies)
    counts = evaluation.confusion(logits, truth)
    rows = evaluation.class_table(counts, labels.classes)
    report: dict[str, Any] = {
        "run": saved.run_id,
        "step": saved.step,
        "part": values.part,
        "on": values.on,
        "data": store.hash,
        "clips": len(part),
        "top1": evaluation.hits(logits, truth, 1) / len(part),
        "top5": evaluation.hits(logits, truth, 5) / len(part),
        "clips_without_copies": int(clean.sum()),
        "top1_without_copies": evaluation.hits(logits[clean], truth[clean], 1) / max(1, int(clean.sum())),
        "parameters": parameters(network),
        "macs": macs(network, inputs),
        "seconds_for_one_clip": evaluation.latency(network, layout, frames, bodies=bodies),
        "device": str(device),
        "classes": rows,
        "confusion": counts.tolist(),
    }
    folder = values.output or saved.folder / "artifacts" / f"evaluation-{saved.step}-{values.part}"
    _make(folder)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    title = f"{saved.run_id}, step {saved.step} ({values.part}) on {values.on}: {report['top1']:.1%}"
    evaluation.draw_confusion(counts, labels.classes, folder / "confusion.png", title)
    yield f"{saved.run_id}, step {saved.step} ({values.part}), on {len(part)} clips of {values.on}"
    yield f"  top-1 {report['top1']:.2%}   top-5 {report['top5']:.2%}"
    if copies:
        yield f"  top-1 {report['top1_without_copies']:.2%} on the {int(clean.sum())} that are no copies of clips that were trained on"
    if store.hash != labels.data:
        yield f"  (on other data than it was trained on: {store.hash[:12]} and not {labels.data[:12]})"
    yield f"  {report['parameters']:,} parameters, {report['macs'] / 1e9:.3f} GMAC for {bodies} {'body' if bodies == 1 else 'bodies'} of {frames} frames, {1e3 * report['seconds_for_one_clip']:.1f} ms a clip on {device}"
    yield ""
    yield f"{'class':32}{'clips':>7}{'recall':>9}{'precision':>11}  most often taken for"
    for row in rows:
        recall, precision = (f"{row[name]:.1%}" if row[name] is not None else "-" for name in ("recall", "precision"))
        yield f"{row['class'][:31]:32}{row['clips']:>7}{recall:>9}{precision:>11}  {row['taken for']}"
    yield ""
    yield f"Wrote {folder / 'report.json'} and {folder / 'confusion.png'}"


def _teach_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser)
    parser.add_argument("--views", type=int, default=4, metavar="K", help="views of each clip (default: 4)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the views (default: 0)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: RUN-logits.safetensors here")


@torch.no_grad()
def _teach(values: Namespace, tell: Tell) -> Iterable[str]:
    from outlast_recipes.skeleton.recipe import opened, restored

    if values.views < 1:
        raise outlast.ConfigError(f"--views is {values.views}; expected at least 1.")
    saved, device = _opened(values), device_of(values.device)
    network, labels = restored(saved, values.part)
    network.to(device)
    store, parts, classes = opened(saved.config, whole=True)
    _same(labels, store, saved)
    part: Part = parts["train"]
    strength, frames = Strength(**saved.config.augment.model_dump()), saved.config.data.frames
    views = Views(part, frames, strength, values.seed)
    logits = np.empty((len(part), values.views, classes), np.float16)
    right = done = 0
    for batch in part.batches(evaluation.BATCH):
        for view in range(values.views):
            found = network(*views(batch, view, device)).float().cpu()
            logits[done : done + len(found), view] = found.half().numpy()
            right += int((found.argmax(1) == batch.labels).sum())
        done += len(batch.labels)
        tell(done, len(part))
    target = values.output or Path(f"{saved.run_id}-logits.safetensors")
    if target.exists() and not target.is_file():
        raise outlast.ConfigError(f"--output is {str(target)!r}, a folder or a device; give the name of a file.")
    about = distill.About(
        data=store.hash,
        names=[store.entries[number].name for number in part.numbers],
        classes=classes,
        split=f"training part of {saved.config.data.split}",
        seed=values.seed,
        frames=frames,
        strength=strength,
        teacher=f"{saved.run_id}, step {saved.step} ({values.part})",
    )
    distill.write(target, logits, about)
    yield f"{target}: {values.views} views of {len(part)} clips, {classes} classes, {target.stat().st_size / 1e6:.1f} MB"
    yield f"The teacher is right on {right / len(part) / values.views:.1%} of them."
    data = saved.config.data
    split_words = f"--split {data.split}"
    split_words += f" --train-subjects {','.join(map(str, data.train_subjects))}" if data.train_subjects else ""
    split_words += "" if data.validate_subjects is None else f" --data.validate-subjects {data.validate_subjects}"
    split_words += "" if frames == 64 else f" --data.frames {frames}"
    yield f"Train a student with: outlast train skeleton --mode distill --teacher-logits {shlex.quote(str(target))} --data-root {shlex.quote(str(saved.config.data_root))} {split_words}"


def _predict_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser, data=False)
    parser.add_argument("file", type=Path, help="a .skeleton file of NTU, or a .json of NW-UCLA")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(), metavar="FOLDER", help="for the pictures (default: here)"
    )
    parser.add_argument("--no-gif", action="store_true", help="draw the still picture only")


def _predict(values: Namespace, _tell: Tell) -> Iterable[str]:
    from outlast_recipes.skeleton.recipe import restored

    saved = _opened(values)
    network, labels = restored(saved, values.part)
    read = nw_ucla.read_clip if values.file.suffix == ".json" else functools.partial(ntu.read_clip, named=False)
    clip = read(values.file)
    layout = LAYOUTS[labels.layout]
    if clip.joints.shape[2] != layout.joints:
        raise outlast.DataError(
            f"{values.file} has {clip.joints.shape[2]} joints, and {saved.run_id} was trained on {layout.name} with {layout.joints}."
        )
    found = predict.looked_at(network, clip, saved.config.data.frames)
    yield f"{values.file.name}: {len(clip.mask)} frames, {int(clip.mask.any(0).sum())} bodies, by {saved.run_id}, step {saved.step} ({values.part})"
    for share, label in zip(*(each.tolist() for each in found.shares.topk(min(5, len(labels.classes)))), strict=True):
        yield f"  {share:6.1%}  {labels.classes[label]}"
    best = labels.classes[int(found.shares.argmax())]
    _make(values.output)
    still, moving = (values.output / f"{values.file.stem}-{saved.run_id}.{form}" for form in ("png", "gif"))
    title = f"{values.file.stem}: {best} ({float(found.shares.max()):.0%})"
    predict.draw(found, layout, still, title)
    yield f"Wrote {still}: redder joints speak more for {best}."
    if not values.no_gif:
        predict.animate(found, layout, moving, title)
        yield f"Wrote {moving}"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise outlast.DataError(
            f"{folder} cannot be made a folder ({error.strerror}); give another to --output."
        ) from error


# export -------------------------------------------------------------------------------------------------------------


def _onnx(saved: outlast.Saved, part: str, target: Path) -> Iterable[str]:
    network, inputs = _traced(saved, part)
    yield from exporting.to_onnx(network, inputs, ("joints", "mask"), ("logits",), target)


def _torch_export(saved: outlast.Saved, part: str, target: Path) -> Iterable[str]:
    network, inputs = _traced(saved, part)
    yield from exporting.to_torch_export(network, inputs, target)


def _traced(saved: outlast.Saved, part: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    from outlast_recipes.skeleton.recipe import restored

    network, labels = restored(saved, part)
    joints, mask = evaluation.example(LAYOUTS[labels.layout], saved.config.data.frames, batch=2)
    mask[1, :, 1] = False  # one clip with two bodies, one with one
    return network, (joints, mask)


ALL = (
    outlast.Command("data prepare", "make one memory-mapped store of a folder of skeleton files", _prepare_arguments, _prepare),
    outlast.Command("data check", "count a store by split and class, and find what is missing, damaged or twice there", _check_arguments, _check),
    outlast.Command("evaluate", "top-1, top-5, classes, confusion, size and time of a trained run", _evaluate_arguments, _evaluate),
    outlast.Command("teacher-logits", "write a trained run's logits on views of its training clips, for students", _teach_arguments, _teach),
    outlast.Command("predict", "the five likeliest actions of one file, and a picture of the joints that decided", _predict_arguments, _predict),
)  # fmt: skip

EXPORTS = {"onnx": _onnx, "pt2": _torch_export}
