"""The laws of every poison, each found by its file: what its fakes are, and what they never touch."""

import dataclasses
import importlib
import inspect
import itertools
import pkgutil

import jax
import numpy as np
import pytest

from jaxrec import fake_profiles, poisoning, provenance
from jaxrec.types import InputError, Interactions, Poison

METHODS = {
    name: module.attack
    for name in (info.name for info in pkgutil.iter_modules(poisoning.__path__))
    if hasattr(module := importlib.import_module(f"jaxrec.poisoning.{name}"), "attack")
}
NUM_USERS, NUM_ITEMS, NUM_FAKES, NUM_FILLERS = 9, 14, 4, 3
TARGETS = np.array([11, 2])
DIRECTIONS = ("push", "nuke")
LEARNED = {"implicit", "unrolled"}  # climb to an optimum, which may be one from all the starts that keys draw


def data(kind):
    """Nine users of fourteen items, of which the last nobody has; half stars from .5 to 4, or implicit feedback."""
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((NUM_USERS, NUM_ITEMS - 1)) < 0.5)
    ratings = (rng.integers(1, 9, len(users)) / 2).astype(np.float32)
    ratings[:2] = 0.5, 4.0
    return Interactions(
        users.astype(np.int32),
        items.astype(np.int32),
        NUM_USERS,
        NUM_ITEMS,
        ratings=ratings if kind == "ratings" else None,
        timestamps=np.arange(len(users)) + 100 if kind == "implicit, with times" else None,
    )


DATA = {kind: data(kind) for kind in ("ratings", "implicit", "implicit, with times")}
every_method = pytest.mark.parametrize("method", METHODS)
every_case = pytest.mark.parametrize(
    ("method", "direction", "kind"), list(itertools.product(METHODS, DIRECTIONS, DATA))
)


def craft(method, kind="ratings", *, direction="push", seed=0, num_fakes=NUM_FAKES, targets=TARGETS, **more):
    options = {"num_fillers": NUM_FILLERS, "direction": direction, **more}
    return METHODS[method](num_fakes=num_fakes, **options)(jax.random.key(seed), DATA[kind], targets)


def num_selected(method):
    parameter = inspect.signature(METHODS[method]).parameters.get("num_selected")
    return 0 if parameter is None else parameter.default


def digest(interactions):
    return provenance.fingerprint(interactions)["sha256"]


def test_the_folder_is_read():
    assert {"random_ratings", "average", "bandwagon", "reverse_bandwagon", "segment", "love_hate"} <= set(METHODS)


@every_method
def test_it_has_the_shape_and_every_hyperparameter_but_num_fakes_has_a_default(method):
    assert isinstance(METHODS[method](num_fakes=1), Poison)
    for name, parameter in inspect.signature(METHODS[method]).parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY, name
        assert name == "num_fakes" or parameter.default is not parameter.empty, name


@every_case
def test_the_budget_is_spent_and_no_profile_has_an_item_twice(method, direction, kind):
    fakes = craft(method, kind, direction=direction)
    touches_targets = direction == "push" or kind == "ratings"
    expected = NUM_FILLERS + num_selected(method) + len(TARGETS) * touches_targets
    assert fakes.num_users == NUM_FAKES
    for user in range(NUM_FAKES):
        items = fakes.items[fakes.users == user]
        assert len(items) == len(set(items.tolist())) == expected
        assert (set(TARGETS) <= set(items.tolist())) == touches_targets


@every_case
def test_columns_are_those_of_the_data(method, direction, kind):
    fakes, real = craft(method, kind, direction=direction), DATA[kind]
    assert fakes.num_items == real.num_items
    assert (fakes.ratings is None) == (real.ratings is None)
    assert (fakes.timestamps is None) == (real.timestamps is None)
    if fakes.ratings is not None:
        assert set(fakes.ratings.tolist()) <= set(real.ratings.tolist())
    if fakes.timestamps is not None:
        assert set(fakes.timestamps.tolist()) <= set(real.timestamps.tolist())


@every_method
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_targets_get_the_extreme_of_their_direction(method, direction):
    fakes = craft(method, direction=direction)
    assert set(fakes.ratings[np.isin(fakes.items, TARGETS)].tolist()) == {4.0 if direction == "push" else 0.5}


@every_case
def test_a_key_decides_all_and_another_key_draws_others(method, direction, kind):
    first, again, other = (craft(method, kind, direction=direction, seed=seed) for seed in (0, 0, 1))
    assert digest(first) == digest(again)
    assert method in LEARNED or digest(first) != digest(other)


@every_method
@pytest.mark.parametrize("kind", DATA)
def test_no_fakes_are_nothing_and_change_nothing(method, kind):
    fakes = craft(method, kind, num_fakes=0)
    assert (len(fakes), fakes.num_users) == (0, 0)
    assert digest(fake_profiles.contaminate(DATA[kind], fakes)) == digest(DATA[kind])


@every_case
def test_fakes_come_after_the_real_users_whose_rows_stay_bit_for_bit(method, direction, kind):
    before = digest(DATA[kind])
    fakes, real = craft(method, kind, direction=direction), DATA[kind]
    both = fake_profiles.contaminate(real, fakes)
    kept = dataclasses.replace(both.take(np.arange(len(real))), num_users=NUM_USERS)
    assert digest(kept) == digest(real) == before
    assert both.users[len(real) :].min() == NUM_USERS
    assert both.users.max() == NUM_USERS + NUM_FAKES - 1
    assert fake_profiles.is_fake(both, fakes).tolist() == [False] * NUM_USERS + [True] * NUM_FAKES


@every_case
def test_beside_the_targets_only_allowed_items_are_touched(method, direction, kind):
    allowed = np.arange(NUM_ITEMS) % 7 != 3
    allowed[TARGETS] = False
    for seed in range(3):
        fakes = craft(method, kind, direction=direction, allowed=allowed, seed=seed)
        assert allowed[fakes.items[~np.isin(fakes.items, TARGETS)]].all()


@every_method
@pytest.mark.parametrize("name", ["num_fakes", "num_fillers"])
def test_a_negative_budget_is_refused_when_it_is_built(method, name):
    with pytest.raises(ValueError, match=rf"{name} >= 0, got {name}=-1"):
        METHODS[method](**{"num_fakes": 1} | {name: -1})


@every_method
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_fakes": NUM_USERS + 1}, "at most as many fakes as the 9 users, got num_fakes=10"),
        ({"num_fillers": NUM_ITEMS - 1}, "fit the 12 allowed items that are no target, got num_fillers=13"),
        ({"targets": np.array([3, 14])}, r"targets in \[0, 14\), got 14"),
        ({"targets": np.array([3, 3])}, r"targets \[T >= 1\], each once, got \[3, 3\]"),
        ({"targets": np.array([], np.int64)}, r"targets \[T >= 1\], each once, got \[\]"),
        ({"allowed": np.ones(3, bool)}, r"allowed of shape \(14,\), got \(3,\)"),
    ],
)
def test_what_the_data_do_not_allow_is_refused_by_name(method, options, message):
    with pytest.raises(ValueError, match=message):  # an InputError is one
        craft(method, **options)


def test_too_large_a_budget_is_an_input_error():
    with pytest.raises(InputError):
        craft("random_ratings", num_fakes=NUM_USERS + 1)
