"""Defensive distillation: a student learns a teacher's lists, both softened by a temperature that is then taken away.

Papernot, McDaniel, Wu, Jha and Swami, "Distillation as a Defense to Adversarial Perturbations against Deep Neural
Networks", IEEE S&P 2016, arXiv:1511.04508. Broken by Carlini and Wagner, "Towards Evaluating the Robustness of Neural
Networks", IEEE S&P 2017, arXiv:1608.04644: a student whose scores grow with the temperature saturates every softmax, so
that gradients of a cross-entropy vanish, and is as easy to move as before for an adversary who does not ask for those.
It stands here to be attacked.
"""

import jax
import jax.numpy as jnp

from jaxrec import checks, consistency, losses
from jaxrec.types import Model, Objective, Params, Scalar


def objective(
    *,
    model: Model,
    teacher: Model,
    teacher_params: Params,
    num_users: int,
    num_items: int,
    list_scores: consistency.ListScores,
    temperature: Scalar = 20.0,
) -> Objective:
    """Builds the student's objective, the cross-entropy of the two softened lists:

        sum over examples and items of -p_teacher * log p_student,   p = softmax(scores / temperature)

    The teacher is trained at the same temperature on the data: `objectives.listwise` with
    `losses.softened(temperature)`. The student is used without one.
    As in the paper the data's labels are not used again, and the loss is not multiplied by the squared temperature, as
    in distillation for compression: learning rates grow with it.

    Args:
        model: The student.
        teacher: May be another model of the same users and items.
        teacher_params: Its parameters, which are not trained. Unless they are traced they become constants of the
            program.
        num_users, num_items: Of the data, U and I.
        list_scores: `consistency.all_items(num_items=I)` in the paper, `batch_items` or `own_items` of `consistency`.
        temperature: The paper's T (1 to 100, 20 on most of its data). May be traced.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`: the sum over the examples whose `where` is true; a user
        counts as often as it comes, its items are those of the list. The metrics are sums: `loss`, `examples`, and
        `divergence` of the student's list from the teacher's, the loss less its least value. The teacher looks its rows
        up by the batch's ids, so steps must be dense (`reads=None`).

    Raises:
        ValueError: If `temperature` is not positive and finite; when it is used, if the student's table "user" or
            "item" has other numbers of rows, as in a step on the touched rows.
    """
    checks.positive(temperature=temperature)
    teacher_params = jax.lax.stop_gradient(teacher_params)

    def distillation(params, batch, key, reduce):
        del key, reduce  # deterministic; a sum over examples needs nothing from other devices
        for name, num in {"user": num_users, "item": num_items}.items():
            if name in params["tables"] and len(params["tables"][name]) != num:
                rows = len(params["tables"][name])
                raise ValueError(
                    f"Expected {num} rows of the table {name}, got {rows}: distillation needs dense steps."
                )
        scores, where = list_scores(model, params, batch)
        softened, _ = list_scores(teacher, teacher_params, batch)
        softened, scores = softened / temperature, scores / temperature
        counted = lambda values: jnp.sum(jnp.where(batch["where"], values, 0))
        chances = jax.nn.softmax(jnp.where(where, softened, -jnp.inf), axis=-1)
        total = counted(losses.softmax(scores, chances, jnp.broadcast_to(where, scores.shape)))
        divergence = counted(losses.divergence(softened, scores, where))
        return total, {"loss": total, "divergence": divergence, "examples": jnp.sum(batch["where"])}

    return distillation
