"""Filters of texts against writers who edit a few words: spam messages, and complaints among reviews of clothes.

A linear filter (scikit-learn's logistic regression on TF-IDF), one of word embeddings, and the same trained against
FGM on its normalised embeddings (Miyato, Dai and Goodfellow, ICLR 2017, arXiv:1605.07725), at the paper's radius and
a larger one. The attack is on words: k of them replaced, put in or taken out of each test text that should be stopped,
chosen greedily by the gradient and verified by the true score (HotFlip, Ebrahimi et al., ACL 2018), or by asking the
score alone; and texts that were edited against the linear filter are shown to the others. Of equal texts one is kept.

Expected: of SMS spam (3 seeds, commit 12a877c) recall .94 (linear), .93 (embedding) and .92 (FGM 5); after three words
          .53, .26 and .38, after five .10, .01 and .01. Of reviews .65, .62 and .67; after three words .03, .01 and .01
          (docs/reviews.md).
Cost:     2 minutes of one CPU core, 12 by the clock on a machine with other work.
Run:      python -m experiments.review_filter
"""

import dataclasses
import pathlib
from typing import Literal

from jaxrec import command, errors, runtime


@dataclasses.dataclass(frozen=True)
class Config:
    data: tuple[Literal["sms-spam", "clothing-reviews"], ...] = ("sms-spam", "clothing-reviews")  # a table for each
    num_edits: tuple[int, ...] = (1, 3, 5)  # words that a writer edits, ascending
    epsilons: tuple[float, ...] = (5.0, 15.0)  # L2 radii of FGM on a text's rows, a filter each (paper: 5)
    adv_weight: float = 1.0  # of the loss on perturbed rows, beside the clean loss
    num_candidates: int = 16  # edits that HotFlip verifies at each step
    pool_size: int = 50  # words that the black-box search tries at each place, drawn anew at each step
    max_texts: int = 6000  # of a data set, drawn by the first seed; spam has 5,574, reviews 19,818
    max_words: int = 60  # that are read of a text
    num_words: int = 2000  # of the vocabulary
    dimension: int = 32  # of a word's row
    hidden: int = 64  # width of the relu layer
    dropout: float = 0.5  # of rows and of the relu layer
    epochs: int = 10  # at most; validation chooses how many
    batch_size: int = 64  # texts a step
    learning_rate: float = 0.01  # of Adam
    seed: int = 0  # of the first split and training
    num_seeds: int = 3  # splits, each with its trainings, with seeds seed, seed + 1, ...
    run_dir: pathlib.Path | None = None  # holds a run for each data set (default: runs/review_filter/NAME)
    data_dir: pathlib.Path | None = None  # holds sms-spam/ and womens-clothing-reviews/ (default: $JAXREC_DATA)
    smoke: bool = False  # the whole path on 400 texts of each data set


