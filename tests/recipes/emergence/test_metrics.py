"""What is found where nothing is, and what is found where something was planted. Longer series:
benchmarks/emergence."""

from __future__ import annotations

import numpy as np
import pytest

from outlast_recipes.emergence import estimates, influence, metrics, nulls
from outlast_recipes.emergence.shadow import SHADOWS, Shadow
from outlast_recipes.emergence.trackers import WINDOW, Book
from outlast_recipes.emergence.world import GRAVE, PARENT
from tests import messages
from tests.recipes.colonies import config

RUNS = 60
ALLOWED = 7  # of 60 at 5 %: more than so many would come up in 2 of 100 honest suites


def detections(find, runs: int = RUNS) -> int:
    return sum(find(np.random.default_rng(seed)).detected for seed in range(runs))


def meals(rng, shares) -> np.ndarray:
    """Thirty meals of each individual, of the first kind with its chance."""
    first = rng.binomial(30, shares)
    return np.stack([first, 30 - first], 1)


def test_division_of_labour() -> None:
    assert detections(lambda rng: metrics.division_of_labour(meals(rng, np.full(20, 0.7)), 60, rng)) <= ALLOWED
    assert detections(lambda rng: metrics.division_of_labour(meals(rng, np.linspace(0.2, 1, 20)), 60, rng), 10) == 10
    perfect = metrics.division_of_labour(np.array([[30, 0], [0, 30]] * 5), 60, np.random.default_rng(0))
    assert perfect.value == pytest.approx(1)
    assert metrics.division_of_labour(np.array([[3, 0], [0, 3]]), 60, np.random.default_rng(0)) == nulls.NOTHING


def test_groups_of_diets() -> None:
    def one_cloud(rng):
        return metrics.clusters(rng.normal(size=(24, 1)), 39, rng, most=2)[1]

    def two(rng):
        return metrics.clusters(
            np.concatenate([rng.normal(0, 0.1, (12, 1)), rng.normal(1, 0.1, (12, 1))]), 39, rng, most=2
        )[1]

    assert detections(one_cloud, 30) <= 4
    assert detections(two, 5) == 5
    labels, _ = metrics.clusters(np.array([[0.0], [1.0]] * 12), 39, np.random.default_rng(0), most=2)
    assert len(set(labels[::2])) == 1
    assert labels[0] != labels[1]


def test_heredity() -> None:
    def chance(rng):
        return metrics.heredity(rng.integers(0, 2, 60), rng.integers(0, 2, 60), np.arange(60) % 3, 60, rng)

    def planted(rng):
        parents = rng.integers(0, 2, 60)
        return metrics.heredity(
            np.where(rng.random(60) < 0.9, parents, 1 - parents), parents, np.arange(60) % 3, 60, rng
        )

    def another_food_in_each_world(rng):
        worlds = np.arange(60) % 3
        share = np.array([0.1, 0.5, 0.9])[worlds]
        return metrics.heredity((rng.random(60) < share) * 1, (rng.random(60) < share) * 1, worlds, 60, rng)

    assert detections(chance) <= ALLOWED
    assert detections(another_food_in_each_world) <= ALLOWED
    assert detections(planted, 10) == 10


def walk(rng, kind: str, length: int = 512) -> np.ndarray:
    """A series of five symbols: noise, a slow process, or a random walk."""
    if kind == "noise":
        return rng.integers(0, 5, length)
    steps = rng.normal(size=length)
    series = np.cumsum(steps) if kind == "walk" else np.convolve(steps, 0.9 ** np.arange(60))[:length]
    return np.digitize(series, np.quantile(series, [0.2, 0.4, 0.6, 0.8]))


@pytest.mark.parametrize("kind", ["noise", "ar", "walk"])
def test_imitation_is_not_found_in_strangers(kind: str) -> None:
    def strangers(rng):
        return influence.imitation(np.stack([walk(rng, kind), walk(rng, kind)], 1), [(0, 1)], 40, rng)

    assert detections(strangers, 40) <= 5


