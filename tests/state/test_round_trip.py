"""State goes apart into arrays and JSON and comes back the same, and what cannot is refused by name."""

from __future__ import annotations

import json
import math
import os
import random
import re
import warnings
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import messages
from torch._subclasses.fake_tensor import FakeTensorMode

from outlast.checkpoint import tensors
from outlast.errors import CorruptCheckpoint, ResumeRefused, StateError
from outlast.state import pack_tree, pack_value, tracked, try_way_back, unpack_tree, unpack_value
from outlast.state.torch import tensors as torch_state


def pack_object(part, thing):
    return tracked(part, thing).pack()


def load_object(part, thing, node, arrays):
    held = tracked(part, thing)
    held.load(held.fit(held.decode(node, arrays), {}), {})


def through_disk(value):
    """Apart, into a safetensors file and JSON text, and together again."""
    node, arrays = pack_value("part", value)
    data = b"".join(bytes(piece) for piece in tensors.encode(arrays))
    return unpack_value(
        "part", json.loads(json.dumps(node, allow_nan=False)), tensors.decode(data, Path("part.safetensors"))
    )


TORCH_DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32,
    torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
]  # fmt: skip


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_torch(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    count = math.prod(shape)
    raw = torch.arange(count * torch.empty((), dtype=dtype).element_size(), dtype=torch.uint8)
    raw = raw % 2 if dtype == torch.bool else raw
    tensor = raw.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)
    back = through_disk(tensor)
    assert back.dtype == dtype
    assert back.shape == tensor.shape
    assert torch.equal(back.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_torch_views_conjugates_and_gradients() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    for tensor in (
        base.t(),
        base[:, 1::2],
        base.expand(2, 3, 4),
        torch.nn.Parameter(base),
        base.to(memory_format=torch.contiguous_format),
    ):
        assert torch.equal(through_disk(tensor), tensor)
    z = torch.complex(base, base + 1)
    assert torch.equal(through_disk(z.conj()), z.conj().resolve_conj())


def test_inference_tensors_which_torch_does_not_count_changes_of() -> None:
    with torch.inference_mode():
        value = torch.arange(5.0)
    found = torch_state.to_array(value).array
    assert found.live is not None
    assert found.live.stamp is None  # so it is copied at once, and never believed to be what it was
    assert torch.equal(through_disk({"x": value})["x"], value)


def test_tied_tensors_are_stored_once_and_come_back_tied() -> None:
    weight = torch.randn(4, 4)
    node, arrays = pack_value("model", {"a": weight, "b": weight, "c": weight.clone(), "d": weight.t()})
    assert sorted(arrays) == ["a", "c", "d"]
    back = unpack_value("model", node, arrays)
    assert back["a"] is back["b"]
    assert torch.equal(back["d"], weight.t())


def test_arrays_whose_names_would_be_one_are_kept_apart() -> None:
    state = {"a": {"b": np.ones(2)}, "a/b": np.zeros(2), "c": {1: np.full(2, 2.0), "1": np.full(2, 3.0)}}
    back = through_disk(state)
    assert [each.tolist() for each in (back["a"]["b"], back["a/b"], *back["c"].values())] == [
        [1, 1],
        [0, 0],
        [2, 2],
        [3, 3],
    ]


def test_views_that_only_look_tied_are_kept_apart() -> None:
    z = torch.tensor([1 + 2j, 3 - 1j])
    back = through_disk({"a": z, "b": z.conj(), "c": z.imag, "d": z.conj().imag})
    assert torch.equal(back["b"], z.conj().resolve_conj())
    assert torch.equal(back["d"], -z.imag)
    words = np.array([1, 2], dtype="<u4")
    assert through_disk({"a": words, "b": words.view(">u4")})["b"].tolist() == [2**24, 2**25]
    assert through_disk(torch.arange(6.0).view(3, 2)[:1, 1]).tolist() == [1.0]


def test_tied_weights_of_a_module(tmp_path: Path) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(5, 3)
            self.out = torch.nn.Linear(3, 5, bias=False)
            self.out.weight = self.embed.weight

    one, two = Tied(), Tied()
    load_object("model", two, *pack_object("model", one))
    assert torch.equal(two.out.weight, one.embed.weight)
    assert two.out.weight is two.embed.weight


NUMPY = [
    np.array(3.5), np.zeros((0, 2), np.int16), np.arange(6, dtype=">i4").reshape(2, 3), np.array([1 + 2j, 3]),
    np.array([True, False]), np.array(["2020-01-01", "2021-05-05"], dtype="datetime64[D]"),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.float16([1.5]), np.arange(5)[::2],
]  # fmt: skip


@pytest.mark.parametrize("array", NUMPY, ids=lambda a: f"{a.dtype}{a.shape}")
def test_numpy(array: np.ndarray) -> None:
    back = through_disk(array)
    assert isinstance(back, np.ndarray)
    assert back.dtype == array.dtype
    assert back.flags.f_contiguous == array.flags.f_contiguous or array.ndim < 2
    assert np.array_equal(back, array)
    back[...] = back  # it owns its memory


def test_numpy_scalars_stay_scalars() -> None:
    for scalar in (np.float32(1.5), np.int64(-3), np.bool_(1), np.complex128(2j)):
        back = through_disk({"x": scalar})["x"]
        assert type(back) is type(scalar)
        assert back == scalar


def test_bfloat16_from_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3b11fnuz, ml_dtypes.int4):
        array = np.array([1, 2, 3]).astype(dtype)
        back = through_disk(array)
        assert back.dtype == array.dtype
        assert back.tobytes() == array.tobytes()


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None))  # surrogates too, as in names of files that are not UTF-8
    | st.binary()
    | st.binary().map(bytearray)
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.complex_numbers(allow_nan=False)
    | st.decimals(allow_nan=False)
    | st.fractions(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.text(max_size=5) | st.integers() | st.tuples(st.integers(), st.text(max_size=2)), inner, max_size=4
        )
        | st.frozensets(st.integers() | st.frozensets(st.integers(), max_size=2), max_size=4)
        | st.sets(st.integers() | st.tuples(st.integers()) | st.frozensets(st.integers(), max_size=2), max_size=4)
        | st.dictionaries(st.frozensets(st.integers(), max_size=2), inner, max_size=2)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(OrderedDict)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(lambda pairs: defaultdict(list, pairs))
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(Counter)
        | st.lists(inner, max_size=3).map(lambda items: deque(items, maxlen=3))
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(plain)
def test_plain_values(value) -> None:
    back = through_disk(value)
    assert back == value
    assert kinds(back) == kinds(value)


