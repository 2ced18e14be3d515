"""Factorisation machines and what is built on their fields, against sums over all pairs of fields, written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import planted_groups
import pytest
import sides

from jaxrec import fields, objectives, surfaces
from jaxrec.models import dcn_v2, deepfm, fm

SIZES = {"num_users": 6, "num_items": 7, "dimension": 3, "num_buckets": 5}
LOW_RANK = functools.partial(dcn_v2.model, rank=2)
METHODS = {"fm": fm.model, "deepfm": deepfm.model, "dcn_v2": dcn_v2.model}


def perceptron(layers, parts):
    """Hidden layers of the concatenated rows of the user's, the item's and the crosses' fields."""
    as_float = lambda x: np.asarray(x, float)
    hidden = sum(x @ as_float(layers[name]["kernel"]) for name, x in zip(("user", "item", "both"), parts, strict=True))
    hidden = np.maximum(hidden + as_float(layers["item"]["bias"]), 0)
    return np.maximum(hidden @ as_float(layers["layer_1"]["kernel"]) + as_float(layers["layer_1"]["bias"]), 0)


def machine(rows):
    """Rendle's eq. 1: the last column the weights, and every pair of fields once."""
    pairs = sum(rows[f, :-1] @ rows[g, :-1] for f in range(len(rows)) for g in range(f))
    return rows[:, -1].sum() + pairs


def parts_of(rows):
    """The 4 user fields, 6 item fields and 2 crosses, each flattened."""
    return [part.reshape(-1) for part in np.split(rows, [4, 10])]


def expected_score(name, params, user, item):
    """Of a pair with 12 fields, or with 10 where nothing is crossed."""
    rows, weights = sides.rows_of(params, user, item, 5), params["weights"]
    output = {key: np.asarray(x, float) for key, x in weights.get("output", {}).items()}
    if name == "fm":
        return float(weights["bias"]) + machine(rows)
    if name == "deepfm":
        hidden = perceptron(weights["layers"], parts_of(rows[:, :-1]))
        return float(weights["bias"]) + machine(rows) + output["bias"] + hidden @ output["kernel"]
    start = x = rows.reshape(-1)
    for number in range(2):
        kernel, bias = (np.asarray(weights["crosses"][f"cross_{number}"][part], float) for part in ("kernel", "bias"))
        if name == "dcn_v2, rank 2":
            kernel = np.asarray(weights["crosses"][f"inner_{number}"]["kernel"], float) @ kernel
        x = start * (kernel.T @ x + bias) + x
    return output["bias"] + np.r_[x, perceptron(weights["layers"], parts_of(rows))] @ output["kernel"]


@pytest.mark.parametrize("name", [*METHODS, "dcn_v2, rank 2"])
def test_scores_with_every_kind_of_side_feature_are_the_formula(name):
    model = {**METHODS, "dcn_v2, rank 2": LOW_RANK}[name](
        **SIZES, side=sides.SIDE, **({} if name == "fm" else {"widths": (5, 4)})
    )
    params = sides.drawn(model, scale=0.4)
    everyone = jnp.arange(6)
    scores = jax.jit(model.score_all)(params, everyone)
    expected = [[expected_score(name, params, user, item) for item in range(7)] for user in range(6)]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    pairs = jax.jit(model.score)(params, everyone[:, None], jnp.arange(7)[None])
    np.testing.assert_allclose(pairs, expected, rtol=1e-4, atol=1e-4)


def test_an_fm_without_crosses_scores_all_items_by_one_product_of_sums():
    model = fm.model(**SIZES, side=sides.WITHOUT_CROSSES)
    params = sides.drawn(model)
    expected = [
        [float(params["weights"]["bias"]) + machine(sides.rows_of(params, u, i, 5)) for i in range(7)] for u in (4, 0)
    ]
    np.testing.assert_allclose(jax.jit(model.score_all)(params, jnp.array([4, 0])), expected, rtol=1e-4)


def test_what_is_given_is_a_surface():
    model = fm.model(**SIZES, side=sides.SIDE)
    params = sides.drawn(model)
    surface = surfaces.given("user_values", "item_values")
    x = surface.get(params)
    assert jax.tree.map(jnp.shape, x) == {"user_values": (6, 2), "item_values": (7, 3)}
    loss = lambda x: jnp.sum(jnp.square(model.score(surface.put(params, x), jnp.array([2]), jnp.array([5]))))
    grads = jax.jit(jax.grad(loss))(x)
    assert [np.flatnonzero(np.abs(grads[name]).max(axis=1)).tolist() for name in x] == [[2], [5]]
    assert surface.put(params, x)["given"].keys() == params["given"].keys()
    with pytest.raises(ValueError, match="at least one array"):
        surfaces.given()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("with_side", [False, True], ids=["ids", "side"])
def test_two_planted_groups_are_learned(name, with_side):
    """With the group as a side feature of both and as a cross, it is what is learned first."""
    side = None
    if with_side:
        groups = [np.arange(planted_groups.NUM_USERS)[:, None] % 2, np.arange(planted_groups.NUM_ITEMS)[:, None] // 8]
        user, item = (group.astype(np.int32) for group in groups)
        side = fields.Side(user_ids=user, item_ids=item, user_crossed=user, item_crossed=item)
    sizes = {"num_users": planted_groups.NUM_USERS, "num_items": planted_groups.NUM_ITEMS, "dimension": 4}
    model = METHODS[name](**sizes, side=side, num_buckets=16)
    assert planted_groups.learned(model, objectives.listwise(model=model)) > 0.95


def test_wrong_hyperparameters_are_refused():
    for method in (deepfm.model, dcn_v2.model):
        with pytest.raises(ValueError, match=r"widths=\(\)"):
            method(num_users=2, num_items=2, widths=())
    for setting in ("num_crosses", "rank"):
        with pytest.raises(ValueError, match=f"{setting}=0"):
            dcn_v2.model(num_users=2, num_items=2, **{setting: 0})