def test_imitation_is_found_and_has_a_direction() -> None:
    rng = np.random.default_rng(0)
    leader = rng.integers(0, 5, 600)
    follower = np.where(rng.random(600) < 0.5, np.roll(leader, 1), rng.integers(0, 5, 600))
    moves = np.stack([leader, follower, rng.integers(0, 5, 600)], 1)
    assert influence.imitation(moves, [(0, 1)], 40, rng).detected
    assert not influence.imitation(moves, [(1, 0), (2, 1), (0, 2)], 40, rng).detected
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    assert [pair for pair, _ in influence.coupled_pairs(moves, pairs, 200, rng)] == [(0, 1)]
    # Exactly known: the copy of one fair bit among two, one step late.
    bits = rng.integers(0, 2, 200_000)
    assert influence.transfer_entropy(bits, np.roll(bits, 1), 2) == pytest.approx(1, abs=0.01)
    assert influence.transfer_entropy(np.roll(bits, 1), bits, 2) == pytest.approx(0, abs=0.01)


def test_imitation_is_measured_among_agents_that_lived_through_the_window() -> None:
    rng, values = np.random.default_rng(0), config(train__num_steps=64)
    moves = rng.integers(0, 5, (WINDOW, 2, 8)).astype(np.int8)
    for slot in range(1, 8):  # each does what the one before it did a tick ago, mostly
        copies = rng.random((WINDOW, 2)) < 0.8
        moves[:, :, slot] = np.where(copies, np.roll(moves[:, :, slot - 1], 1, 0), moves[:, :, slot])
    living = {"alive": np.ones((2, 8), bool), "birth": np.zeros((2, 8), np.int32)}

    def asked(moves: np.ndarray, living: dict) -> nulls.Finding:
        book = Book(values)
        book.curves["population"] = [8.0] * (WINDOW // 64)
        book._moves.extend(np.split(moves, WINDOW // 64))
        return book._imitation(living, np.random.default_rng(1))

    found = asked(moves, living)
    assert found.detected
    assert found.n == 24
    assert not asked(rng.integers(0, 5, (WINDOW, 2, 8)).astype(np.int8), living).detected
    assert asked(moves, {**living, "birth": np.full((2, 8), 1)}) == nulls.NOTHING  # born since
    gaps = moves.copy()
    gaps[100, :, 1:] = -1  # all but one of each world were dead once
    assert asked(gaps, living) == nulls.NOTHING
    assert asked(moves, {**living, "alive": np.zeros((2, 8), bool)}) == nulls.NOTHING


def test_information_of_the_field() -> None:
    def smooth(rng):
        field = rng.random((4, 16, 16))
        for _ in range(4):
            field = (field + sum(np.roll(field, by, axis) for by in (1, -1) for axis in (1, 2))) / 5
        return field

    def strangers(rng):
        return influence.field_effect(smooth(rng), smooth(rng) > 0.55, 40, rng)

    def planted(rng):
        field = smooth(rng)
        return influence.field_effect(field, rng.random(field.shape) < 0.1 + 0.3 * (field > np.median(field)), 40, rng)

    assert detections(strangers, 40) <= 5
    assert detections(planted, 10) >= 9
    assert (
        influence.field_effect(np.zeros((2, 8, 8)), np.ones((2, 8, 8), bool), 40, np.random.default_rng(0))
        == nulls.NOTHING
    )


@pytest.mark.parametrize("kind", ["noise", "ar", "walk", "drift"])
def test_changes_of_course_are_not_found_in_noise(kind: str) -> None:
    def series(rng):
        steps = rng.normal(size=76)
        found = {
            "noise": steps,
            "ar": np.convolve(steps, 0.9 ** np.arange(60))[:76],
            "walk": steps.cumsum(),
            "drift": (steps + 0.3).cumsum(),
        }
        return estimates.change_point(found[kind], rng)[1]

    assert detections(series) <= ALLOWED


def test_a_change_of_course_is_found_where_it_is() -> None:
    rng = np.random.default_rng(0)
    steps = rng.normal(size=100) * 0.5
    steps[60:] += 1
    at, finding = estimates.change_point(steps.cumsum(), rng)
    assert finding.detected
    assert abs(at - 60) <= 6
    assert estimates.change_point(np.ones(100), rng)[1] == nulls.NOTHING


def test_diversity_and_divergence() -> None:
    alike = np.full((4, 3, 5), 0.2)
    assert metrics.behavioural_diversity(alike) == pytest.approx(0)
    apart = np.eye(4, 5)[:, None, :].repeat(3, 1)
    assert metrics.behavioural_diversity(apart) == pytest.approx(1)
    rng = np.random.default_rng(0)
    # Descent without selection: forty lines of thirty mutations each.
    drifted = 0.1 * rng.normal(size=(40, 30, 200)).sum(1)
    assert metrics.divergence(drifted, np.full(40, 30.0), 0.1) == pytest.approx(1, abs=0.05)
    assert metrics.divergence(drifted * 2, np.full(40, 30.0), 0.1) == pytest.approx(2, abs=0.1)
    founders = 0.5 * rng.normal(size=(40, 200))
    assert metrics.divergence(drifted + founders, np.full(40, 30.0), 0.1, 0.5) == pytest.approx(1, abs=0.05)
    assert metrics.divergence(founders, np.full(40, 30.0), 0.0, 0.5) == pytest.approx(1, abs=0.05)
    assert np.isnan(metrics.divergence(founders, np.full(40, 30.0), 0.0))


def test_intervals_and_effects() -> None:
    each = estimates.over_seeds([1.0, 2.0, 3.0, 4.0, 100.0])
    assert each.value == pytest.approx(3)  # the interquartile mean does not hear the last
    assert each.low <= 3 <= each.high
    assert estimates.over_seeds([2.0, 2.0, 2.0]).low == 2
    assert estimates.effect_size([2, 3, 4.5], [1, 2, 3]) == pytest.approx(
        np.mean([1, 1, 1.5]) / np.std([1, 1, 1.5], ddof=1)
    )
    assert estimates.effect_size([1, 2], [1, 2]) == 0


def population(traits: list[float]) -> dict[str, np.ndarray]:
    count = len(traits)
    return {
        "alive": np.ones((1, count), bool), "uid": np.arange(count)[None], "parent": np.full((1, count), -1),
        "birth": np.zeros((1, count), int), "population": np.zeros((1, count), int), "trait": np.array([traits]),
    }  # fmt: skip


def generations(rng, *, selected: bool) -> tuple[Shadow, np.ndarray]:
    """Twenty live one tick and have twenty children: those with high traits, or anybody. uids 0 to 19, then 20 to 39,
    and so on."""
    shadow, trait, living = Shadow(), np.full(20, 0.5), population([0.5] * 20)
    shadow.follow(living, np.zeros((0, 1 + len(GRAVE)), np.int64), 0.1, rng)
    assert shadow.now().shape == (SHADOWS, 20)
    assert (shadow.now() == 0.5).all()
    for generation in range(1, 30):
        parents = rng.choice(np.argsort(trait)[-5:] if selected else 20, 20)
        old = living
        trait = np.clip(trait[parents] + 0.1 * rng.normal(size=20), 0, 1)
        living = population(trait.tolist())
        living["uid"] = np.arange(20)[None] + 20 * generation
        living["parent"] = old["uid"][:, parents]
        living["birth"] = np.full((1, 20), generation)
        dead = np.zeros((20, 1 + len(GRAVE)), np.int64)
        dead[:, 1], dead[:, 1 + PARENT], dead[:, 6] = old["uid"][0], old["parent"][0], generation + 1
        shadow.follow(living, dead, 0.1, rng)
        assert len(shadow.traits) == 20
    return shadow, trait


def test_a_shadow_has_the_same_births_and_deaths_and_no_selection() -> None:
    def found(selected: bool):
        def ask(rng):
            shadow, trait = generations(rng, selected=selected)
            return metrics.specialists(trait, shadow.now())

        return ask

    assert detections(found(selected=True), 3) == 3
    assert detections(found(selected=False)) <= ALLOWED  # a population without selection is as its shadows are
    shadow, _ = generations(np.random.default_rng(0), selected=True)
    copy = Shadow()
    copy.load_state_dict(shadow.state_dict())
    assert np.array_equal(copy.now(), shadow.now())


def test_too_little_is_said_to_be_too_little() -> None:
    assert str(nulls.NOTHING) == "too few samples"
    assert str(nulls.Finding(0.5, 0.1, 0.02, 30)) == "0.5, by chance 0.1: detected (p = 0.020), n = 30"
    messages.said(str(nulls.Finding(0.5, 0.1, 0.4, 30)), "emergence/not-detected", number="0.40")
    assert config().track.surrogates == 20


def test_a_book_of_an_earlier_version_is_read_and_continues_under_its_own_names() -> None:
    state = Book(config()).state_dict() | {"curves": {"kl": np.array([0.1, 0.2]), "intake": np.array([1.0, 2.0])}}
    book = Book(config())
    book.load_state_dict(state)
    assert book.curves == {"approx_kl": [0.1, 0.2], "intake": [1.0, 2.0]}
    again = book.state_dict()["curves"]
    assert {name: list(values) for name, values in again.items()} == {"kl": [0.1, 0.2], "intake": [1.0, 2.0]}