def kinds(value):
    """The types of a value and of what it holds, in order; of sets, without one."""
    if isinstance(value, dict):
        factory = value.default_factory if isinstance(value, defaultdict) else None
        return type(value), factory, [(kinds(key), kinds(item)) for key, item in value.items()]
    if isinstance(value, list | tuple | deque):
        return type(value), getattr(value, "maxlen", None), [kinds(item) for item in value]
    if isinstance(value, set | frozenset):
        return type(value), sorted(str(kinds(item)) for item in value)
    return type(value)


def test_special_values() -> None:
    assert math.isnan(through_disk(float("nan")))
    assert through_disk([float("inf"), -0.0])[0] == float("inf")
    assert math.copysign(1, through_disk(-0.0)) == -1
    assert through_disk({"$array": 1, "$tuple": [1]}) == {"$array": 1, "$tuple": [1]}
    assert through_disk(Counter({3: 2})) == Counter({3: 2})
    assert through_disk(torch.bfloat16) is torch.bfloat16
    assert through_disk(torch.device("cuda:1")) == torch.device("cuda:1")
    assert through_disk(torch.Size([2, 3])) == torch.Size([2, 3])
    assert type(through_disk(torch.Size([2, 3]))) is torch.Size
    assert through_disk(10**5000) == 10**5000
    assert through_disk(os.fsdecode(b"bad\xff.png")) == os.fsdecode(b"bad\xff.png")
    assert through_disk({os.fsdecode(b"bad\xff.png"): np.ones(2)}).keys() == {os.fsdecode(b"bad\xff.png")}
    assert math.isinf(through_disk(Counter(a=math.inf))["a"])
    assert type(through_disk(Counter(a=np.int64(3)))["a"]) is np.int64
    assert through_disk(range(5, 1, -2)) == range(5, 1, -2)
    missing = through_disk(defaultdict(int, a=1))
    assert missing["new"] == 0


