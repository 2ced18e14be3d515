"""The parts of a table of poisoning by name, for implicit feedback: attacks, victims and detectors.

NeuMF, LightGCN and Mult-VAE are trained as in `experiments.ml1m_full_table`, but for what is an argument here.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import optax

from jaxrec import command, losses, objectives, sampling, sequences
from jaxrec.detectors import classifier, isolation_forest, neural, pca, spectral
from jaxrec.fake_profiles import Direction
from jaxrec.inner import ease as exact_ease
from jaxrec.inner import ials as exact_ials
from jaxrec.inner import unrolled as training
from jaxrec.models import ease, ials, item_knn, lightgcn, mf, mult_vae, neumf
from jaxrec.poisoning import (
    average,
    bandwagon,
    generated,
    implicit,
    love_hate,
    random_ratings,
    reverse_bandwagon,
    segment,
    unrolled,
)
from jaxrec.studies import poison_victims
from jaxrec.studies.poison_victims import Victim
from jaxrec.types import Detector, Poison

ATTACKS = {
    "random": random_ratings, "average": average, "love/hate": love_hate,
    "bandwagon": bandwagon, "reverse bandwagon": reverse_bandwagon, "segment": segment,
    "exact EASE": implicit, "exact iALS": implicit, "unrolled": unrolled, "generated": generated,
}  # fmt: skip
SELECTING = ("bandwagon", "reverse bandwagon", "segment")
LEARNED = ("exact EASE", "exact iALS", "unrolled")
IALS_EPOCHS = 8


def attacks(
    names: Sequence[str],
    *,
    profile_size: int,
    num_selected: int,
    num_steps: int,
    dimension: int,
    ease_l2: float,
    ials_l2: float,
) -> dict[str, Callable[[int, Direction], Poison]]:
    """{name: (number of fakes, direction) -> poison}.

    Args:
        names: Of `ATTACKS`.
        profile_size: Items of a fake beside the targets.
        num_selected: Of them, those that the attacks named in `SELECTING` choose.
        num_steps: Of each attack named in `LEARNED`; a generator takes its own number.
        dimension, ease_l2, ials_l2: Of their surrogates.

    Raises:
        InputError: If a name is unknown.
    """
    weights = {"dimension": dimension, "l2": ials_l2}
    surrogates = {
        "exact EASE": exact_ease.surrogate(l2=ease_l2),
        "exact iALS": exact_ials.surrogate(**weights),
        "unrolled": training.surrogate(**weights, unrolled_steps=10),
        "generated": exact_ease.surrogate(l2=ease_l2),
    }

    def make(num_fakes, direction, *, name):
        selecting = {"num_selected": num_selected} if name in SELECTING else {}
        surrogate = {"surrogate": surrogates[name]} if name in surrogates else {}
        steps = {"num_steps": num_steps} if name in LEARNED else {}
        num_fillers = profile_size - sum(selecting.values())
        parts = {**selecting, **surrogate, **steps, "direction": direction}
        return ATTACKS[name].attack(num_fakes=num_fakes, num_fillers=num_fillers, **parts)

    return {name: functools.partial(make, name=name) for name in command.named(names, ATTACKS, "attacks")}


def victims(
    names: Sequence[str],
    *,
    dimension: int,
    neighbours: int,
    ease_l2: float,
    ials_l2: float,
    epochs: Mapping[str, int],
    graph_batch: int,
    user_batch: int,
) -> dict[str, Victim]:
    """{name: victim}.

    Args:
        names: Of item-kNN, MF-BPR, iALS, EASE, NeuMF, LightGCN and Mult-VAE.
        dimension: Of MF-BPR, iALS and LightGCN.
        neighbours: Of item-kNN.
        ease_l2, ials_l2: Of EASE and of iALS.
        epochs: {name: epochs} of the four that are trained by steps.
        graph_batch: Pairs a step of LightGCN.
        user_batch: Users a step of Mult-VAE.

    Raises:
        InputError: If a name is unknown.
    """
    factors = {"dimension": dimension}
    made = {
        "item-kNN": poison_victims.solved(functools.partial(item_knn.model, num_neighbours=neighbours)),
        "MF-BPR": poison_victims.by_bpr(functools.partial(mf.model, **factors), num_epochs=epochs["MF-BPR"]),
        "iALS": poison_victims.solved(functools.partial(ials.model, **factors, l2=ials_l2, num_epochs=IALS_EPOCHS)),
        "EASE": poison_victims.solved(functools.partial(ease.model, l2=ease_l2)),
        "NeuMF": poison_victims.by_steps(
            functools.partial(neumf.model, dimension=16),
            lambda model: objectives.listwise(model=model, loss=losses.bce),
            optax.adam(1e-3),
            num_epochs=epochs["NeuMF"],
            batch_size=512,
            draw=functools.partial(sampling.negatives, num=4),
        ),
        "LightGCN": poison_victims.by_steps(
            functools.partial(lightgcn.model, **factors),
            lambda model: objectives.pairwise(model=model, l2=1e-4),
            optax.adam(5e-3),
            num_epochs=epochs["LightGCN"],
            batch_size=graph_batch,
        ),
        "Mult-VAE": poison_victims.by_steps(
            mult_vae.model,
            lambda model: mult_vae.objective(anneal_steps=1000),
            optax.adam(1e-3),
            num_epochs=epochs["Mult-VAE"],
            batch_size=user_batch,
            examples=functools.partial(sequences.examples, at_least=1),
        ),
    }
    return {name: made[name] for name in command.named(names, made, "victims")}


def detectors() -> dict[str, Detector]:
    """{name: detector}; PCA, which defences go by, first."""
    return {
        "PCA": pca.detector(), "spectral": spectral.detector(), "forest": isolation_forest.detector(),
        "classifier": classifier.detector(), "neural": neural.detector(),
    }  # fmt: skip
