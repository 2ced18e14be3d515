"""NeuMF: generalised matrix factorisation and a multi-layer perceptron, each with embeddings of its own, one output.

    score = bias + h . [p_G * q_G ; MLP(p_M, q_M)]

He, Liao, Zhang, Nie, Hu and Chua, "Neural Collaborative Filtering", WWW 2017, arXiv:1708.05031, eq. 12. The paper
trains both halves first (`gmf`, `mlp`, with Adam), puts them together by `pretrained`, and goes on with plain SGD. Ours
differs from its code in what `gmf` and `mlp` say, and in that an example is a positive with its negatives, which share
a batch. Both embeddings of a user are one row of a table: it is the row that an adversary's budget belongs to.
"""

import jax
import jax.numpy as jnp

from jaxrec.models import gmf, mf, mlp
from jaxrec.types import Array, Key, Model, Params, PyTree


def model(
    *, num_users: int, num_items: int, dimension: int = 8, num_layers: int = 3, init_scale: float = 0.01
) -> Model:
    """Builds the model.

    Args:
        num_users, num_items, init_scale: As in `mf.model`.
        dimension, num_layers: D and the number of layers of both halves, as in `gmf.model` and `mlp.model`.

    Returns:
        A `Model` with tables "user" [U, D + W] and "item" [I, D + W], the first D columns for GMF, and weights "layers"
        and "output" (kernel [2 D] and bias).

    Raises:
        ValueError: As in `mlp.model`.
    """
    sizes = {"num_users": num_users, "num_items": num_items, "init_scale": init_scale}
    perceptron = mlp.model(**sizes, dimension=dimension, num_layers=num_layers)
    embeddings = mf.model(**sizes, dimension=dimension + mlp.width(dimension, num_layers))
    tower = mlp.Tower(mlp.widths(dimension, num_layers))

    def init(key: Key) -> Params:
        table_key, layer_key, output_key = jax.random.split(key, 3)
        layers = perceptron.init(layer_key)["weights"]["layers"]
        weights = {"layers": layers, "output": gmf.output_layer(output_key, 2 * dimension)}
        return {**embeddings.init(table_key), "weights": weights}

    def part(params: Params, name: str, rows: Array) -> tuple[Array, Array]:
        layers = {"params": params["weights"]["layers"]}
        return rows[..., :dimension], jnp.asarray(tower.apply(layers, name, rows[..., dimension:], method="part"))

    def joined(params: Params, user: tuple[Array, Array], item: tuple[Array, Array]) -> Array:
        weights = params["weights"]
        of_product, of_hidden = jnp.split(weights["output"]["kernel"], 2)
        hidden: PyTree = tower.apply({"params": weights["layers"]}, user[1] + item[1], method="rest")
        return weights["output"]["bias"] + (user[0] * item[0]) @ of_product + hidden @ of_hidden

    return mlp.of_parts(embeddings, init, part, joined)


def pretrained(gmf_params: Params, mlp_params: Params, *, alpha: float = 0.5) -> Params:
    """NeuMF's parameters from those of its trained halves: its score is alpha * GMF's + (1 - alpha) * MLP's (eq. 13).

    Args:
        gmf_params, mlp_params: Of models with the same users, items and `dimension`.
        alpha: Share of GMF; the paper's code takes .5.

    Raises:
        ValueError: If `alpha` is not in [0, 1], or the halves differ in their dimension.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"Expected alpha in [0, 1], got alpha={alpha}.")
    halves = [params["weights"]["output"] for params in (gmf_params, mlp_params)]
    if halves[0]["kernel"].shape != halves[1]["kernel"].shape:
        sizes = [len(half["kernel"]) for half in halves]
        raise ValueError(f"Expected halves of one dimension, got {sizes[0]} and {sizes[1]}.")
    scaled = [jax.tree.map(lambda x: alpha * x, halves[0]), jax.tree.map(lambda x: (1 - alpha) * x, halves[1])]
    output = {
        "kernel": jnp.concatenate([half["kernel"] for half in scaled]),
        "bias": scaled[0]["bias"] + scaled[1]["bias"],
    }
    join = lambda first, second: jnp.concatenate([first, second], axis=1)
    return {
        "tables": jax.tree.map(join, gmf_params["tables"], mlp_params["tables"]),
        "weights": {"layers": mlp_params["weights"]["layers"], "output": output},
        "given": {},
    }