def test_masked_arrays_and_the_layout_of_arrays_are_kept() -> None:
    masked = np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0], fill_value=-1)
    back = through_disk({"m": masked, "open": np.ma.array([1, 2])})
    assert back["m"].mask.tolist() == [False, True, False]
    assert back["m"].data.tolist() == [1, 2, 3]
    assert back["m"].fill_value == -1
    assert np.ma.getmask(back["open"]) is np.ma.nomask
    assert not back["m"].hardmask
    assert through_disk(np.ma.array([1.0, 2.0], mask=[0, 1], hard_mask=True)).hardmask
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert through_disk(image).stride() == image.stride()
    assert torch.equal(through_disk(image), image)


def test_what_a_gradient_needs_is_kept() -> None:
    leaf = through_disk(torch.ones(2, requires_grad=True))
    assert leaf.requires_grad
    parameter = through_disk(torch.nn.Parameter(torch.ones(2), requires_grad=False))
    assert type(parameter) is torch.nn.Parameter
    assert not parameter.requires_grad


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.Generator().manual_seed(3),
        lambda: np.random.default_rng(3),
        lambda: np.random.Generator(np.random.Philox(3)),
        lambda: np.random.Generator(np.random.SFC64(3)),
        lambda: np.random.RandomState(3),
        lambda: random.Random(3),
    ],
    ids=["torch", "PCG64", "Philox", "SFC64", "RandomState", "python"],
)
def test_generators_continue_where_they_were(make) -> None:
    def draw(generator):
        if isinstance(generator, torch.Generator):
            return torch.rand(3, generator=generator).tolist()
        return [generator.random() for _ in range(3)]

    generator = make()
    draw(generator)
    try_way_back("part", pack_value("part", {"g": generator}))
    back = through_disk({"g": generator})["g"]
    assert type(back) is type(generator)
    assert draw(back) == draw(generator)


def test_children_that_a_generator_spawned_are_not_spawned_again() -> None:
    """NumPy's `bit_generator.state` does not count them."""
    generator = np.random.default_rng(3)
    generator.spawn(2)
    node, arrays = pack_value("part", {"g": generator})
    expected = [child.random() for child in generator.spawn(2)]
    back = unpack_value("part", node, arrays)["g"]
    assert [child.random() for child in back.spawn(2)] == expected
    own = np.random.default_rng(99)  # what the next attempt's program made
    held = tracked("g", own)
    held.load(held.decode(tracked("g", unpack_value("part", node, arrays)["g"]).pack()[0], {}), {})
    assert own.spawn(1)[0].random() == expected[0]
    assert "seeds" not in str(pack_value("part", {"g": np.random.default_rng(3)})[0])


@pytest.mark.parametrize("size", [2**60, 3, "4", None])
def test_a_seed_sequence_of_any_size_is_refused(size: object) -> None:
    generator = np.random.default_rng(3)
    generator.spawn(1)
    text = json.dumps(pack_value("part", {"g": generator})[0])
    node = json.loads(text.replace('"pool_size": 4', f'"pool_size": {json.dumps(size)}'))
    with messages.raises(CorruptCheckpoint, "state/seed-sequence-pool", size=repr(size)):
        unpack_value("part", node, {})


def test_generators_with_a_position_outside_of_their_memory_are_refused() -> None:
    for bits, path in ((np.random.MT19937(1), ("state", "pos")), (np.random.Philox(1), ("buffer_pos",))):
        node, arrays = pack_value("part", np.random.Generator(bits))
        place = node["$numpy.generator"]["state"]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = 625  # just outside of both
        with pytest.raises(CorruptCheckpoint, match="position"):
            unpack_value("part", node, arrays)


class Functor(dict):
    """A dict of a program's own kind."""


def test_state_that_cannot_be_restored_is_refused_before_it_is_saved() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls quantised tensors deprecated
        quantised = torch.empty(4, dtype=torch.quint8)
    with messages.raises(StateError, "state/no-plain-bytes"):
        pack_value("part", {"x": quantised})
    packed = pack_value("part", {"x": torch.zeros(4)})
    packed[0]["x"]["dtype"] = "float99"
    with messages.raises(StateError, "state/no-round-trip"):
        try_way_back("part", packed)


Point = namedtuple("Point", "x y")