POSITIVE = (
    "num_edits",
    "num_candidates",
    "pool_size",
    "max_texts",
    "max_words",
    "num_words",
    "dimension",
    "hidden",
    "epochs",
)
EXPECTED = {
    **dict.fromkeys((*POSITIVE, "batch_size", "learning_rate", "num_seeds"), command.POSITIVE),
    **dict.fromkeys(("epsilons", "adv_weight", "seed"), command.NON_NEGATIVE),
    "dropout": command.Expected("in [0, 1)", lambda value: 0 <= value < 1),
}
DECIDE_NOTHING = ("run_dir", "data_dir", "data", "num_seeds")  # where things lie, and how much is added to them
SMOKE = {
    "max_texts": 400, "max_words": 20, "num_words": 200, "num_edits": (1, 2), "epsilons": (5.0,), "dimension": 8,
    "hidden": 8, "epochs": 2, "pool_size": 5, "num_seeds": 1,
}  # fmt: skip


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    if list(config.num_edits) != sorted(set(config.num_edits)):
        raise errors.InputError(f"Expected --num-edits ascending, got {' '.join(map(str, config.num_edits))}.")
    if config.pool_size > config.num_words:
        raise errors.InputError(f"Expected --pool-size <= --num-words {config.num_words}, got {config.pool_size}.")
    runtime.prepare()
    from jaxrec import display, results, run_directory, texts
    from jaxrec.studies import study, text_study

    config = dataclasses.replace(config, **(SMOKE if config.smoke else {}))
    seeds = range(config.seed, config.seed + config.num_seeds)
    plans = {name: plan(config, name) for name in config.data}
    for name, made in plans.items():
        for seed in seeds:  # of data with fewer words: refused before anything is trained
            sizes = {"max_words": made.max_words, "num_words": made.num_words, "room": max(made.budgets)}
            found = len(texts.corpus(made.data, seed=seed, **sizes).vocabulary)
            if config.pool_size > found:
                words = f"Expected --pool-size <= {found}, the words of {name} with seed {seed}"
                raise errors.InputError(f"{words}, got {config.pool_size}.")
    for name, made in plans.items():
        about = text_study.fingerprint(made.data)
        display.say(f"Data: {made.data_title}; SHA-256 {about['texts'][:16]}")
        own = config.run_dir and config.run_dir / name
        path = own or study.named_path("review_filter", name, config, may_change=DECIDE_NOTHING)
        with run_directory.open_run(path, config, about, may_change=DECIDE_NOTHING):
            found = text_study.records_of("review_filter", made, text_study.run(path, made, seeds=seeds), seeds=seeds)
            text_study.write(path, found)
        display.records_table(found, results.table)
        display.say(f"Everything lies in {path}/: results.md, edits.png, results.json, edited/, checkpoints/")


def plan(config: Config, name: str):
    """The data, the filters, and the attacks on them."""
    import optax

    from jaxrec import text_classifier
    from jaxrec.attacks import fgsm
    from jaxrec.datasets import filters
    from jaxrec.edits import gradient_guided, greedy
    from jaxrec.studies import text_study
    from jaxrec.studies.text_study import Filter, Threat

    data = filters.drawn(filters.load(name, config.data_dir), num=config.max_texts, seed=config.seed)
    network = text_classifier.averaging(dimension=config.dimension, hidden=config.hidden, dropout=config.dropout)
    words = f"Adam {config.learning_rate:g}, batch {config.batch_size}, best of {config.epochs} epochs by ROC-AUC"

    def embedding(epsilon=None):
        attack = None if epsilon is None else fgsm.attack(epsilon=epsilon)
        against = text_classifier.objective(classifier=network, attack=attack, adv_weight=config.adv_weight)
        defence = None if epsilon is None else f"FGM {epsilon:g}"
        return Filter(", ".join(filter(None, ("embedding", defence))), network, against, defence, words)

    chosen = [
        Filter("linear", text_classifier.linear(), None, None, "logistic regression, C by ROC-AUC"),
        embedding(),
        *map(embedding, config.epsilons),
    ]
    names = [one.name for one in chosen]
    guided = lambda num_edits: gradient_guided.attack(num_edits=num_edits, num_candidates=config.num_candidates)
    asking = lambda num_edits: greedy.attack(num_edits=num_edits, pool_size=config.pool_size)
    threats = [
        *(Threat("HotFlip", "white box: gradient and score", guided, one, [one]) for one in names),
        Threat("asking", "black box: score", asking, "linear", ["linear"]),
        Threat("transfer", "transfer: gradient and score of the linear filter", guided, "linear", names[1:]),
    ]
    return text_study.Plan(
        data=data, data_title=f"{name}, {len(data.texts):,} texts", filters=chosen, threats=threats,
        budgets=config.num_edits, optimizer=optax.adam(config.learning_rate), batch_size=config.batch_size,
        num_epochs=config.epochs, max_words=config.max_words, num_words=config.num_words,
    )  # fmt: skip


if __name__ == "__main__":
    command.run(main, Config)
