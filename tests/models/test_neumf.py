"""What is special to NeuMF and its halves: formulas written out, the halves put together, a planted structure."""

import jax
import jax.numpy as jnp
import numpy as np
import planted_groups
import pytest

from jaxrec import objectives
from jaxrec.models import gmf, mlp, neumf

HALVES = {
    "gmf": gmf.model(num_users=6, num_items=7, dimension=4),
    "mlp": mlp.model(num_users=6, num_items=7, dimension=4),
}
WHOLE = neumf.model(num_users=6, num_items=7, dimension=4)
EVERYONE = jnp.arange(6)


def drawn(model, seed=0):
    """Parameters with all entries normal, biases too."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(0.7 * rng.normal(size=x.shape), jnp.float32), shapes)


def perceptron(layers, users, items):
    """The last hidden layer of the concatenated rows, as eq. 10 has it."""
    kernel = np.concatenate([layers["user"]["kernel"], layers["item"]["kernel"]])
    hidden = np.maximum(np.concatenate([users, items]) @ kernel + np.asarray(layers["item"]["bias"]), 0)
    for number in (1, 2):
        layer = layers[f"layer_{number}"]
        hidden = np.maximum(hidden @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]), 0)
    return hidden


def test_gmf_is_a_weighted_dot_product():
    params = drawn(HALVES["gmf"])
    user, item = params["tables"]["user"][5], params["tables"]["item"][2]
    output = params["weights"]["output"]
    expected = float(output["bias"]) + sum(
        float(h * p * q) for h, p, q in zip(output["kernel"], user, item, strict=True)
    )
    assert float(HALVES["gmf"].score(params, jnp.array(5), jnp.array(2))) == pytest.approx(expected, rel=1e-5)


def test_mlp_is_a_perceptron_of_the_concatenated_rows():
    params = drawn(HALVES["mlp"])
    assert params["tables"]["user"].shape == (6, 16)
    assert [params["weights"]["layers"][name]["kernel"].shape for name in ("user", "layer_1", "layer_2")] == [
        (16, 16),
        (16, 8),
        (8, 4),
    ]
    hidden = perceptron(params["weights"]["layers"], params["tables"]["user"][5], params["tables"]["item"][2])
    output = params["weights"]["output"]
    expected = float(output["bias"]) + float(hidden @ np.asarray(output["kernel"]))
    assert abs(expected) > 0.1
    assert float(HALVES["mlp"].score(params, jnp.array(5), jnp.array(2))) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("alpha", [0.5, 0.2, 1.0])
def test_neumf_from_its_halves_scores_their_weighted_mean(alpha):
    params = {name: drawn(model, seed) for seed, (name, model) in enumerate(HALVES.items())}
    by_gmf, by_mlp = (HALVES[name].score_all(params[name], EVERYONE) for name in HALVES)
    together = neumf.pretrained(params["gmf"], params["mlp"], alpha=alpha)
    assert jax.tree.map(jnp.shape, together) == jax.tree.map(
        lambda x: x.shape, jax.eval_shape(WHOLE.init, jax.random.key(0))
    )
    expected = alpha * by_gmf + (1 - alpha) * by_mlp
    np.testing.assert_allclose(WHOLE.score_all(together, EVERYONE), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gmf", "mlp", "neumf"])
def test_two_planted_groups_are_learned(name):
    make = {"gmf": gmf.model, "mlp": mlp.model, "neumf": neumf.model}[name]
    model = make(num_users=planted_groups.NUM_USERS, num_items=planted_groups.NUM_ITEMS, dimension=4)
    assert planted_groups.learned(model, objectives.listwise(model=model)) > 0.95


def test_wrong_hyperparameters_are_refused():
    with pytest.raises(ValueError, match="num_layers=0"):
        mlp.model(num_users=2, num_items=2, num_layers=0)
    with pytest.raises(ValueError, match="num_items=0"):
        neumf.model(num_users=2, num_items=0)
    halves = [drawn(HALVES["gmf"]), drawn(HALVES["mlp"])]
    with pytest.raises(ValueError, match=r"alpha=1\.5"):
        neumf.pretrained(*halves, alpha=1.5)
    with pytest.raises(ValueError, match="4 and 2"):
        neumf.pretrained(halves[0], drawn(mlp.model(num_users=6, num_items=7, dimension=2)))