class Sub(torch.Tensor):
    """A tensor class that adds behaviour and no memory."""


def _cycle():
    inner: dict = {}
    inner["b"] = inner
    return {"a": inner}


def _deep():
    value: list = []
    for _ in range(200):
        value = [value]
    return value


def needs_pickle(place: str, kind: str) -> messages.Message:
    return messages.says("state/needs-pickle", place=f"optimizer{place}", type=kind)


def unsupported(place: str, dtype: str) -> messages.Message:
    return messages.says("state/dtype-not-supported", place=place, dtype=dtype)


def no_bytes(place: str, layout: str) -> messages.Message:
    return messages.says("state/tensor-without-bytes", place=f"optimizer{place}", layout=layout)


def tensor_subclass(place: str, kind: str) -> messages.Message:
    return messages.says("state/tensor-subclass", place=f"optimizer{place}", type=kind)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"state": {0: {"hook": open}}}, needs_pickle("[state.0.hook]", "builtins.builtin_function_or_method")),
        ({"pair": Point(1, 2)}, needs_pickle("[pair]", f"{__name__}.Point")),
        ({"names": np.array(["a", None], dtype=object)}, messages.says("state/object-array", place="optimizer[names]")),
        (
            {"names": np.array(["a", "bc"])},
            messages.says("state/dtype-not-supported", place="optimizer[names]", dtype="<U2"),
        ),
        ({"pair": np.zeros(2, dtype="i4,f8")}, unsupported("optimizer[pair]", "[('f0', '<i4'), ('f1', '<f8')]")),
        ({"sparse": torch.eye(2).to_sparse()}, no_bytes("[sparse]", "torch.sparse_coo on cpu")),
        ({"meta": torch.empty(2, device="meta")}, no_bytes("[meta]", "torch.strided on meta")),
        (Path("x"), needs_pickle("", "pathlib.PosixPath")),
        (
            {"f": defaultdict(lambda: 1)},
            messages.says(
                "state/defaultdict-with-a-function", place="optimizer[f]", factory=re.compile(r"<function .*>")
            ),
        ),
        ({"d": Functor(a=1)}, needs_pickle("[d]", f"{__name__}.Functor")),
        (
            {"m": np.ones(2).view(np.recarray)},
            messages.says("state/array-subclass", place="optimizer[m]", type="numpy.rec.recarray"),
        ),
        ({"t": torch.ones(2).as_subclass(Sub)}, tensor_subclass("[t]", f"{__name__}.Sub")),
        (
            {"fake": FakeTensorMode().from_tensor(torch.ones(2))},
            tensor_subclass("[fake]", "torch._subclasses.fake_tensor.FakeTensor"),
        ),
        (_cycle(), messages.says("state/holds-itself", place="optimizer[a.b]")),
        (_deep(), messages.says("state/nested-too-deep", levels=100)),
        ({"e": IntEnum("E", "A").A}, needs_pickle("[e]", f"{__name__}.E")),
    ],
)
def test_refused_by_name(value, message: messages.Message) -> None:
    with messages.raises(StateError, message):
        pack_value("optimizer", value)


@pytest.mark.parametrize(("thing", "kind"), [(1, "an int"), (1.5, "a float"), (open, "a builtin_function_or_method")])
def test_what_has_no_state_dict_is_named_with_its_article(thing: object, kind: str) -> None:
    with messages.raises(StateError, "state/no-state-dict", what=kind):
        tracked("o", thing)


def test_a_plain_dataloader_is_refused_with_advice() -> None:
    with messages.raises(StateError, "state/loader-without-state"):
        tracked("data", torch.utils.data.DataLoader([1, 2]))


class Evil:
    """What an attacker would pickle."""

    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_a_planted_reduce_is_refused() -> None:
    with pytest.raises(StateError, match="Evil"):
        pack_value("state", {"x": Evil()})


def test_unknown_forms_are_refused_on_load() -> None:
    for node in ({"$pickle": "gASVAAAA"}, {"$array": "x", "as": "pickle"}, {"$array": "missing", "as": "torch"}):
        with pytest.raises(CorruptCheckpoint):
            unpack_value("model", node, {"x": tensors.Array("U8", (1,), b"\0")})


