"""Every model on the files that people bring: no times, odd ids, users with next to nothing, items nobody trains on.

A model is solved, or takes steps for an epoch; then it ranks, and makes lists, as in a table.
"""

import importlib
import inspect
import pkgutil

import jax
import numpy as np
import pytest

from jaxrec import bench, loop, models, objectives, sequences
from jaxrec.datasets import published
from jaxrec.types import InputError

METHODS = {
    name: module.model
    for name in (info.name for info in pkgutil.iter_modules(models.__path__))
    if hasattr(module := importlib.import_module(f"jaxrec.models.{name}"), "model")
}
FILES = {
    # Ratings, no times; user 7 has one row, user 8 two, and the rows of 900001 are all that item has.
    "several users": "user_id,item_id,rating\n"
    + "".join(f"{10**12 + u},{5 * i + u},{1 + (u + i) % 5}\n" for u in range(4) for i in range(5))
    + "7,5,3\n8,10,4\n8,900001,1\n",
    # One user with four rows: two to train on.
    "one user": "user,item,timestamp\n3,30,1\n3,10,2\n3,20,3\n3,40,4\n",
}


def opened(tmp_path, text):
    (tmp_path / "mine.csv").write_text(text)
    return published.own(tmp_path / "mine.csv")


def fitted(model, pairs):
    """Solved, or trained for an epoch by what it is trained by: the next item, or pairs."""
    if model.solve is not None:
        return model.knowing(model.solve(pairs, jax.random.key(0)), pairs)
    start = model.knowing(model.init(jax.random.key(0)), pairs)
    num_items = pairs.num_items
    if model.sequence is not None and model.sequence.states is not None:
        objective, rows = sequences.next_item(model=model, num_items=num_items), sequences.examples(pairs)
    else:
        objective, rows = objectives.pairwise(model=model), pairs
    return loop.fit_in_memory(model, objective, rows, num_epochs=1, batch_size=4, start=start)


TOO_LITTLE = {("pure_svd", "one user"): "Expected dimension < 1"}  # one row has no truncated decomposition


# Every model on the first file; on the second one of each kind, as each takes compiling.
CASES = [(method, "several users") for method in METHODS]
CASES += [(method, "one user") for method in ("mf", "ease", "pure_svd", "lightgcn", "sasrec")]


@pytest.mark.parametrize(("method", "name"), CASES)
def test_it_is_fitted_ranks_and_makes_lists(method, name, tmp_path):
    split = opened(tmp_path, FILES[name]).split
    sizes = {"num_users": split.train.num_users, "num_items": split.train.num_items, "dimension": 4}
    sizes |= {"max_length": 8, "num_blocks": 1, "window": 3}
    names = inspect.signature(METHODS[method]).parameters
    build = lambda: METHODS[method](**{name: size for name, size in sizes.items() if name in names})
    if (method, name) in TOO_LITTLE:
        with pytest.raises(InputError, match=TOO_LITTLE[method, name]):
            build()
        return
    model = build()
    on = bench.leave_one_out(split)
    params = model.knowing(fitted(model, split.train), on.both)
    scores = jax.jit(model.score_all)(params, np.arange(split.train.num_users))
    assert np.isfinite(scores).all()
    found = bench.measure(model, params, on.test)
    assert len(found.ranks) == len(split.test)
    assert ((found.ranks >= 1) & (found.ranks <= on.test.num_ranked)).all()
    for user, items in enumerate(found.lists):
        listed = items[items >= 0]
        known = on.both.items[on.both.users == user]
        assert not np.isin(listed, known).any()
        assert len(listed) == min(len(items), split.train.num_items - len(np.unique(known)))


def test_the_files_have_what_they_are_here_for(tmp_path):
    split = opened(tmp_path, FILES["several users"]).split
    counts = np.bincount(split.train.users, minlength=6)
    assert counts.tolist() == [1, 2, 3, 3, 3, 3], "users 7 and 8 are in training alone"
    assert split.train.timestamps is None
    assert set(split.test.users.tolist()) == {2, 3, 4, 5}
    trained = np.bincount(split.train.items, minlength=split.train.num_items)
    assert (trained == 0).any(), "there is an item that nobody trains on"
    assert (np.bincount(split.train.users) < 2).any(), "there is a sequence shorter than 2"


REFUSED = {
    "words as ids": ("user,item\nann,1\nann,2\nbob,1\n", r"mine\.csv.*user as"),
    "one item only": ("user,item\n1,5\n2,5\n3,5\n", "at least two items"),
    "nobody with three": ("user,item\n1,5\n1,6\n2,5\n", "a user with at least three interactions"),
    "nothing": ("user,item\n", "rows after the header"),
    "no item column": ("user,movie_title\n1,2\n", "a column item_id"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_said_in_a_line(name, tmp_path):
    text, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as refused:
        opened(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_one_user_with_three_has_no_sequence_to_train_on(tmp_path):
    """Two of the three are held out: pairs can be trained on, sequences cannot."""
    split = opened(tmp_path, "user,item,timestamp\n3,30,1\n3,10,2\n3,20,3\n").split
    assert len(split.train) == 1
    assert len(sequences.examples(split.train)) == 0
