"""The schemas of the JSON records of a run folder; docs/reference/format.md describes them.

Records that one room alone reads have their schema in that room.
"""

from __future__ import annotations

from outlast.folder.records import (
    LONGEST,
    REASONS,
    anything,
    between,
    both,
    flag,
    form,
    many,
    number,
    one_of,
    or_null,
    pair,
    table,
    text,
    whole,
)

_HASH = text(32, "[0-9a-f]{32}", "a hash of 32 hex digits")
_ID = text(64, "[0-9a-f]{1,64}", "an id in hex")
_LINE = text()
_RUN_NAME = text(100, "[A-Za-z0-9][A-Za-z0-9._-]*", "the name of a run: letters, digits, '.', '_' and '-'")
_SECONDS = between(0, 1e12)
_NAME = text(300)
_STEP = whole()
_FORMAT = {"format": whole(1, 10**6)}
_SHAPE = many(whole(), 64)

RUN = form(
    {**_FORMAT, "id": _NAME, "recipe": or_null(text(4096)), "grade": _NAME},
    {
        "uid": _ID,
        "format_1_until": _STEP,
        "parent": form({"run": _NAME, "step": _STEP}, {"uid": or_null(_ID), "digest": or_null(_HASH)}),
        "chain": form({"name": _RUN_NAME, "stage": _RUN_NAME, "stages": many(_RUN_NAME, 1000)}),
        "inputs": table(form({"run": _RUN_NAME, "step": _STEP, "digest": _HASH}), 1000),
    },
)
CONFIG = form(
    {"values": table()}, {"origins": table(_LINE), "on_resume": table(_NAME), "fingerprint": _NAME, **_FORMAT}
)
ATTEMPT = form(
    {},
    {
        **_FORMAT,
        "number": whole(0, 10**9),
        "id": _ID,
        "started": _NAME,
        "process": whole(),
        "host": _NAME,
        "outlast": _NAME,
        "environment": form({}, {"name": _NAME, "facts": anything, "limits": anything}),
        "session": form({}, {"budget": or_null(_SECONDS), "reserve": or_null(_SECONDS), "quota": or_null(_NAME)}),
        "told": many(text(LONGEST)),
        "trained": flag,
        "software": table(),
        "total_steps": or_null(_STEP),
        "changes": many(text(LONGEST)),
        "best_by": form({"metric": or_null(_NAME), "mode": _NAME}, {"former": many(_NAME)}),
        "renamed": table(_NAME),
        "resume": form({"step": _STEP, "grade": _NAME, "differences": many(text(LONGEST))}),
        "command": form(
            {"digest": _HASH, "folder": text(4096), "collected": flag},
            {"continued": or_null(_HASH), "processes": many(both(whole(1, 2**31 - 1), whole()), 1000)},
        ),
        "end": form(
            {"reason": one_of(*REASONS)},
            {
                "time": _NAME,
                "step": _STEP,
                "total_steps": or_null(_STEP),
                "error": text(LONGEST),
                "signal": _NAME,
                "seconds": _SECONDS,
                "recorded_by": whole(),
            },
        ),
    },
)
_SPENT = form(
    dict.fromkeys(("starting", "training", "evaluation", "saves", "other"), _SECONDS), {"data": or_null(_SECONDS)}
)
EVENT = form(
    {"event": _NAME, "time": number},
    {
        "attempt": _ID,
        "number": whole(0, 10**9),
        "step": _STEP,
        "total_steps": or_null(_STEP),
        "resumed_from": or_null(_STEP),
        "steps_per_second": number,
        "spent": _SPENT,
        "seconds": _SECONDS,
        "held": _SECONDS,
        "bytes": whole(),
        "staged": whole(),
        "reason": _NAME,
        "level": _NAME,
        "name": _LINE,
        "sentence": _LINE,
    },
)
ARTIFACT = form(
    {
        **_FORMAT,
        "name": text(4096),
        "files": table(
            form({"size": whole(), "sha256": text(64, "[0-9a-f]{64}", "a SHA-256 of 64 hex digits")}), 100_000
        ),
        "digest": _HASH,
    },
    {
        "run": or_null(_ID),
        "run_id": or_null(_NAME),
        "attempt": or_null(_ID),
        "step": or_null(_STEP),
        "part": or_null(_NAME),
        "config": or_null(_NAME),
        "checkpoint": or_null(_HASH),
        "outlast": _NAME,
    },
)
LOCK = form(
    {},
    {
        "attempt": _NAME,
        "pid": whole(1, 2**31 - 1),
        "host": _NAME,
        "boot": _NAME,
        "beat": number,
        "start": whole(),
        "released": flag,
    },
)
MANIFEST = form(
    {
        **_FORMAT,
        "step": _STEP,
        "reason": _NAME,
        "files": table(
            form({"size": whole(), "xxh3_128": many(_HASH)}, {"part": _NAME, "shared": _HASH, "rank": whole(1, 10**6)}),
            100_000,
        ),
        "metrics": table(number),
        "software": table(),
        "written": form({"time": _NAME, "seconds": number}),
        "digest": _HASH,
    },
    {
        "ranks": whole(1, 10**6),
        "chunk": whole(1),
        "run": _ID,
        "attempt": _ID,
        "lineage": many(form({"attempt": or_null(_ID), "step": _STEP, "digest": _HASH}), 100_000),
    },
)
_BLOBS = table(many(both(_HASH, whole(1)), 10_000_000))
REVISION = form(
    {
        **_FORMAT,
        "number": whole(1, 10**8 - 1),
        "run": _ID,
        "attempt": _ID,
        "checkpoints": table(form({"digest": _HASH, "metrics": table(number), "files": _BLOBS})),
        "files": _BLOBS,
        "digest": _HASH,
    }
)
PUSHED = form(
    {**_FORMAT, "address": _LINE, "steps": many(_STEP), "behind": many(_STEP), "time": _NAME},
    {"trouble": or_null(text(LONGEST))},
)
_SHARDS = table(table(form({"dtype": _NAME, "shape": _SHAPE, "of": _SHAPE, "at": _SHAPE})))
_PARTS = table(form({"kind": _NAME, "state": anything}), 100_000)
# Words of the Mersenne Twister, and where in them it is: NumPy itself believes any position, and reads there.
_RNG = or_null(
    form(
        {
            "python": form({"version": whole(0, 100)}),
            "numpy": form(
                {"kind": one_of("MT19937"), "position": whole(0, 624), "has_gauss": whole(0, 1), "cached": number}
            ),
        }
    )
)
_OWN = {"step": _STEP, "shards": _SHARDS}
_BATCHES = form(
    {},
    {
        "accumulate": whole(1),
        "batches": or_null(whole(1)),
        "batch_size": or_null(whole(1)),
        "drop_last": flag,
        "sampler": _NAME,
        "samples": whole(),
        "seed": whole(),
    },
)
STATE = form(
    {
        "loop": pair(_STEP),
        "journal": form({"bytes": whole(), "xxh3_128": _HASH}),
        "parts": _PARTS,
        "rng": _RNG,
    },
    {**_OWN, "batches": _BATCHES},
)
RANK_STATE = form({"parts": _PARTS, "rng": _RNG}, _OWN)