def test_trees_without_jax_rules() -> None:
    tree = {"b": [np.arange(3), 2.5], "a": Point(np.zeros(2), (None, "text"))}
    node, arrays = pack_tree("state", tree)
    back = unpack_tree("state", {"b": [np.zeros(3, int), 0.0], "a": Point(np.ones(2), (None, ""))}, node, arrays)
    assert isinstance(back["a"], Point)
    assert back["b"][1] == 2.5
    assert back["a"].y == (None, "text")
    assert np.array_equal(back["b"][0], [0, 1, 2])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"a": np.zeros(3)}, messages.says("state/leaf-missing", leaf="state[b]")),
        (
            {"a": np.zeros(3), "b": np.zeros(1), "c": np.zeros(1)},
            messages.says("state/leaf-new", leaf="state[c]"),
        ),
        (
            {"a": np.zeros(4), "b": np.zeros(1)},
            messages.says("state/leaf-of-another-form", leaf="state[a]", found="(4,) of float64"),
        ),
        (
            {"a": np.zeros(3, np.float32), "b": np.zeros(1)},
            messages.says("state/leaf-of-another-form", leaf="state[a]", found="(3,) of float32"),
        ),
    ],
)
def test_another_form_is_refused(template, message: messages.Message) -> None:
    node, arrays = pack_tree("state", {"a": np.zeros(3), "b": np.zeros(1)})
    with messages.raises(ResumeRefused, message):
        unpack_tree("state", template, node, arrays)


def test_another_architecture_is_refused_before_anything_is_loaded() -> None:
    stored = pack_object("model", torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)))
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    before = model[0].weight.clone()
    with messages.raises(ResumeRefused, "state/another-shape", parameter=re.compile(r"model\[1\.(?:weight|bias)\]")):
        load_object("model", model, *stored)
    assert torch.equal(model[0].weight, before)
    with messages.raises(ResumeRefused, "state/another-dtype", stored="torch.float32", own="torch.float16"):
        load_object("model", torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)).half(), *stored)
    with messages.raises(ResumeRefused, "state/parameter-missing-in-model"):
        load_object("model", torch.nn.Sequential(torch.nn.Linear(2, 3)), *stored)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: (torch.optim.AdamW(p, lr=1e-3), None),
        lambda p: (torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), torch.optim.lr_scheduler.MultiStepLR),
        lambda p: (torch.optim.Adam(p, amsgrad=True), torch.optim.lr_scheduler.ReduceLROnPlateau),
        lambda p: (torch.optim.LBFGS(p), None),
        lambda p: (torch.optim.RMSprop(p, centered=True), torch.optim.lr_scheduler.OneCycleLR),
    ],
    ids=["adamw", "sgd-multistep", "amsgrad-plateau", "lbfgs", "rmsprop-onecycle"],
)
def test_optimizers_and_schedulers_continue_exactly(make) -> None:
    def build():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer, kind = make(model.parameters())
        options = {"MultiStepLR": {"milestones": [2, 4]}, "OneCycleLR": {"max_lr": 0.1, "total_steps": 20}}
        scheduler = kind(optimizer, **options.get(kind.__name__, {})) if kind else None
        return model, optimizer, scheduler

    def steps(model, optimizer, scheduler, first, last):
        for step in range(first, last):
            x = torch.full((4, 3), step / 10)

            def closure(x=x):
                optimizer.zero_grad()
                loss = model(x).square().sum()
                loss.backward()
                return loss

            loss = optimizer.step(closure)
            if scheduler:
                scheduler.step(
                    *([loss.detach()] if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) else [])
                )

    twin = build()
    steps(*twin, 0, 8)
    first = build()
    steps(*first, 0, 5)
    second = build()
    for name, old, new in zip(("model", "optimizer", "scheduler"), first, second, strict=True):
        if old is not None:
            node, arrays = pack_object(name, old)
            load_object(name, new, json.loads(json.dumps(node, allow_nan=False)), arrays)
    steps(*second, 5, 8)
    assert all(torch.equal(a, b) for a, b in zip(twin[0].parameters(), second[0].parameters(), strict=True))


def test_grad_scaler_round_trip() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    scaler.scale(torch.ones(()))
    other = torch.amp.GradScaler("cpu")
    load_object("scaler", other, *pack_object("scaler", scaler))
    assert other.state_dict() == scaler.state_dict()
