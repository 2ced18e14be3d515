"""What do novelty and diversity cost in accuracy, and does adversarial training change the price? On MovieLens-1M.

The MF models of a run, BPR and APR, are moved along the trade-off in three ways: their top 100 reranked by MMR
(Carbonell and Goldstein, SIGIR 1998) and by a greedy DPP (Chen, Zhang and Zhou, NeurIPS 2018, arXiv:1709.05135), both
by genres, and the models trained on with accuracy, novelty and diversity in one weighted loss (`tradeoff.objective`),
APR with its adversary still there. Validation items choose, test items are reported.

Expected: NDCG@10 / intra-list diversity / novelty in bits, of the points that validation chose: BPR as trained .0443 /
          .610 / 2.53, MMR .7 .0452 / .711 / 2.49, DPP 2 .0454 / .737 / 2.45, loss (0, .3) .0448 / .642 / 2.69; APR as
          trained .0479 / .618 / 2.39, MMR .7 .0489 / .715 / 2.35, DPP 2 .0489 / .739 / 2.32, loss (0, 1) .0487 / .666 /
          2.54 (3 seeds, NDCG +- .0036 or less; 1 core of an AMD EPYC, commit f70c131 before a rebase).
Cost:     6 minutes of one CPU core.
Run:      python -m experiments.tradeoffs --run RUN_DIR      (of ml1m_apr)
"""

import dataclasses
import json
import pathlib

from jaxrec import command, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    run: pathlib.Path | None = None  # a finished run of experiments.ml1m_apr, whose APR settings are gone on with
    num_seeds: int = 3  # how many of its seeds, from the first on
    trade_offs: tuple[float, ...] = (0.9, 0.8, 0.7, 0.6, 0.5, 0.3)  # MMR's lambda, 1: relevance alone
    relevance_weights: tuple[float, ...] = (32.0, 8.0, 4.0, 2.0, 1.0, 0.5)  # the DPP's alpha, 0: diversity alone
    ridge: float = 0.1  # on the DPP's diagonal, so that films of the same genres can stand in one list
    pool: int = 100  # highest scores that a list is reranked from
    novelty_weights: tuple[float, ...] = (0.0, 0.3, 1.0, 0.0, 0.0, 0.1, 0.3)  # of each weighted loss
    diversity_weights: tuple[float, ...] = (0.0, 0.0, 0.0, 0.3, 1.0, 0.1, 0.3)  # of the same
    epochs: int = 1  # that a weighted loss is trained on for
    learning_rate: float = 0.01  # of Adagrad, anew; the run's own undoes some of the model before it settles
    batch_size: int = 512  # examples a step
    num_candidates: int = 64  # items, for each batch, that novelty and diversity are expected on
    temperature: float = 0.5  # of that softmax, in units of the spread of scores
    keep: float = 0.95  # a chosen point keeps this share of the validation NDCG
    out: pathlib.Path | None = None  # folder for the results; a stopped study goes on (default: in the run)
    data_dir: pathlib.Path | None = None  # where the data of the run lie (default: as in experiments.ml1m_apr)


EXPECTED: dict[str, command.Expected] = {
    **dict.fromkeys(("num_seeds", "pool", "epochs", "learning_rate", "batch_size"), command.POSITIVE),
    **dict.fromkeys(("num_candidates", "temperature"), command.POSITIVE),
    **dict.fromkeys(("trade_offs", "relevance_weights", "ridge", "keep"), command.NON_NEGATIVE),
    **dict.fromkeys(("novelty_weights", "diversity_weights"), command.NON_NEGATIVE),
}


def main(config: Config) -> None:
    command.check(config, EXPECTED, may_repeat=("novelty_weights", "diversity_weights"))
    runtime.prepare()
    from jaxrec.datasets import locate
    from jaxrec.studies import attack_study, tradeoff_study, tradeoff_tables
    from jaxrec.types import InputError

    if len(config.novelty_weights) != len(config.diversity_weights):
        raise InputError("Expected as many --novelty-weights as --diversity-weights: each pair is one loss.")
    with attack_study.opened("tradeoffs", config) as study:
        movies = locate.movies(locate.movielens_1m(config.data_dir, seed=study.seeds[0]))
        catalogue = tradeoff_study.catalogue(study.first.victim.split.train, movies)
        trainings = [training for training in study.trainings if training.seed in study.seeds[: config.num_seeds]]
        losses = tradeoff_study.Losses(
            train=trained_on(config, study.source, catalogue),
            weights=list(zip(config.novelty_weights, config.diversity_weights, strict=True)),
            training=f"{config.epochs} epochs of Adagrad {config.learning_rate:g} with weights (novelty, diversity) on "
            f"{config.num_candidates} sampled items, temperature {config.temperature:g}",
        )
        found = tradeoff_study.run(study, trainings, catalogue, sweeps(config), losses, pool=config.pool)
        tradeoff_tables.publish(study, found, tradeoff_tables.records_of(study, found, losses, keep=config.keep))


def sweeps(config: Config):
    """The rerankers over their hyperparameters."""
    from jaxrec import rerank
    from jaxrec.studies.attack_study import K
    from jaxrec.studies.tradeoff_study import Sweep

    return {
        "MMR": Sweep(lambda value: rerank.mmr(k=K, trade_off=value), config.trade_offs),
        "DPP": Sweep(
            lambda value: rerank.dpp(k=K, relevance_weight=value, ridge=config.ridge), config.relevance_weights
        ),
    }


def trained_on(config: Config, source: pathlib.Path, catalogue):
    """(victim, training, novelty weight, diversity weight) -> the victim's params, trained on; APR against its FGSM."""
    import optax

    from jaxrec import loop, objectives, tradeoff
    from jaxrec.attacks import fgsm
    from jaxrec.defences import apr

    flags = json.loads((source / "config.json").read_text())["config"]

    def train(loaded, training, novelty_weight, diversity_weight):
        # The candidates may be any items, so the whole item table takes part in a step.
        model = dataclasses.replace(loaded.victim.model, reads={"user": ("users",)})
        clean = objectives.pairwise(model=model)
        if training.stage == "apr":
            attack = fgsm.attack(epsilon=flags["epsilon"])
            clean = apr.objective(
                clean=clean, attack=attack, surface=loaded.victim.surface, adv_weight=flags["adv_weight"]
            )
        objective = tradeoff.objective(
            clean=clean,
            model=model,
            information=catalogue.information,
            vectors=catalogue.vectors,
            novelty_weight=novelty_weight,
            diversity_weight=diversity_weight,
            num_candidates=config.num_candidates,
            temperature=config.temperature,
        )
        return loop.fit_in_memory(
            model,
            objective,
            loaded.victim.split.train,
            num_epochs=config.epochs,
            batch_size=config.batch_size,
            optimizer=optax.adagrad(config.learning_rate, initial_accumulator_value=0.1),
            seed=training.seed,
            start=loaded.victim.params,
        )

    return train


if __name__ == "__main__":
    command.run(main, Config)
