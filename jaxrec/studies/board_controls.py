"""The rows of a board that defend nothing: plain training, and what defences are to be held against.

As `board_defences`, of which `ALL` is the first part.
"""

import functools
from collections.abc import Sequence

import jax
import optax

from jaxrec import losses, objectives, surfaces
from jaxrec.defences import dropout, noise, normalised, penalties
from jaxrec.models import ensemble
from jaxrec.studies import board
from jaxrec.studies.board import PLAIN, Defence, Setting, Subject
from jaxrec.types import Objective


def plain(on: Subject) -> list[Setting]:
    """No defence: the clean loss goes on."""
    slower = optax.chain(on.optimizer, optax.scale(0.3))
    return [Setting("clean loss", on.clean), Setting("clean loss, learning rate x .3", on.clean, optimizer=slower)]


def grown(on: Subject) -> Sequence[Setting] | str:
    """A control: plain tables scaled up, which is the same model."""
    if on.bounds is None:
        return "its scores are no products of its tables, so that growing them changes the lists"
    grow = lambda params: {**params, "tables": jax.tree.map(lambda x: 10 * x, params["tables"])}
    return [
        each._replace(words=f"{each.words}, tables x 10", after=grow, trained_as=f"{PLAIN}, {each.words}")
        for each in plain(on)
    ]


def random_rows(on: Subject, radius: float) -> Objective:
    """A control: random rows where an adversary's would be."""
    return noise.objective(clean=on.clean, surface=on.relative, epsilon=radius, adv_weight=on.adv_weight)


def penalised(on: Subject) -> Sequence[Setting] | str:
    """A control: L2."""
    if on.model.sequence is not None:
        return "it has no rows of users to weigh beside those of items"
    return [Setting(f"L2 {l2:g}", penalties.objective(clean=on.clean, l2=l2)) for l2 in (0.001, 0.01)]


def dropped(on: Subject) -> list[Setting]:
    """A control: dropout on rows."""
    under = lambda rate: dropout.objective(clean=on.clean, surface=on.surface, rate=rate)
    return [Setting(f"rate {rate:g}", under(rate)) for rate in (0.1, 0.3)]


def of_length_one(on: Subject) -> Sequence[Setting] | str:
    """A control: scores that are cosines."""
    if on.model.score_rows is None:
        return "its scores depend on more than a user's and an item's row"
    models = {t: normalised.wrap(on.model, temperature=t) for t in (0.1, 0.3)}
    return [Setting(f"temperature {t:g}", on.clean_of(model), model=model) for t, model in models.items()]


def smoothed_labels(on: Subject) -> list[Setting]:
    """A control: label smoothing."""
    return [Setting(f"smoothing {share:g}", on.smoothed(share)) for share in (0.1, 0.3)]


def softmaxed(on: Subject) -> Sequence[Setting] | str:
    """A control: a list's softmax, which distillation's student learns from a teacher, learnt from labels."""
    if on.name == "MF":
        make = functools.partial(objectives.among_batch, model=on.model)
        return [Setting(f"of the batch's items, temperature {t:g}", make(loss=losses.softened(t))) for t in (1.0, 5.0)]
    if on.name == "NeuMF":
        return [Setting(f"of the negatives, temperature {t:g}", on.softened(t)) for t in (1.0, 5.0)]
    return "its examples have one negative, of which the softmax is the pairwise loss"


def averaged(on: Subject) -> list[Setting]:
    """A control: the mean of several models' scores, attacked through all of them."""
    (alone, _), names = plain(on), sorted(jax.eval_shape(on.model.init, jax.random.key(0))["tables"])
    make = functools.partial(ensemble.model, num_users=on.train.num_users, num_items=on.train.num_items)

    def of(num: int) -> Setting:
        members = {str(number): on.model for number in range(num)}
        return alone._replace(
            words=f"z-scores of {num} models",
            model=make(members=members),
            surface=surfaces.tables(*(f"{member}/{name}" for member in members for name in names)),
            num_members=num,
            after=lambda *params: ensemble.joined(dict(zip(members, params, strict=True))),
            trained_as=f"{PLAIN}, {alone.words}",
        )

    return [of(2), of(3)]


ALL: dict[str, Defence] = {
    PLAIN: plain,
    "norms grown (control)": grown,
    "noise (control)": board.by_radius(random_rows),
    "L2 (control)": penalised,
    "dropout (control)": dropped,
    "normalised (control)": of_length_one,
    "label smoothing (control)": smoothed_labels,
    "softmax (control)": softmaxed,
    "ensemble (control)": averaged,
}
