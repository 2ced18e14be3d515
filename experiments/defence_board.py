"""Every defence on one board: the same start, compute, tuning and seeds, and new attacks on each final model.

From a model's clean tables each defence trains on for as many epochs as the clean loss does (He et al., SIGIR 2018),
tries as many settings, and is then attacked white box at relative epsilons, certified where scores are dot products,
and looked at for gradient masking. Controls stand among them: noise, and the plain tables scaled up, which no budget
relative to norms may reward. Where a defence does not apply to a model the board says why. Radii of training are shares
of the mean row norms of the clean tables, the same list for all models.

Expected: MF, first 1,000 users, one seed, NDCG@10 clean / under the strongest attack at .2: plain .0455 / .0171, noise
          .0434 / .0210, APR .0466 / .0238, free .0488 / .0276, vulnerability-aware .0445 / .0344; grown norms as plain,
          but at an absolute epsilon (one XLA thread of an AMD EPYC, commits cb2407c, fce7980; docs/defence_board.md).
          All users and the other models: not measured.
Cost:     half a minute of one core a row of MF on 1,000 users, minutes of TRADES and virtual adversarial. The board's
          column is wall time of training over the plain row's, so leave the machine alone.
Run:      python -m experiments.defence_board --models MF --num-seeds 5
          python -m experiments.defence_board --only MF/APR TRADES    (these rows and their plain ones; a run goes on)
"""

import dataclasses
import pathlib
from typing import Literal

from jaxrec import command, runtime

ModelName = Literal["MF", "NeuMF", "LightGCN", "SASRec"]


@dataclasses.dataclass(frozen=True)
class Config:
    models: tuple[ModelName, ...] = ("MF", "NeuMF", "LightGCN", "SASRec")  # whose rows are wanted
    only: tuple[str, ...] = ()  # rows by MODEL/DEFENCE, MODEL or DEFENCE (default: all)
    epsilons: tuple[float, ...] = (0.1, 0.2)  # of the final attacks, in mean row norms; validation chooses at the first
    absolute_epsilons: tuple[float, ...] = (0.5,)  # the same as L2 radii of each row, to be held beside them
    certified: tuple[float, ...] = (0.01, 0.02)  # relative epsilons of the certificate
    num_steps: int = 10  # gradient steps of PGD and APGD
    attacked_users: int = 1000  # random users whose lists are attacked and whose test items are ranked
    doubted_users: int = 256  # of the flags of gradient masking (0: none is looked for)
    mf_epochs: tuple[int, int] = (100, 20)  # clean, and with each defence from there
    neumf_epochs: tuple[int, int] = (12, 8)  # 8: a fourth of them, of free, is more than the one that compiles
    lightgcn_epochs: tuple[int, int] = (16, 8)
    sasrec_epochs: tuple[int, int] = (60, 20)
    radii: tuple[float, float] = (0.1, 0.3)  # of training's adversaries, in clean mean row norms: a row's two settings
    adv_weight: float = 1.0  # of the adversarial loss, in all rows
    dimension: int = 64  # of MF and LightGCN
    seed: int = 0  # of the first training, and of the validation items where times are unknown
    num_seeds: int = 1  # trainings of each row, with seeds seed, seed + 1, ...
    users: int | None = None  # the first of them only (default: all)
    run_dir: pathlib.Path | None = None  # results; a stopped run goes on (default: runs/defence_board/NAME)
    data_dir: pathlib.Path | None = None  # holds MovieLens-1M (default: $JAXREC_DATA, cache, download, sample)
    smoke: bool = False  # the whole path on 100 users, tiny models, one epoch


EPOCHS = ("mf_epochs", "neumf_epochs", "lightgcn_epochs", "sasrec_epochs")
EXPECTED = {
    **dict.fromkeys((*EPOCHS, "radii", "epsilons", "absolute_epsilons", "certified"), command.POSITIVE),
    **dict.fromkeys(("num_steps", "attacked_users", "dimension", "num_seeds", "users"), command.POSITIVE),
    **dict.fromkeys(("adv_weight", "seed", "doubted_users"), command.NON_NEGATIVE),
}
SMOKE = {**dict.fromkeys(EPOCHS, (1, 1)), "users": 100, "dimension": 8, "num_steps": 2, "doubted_users": 32}
MAY_CHANGE = ("run_dir", "data_dir", "models", "only", "num_seeds")


def main(config: Config) -> None:
    command.check(config, EXPECTED)
    runtime.prepare()
    from jaxrec import bench, board, board_exam, board_records, run_directory, study

    config = dataclasses.replace(config, **(SMOKE if config.smoke else {}))
    data = study.movielens_1m(config.data_dir, seed=config.seed, num_users=config.users)
    seeds = range(config.seed, config.seed + config.num_seeds)
    rows, examined = board.rows(subjects(config, data), defences(config, data)), exam(config)
    asked = board.chosen([row for row in rows if row.subject.name in config.models], config.only)
    path = config.run_dir or study.run_path("defence_board", data, config, may_change=MAY_CHANGE)
    with run_directory.open_run(path, config, data.fingerprint, may_change=MAY_CHANGE):
        found = board_exam.run(path, rows, asked, bench.leave_one_out(data.split, cutoffs=(10,)), examined, seeds)
        made = board_records.records_of("defence_board", found, rows, data)
        board_records.publish(path, made)


def exam(config: Config):
    """What every final model is put through."""
    from jaxrec import board_exam, model_robustness, oracles, worst_of
    from jaxrec.attacks import apgd, fgsm, pgd

    def worst(epsilon):
        by_pgd = pgd.attack(epsilon=epsilon, num_steps=config.num_steps)
        return worst_of.shared(
            [fgsm.attack(epsilon=epsilon), by_pgd, apgd.attack(epsilon=epsilon, num_steps=config.num_steps)]
        )

    def blind(model, params, surface, known):
        return oracles.spsa(model_robustness.ADVERSARY(model, params, surface, known), num_samples=8)

    three = f"worst-of (FGSM, PGD-{config.num_steps}, APGD-{config.num_steps})"
    return board_exam.Exam(
        attacks={"noise": lambda epsilon: worst_of.control(3, epsilon=epsilon), three: worst},
        epsilons={"relative": sorted(config.epsilons), "absolute": sorted(config.absolute_epsilons)},
        certified=sorted(config.certified),
        choosing=lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=5),
        num_users=config.attacked_users,
        num_doubted=config.doubted_users,
        flag_steps=3,
        black_box={"SPSA": (lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=2), blind)},
        seed=config.seed,
    )


def subjects(config: Config, data):
    """The models and their clean trainings."""
    import functools

    import optax

    from jaxrec import board, consistency, factor_bounds, losses, objectives, sampling, sequences, surfaces
    from jaxrec.defences import certified_margin, label_smoothing
    from jaxrec.models import lightgcn, mf, neumf, sasrec

    bpr = lambda smoothing: label_smoothing.pairwise(losses.bpr, smoothing=smoothing)
    bce = lambda smoothing: label_smoothing.listwise(losses.bce, smoothing=smoothing)
    train = data.split.train
    sizes = {"num_users": train.num_users, "num_items": train.num_items}
    both = surfaces.tables("user", "item")

    factors = mf.model(**sizes, dimension=config.dimension)
    neural = neumf.model(**sizes, dimension=16)
    graph = lightgcn.model(**sizes, dimension=config.dimension)
    attention = sasrec.model(**sizes, max_length=200)

    def softmax(temperature):
        return lambda scores, *others: losses.softmax(scores / temperature, *others)

    def next_item(model, loss=losses.bce):
        return sequences.next_item(model=model, num_items=train.num_items, negatives="place", loss=loss, piece_size=4)

    return [
        board.Subject(
            name="MF",
            model=factors,
            clean_of=lambda model: objectives.pairwise(model=model),
            softened=lambda t: objectives.listwise(model=factors, loss=softmax(t)),
            smoothed=lambda s: objectives.pairwise(model=factors, loss=bpr(s)),
            list_scores=consistency.batch_items,
            surface=both,
            radii=config.radii,
            optimizer=optax.adagrad(0.05, initial_accumulator_value=0.1),
            batch_size=512,
            training=f"BPR, d {config.dimension}, Adagrad .05, batch 512",
            start_epochs=config.mf_epochs[0],
            epochs=config.mf_epochs[1],
            bounds=factor_bounds.of_tables(factors),
            factors=certified_margin.two_tables,
        ),
        board.Subject(
            name="NeuMF",
            model=neural,
            clean_of=lambda model: objectives.listwise(model=model, loss=losses.bce),
            softened=lambda t: objectives.listwise(model=neural, loss=softmax(t)),
            smoothed=lambda s: objectives.listwise(model=neural, loss=bce(s)),
            list_scores=consistency.own_items,
            surface=both,
            radii=config.radii,
            optimizer=optax.adam(1e-3),
            batch_size=512,
            training="BCE, 4 negatives, d 16, Adam .001, batch 512",
            start_epochs=config.neumf_epochs[0],
            epochs=config.neumf_epochs[1],
            draw=functools.partial(sampling.negatives, num=4),
        ),
        board.Subject(
            name="LightGCN",
            model=graph,
            clean_of=lambda model: objectives.pairwise(model=model, l2=1e-4),
            softened=lambda t: objectives.listwise(model=graph, loss=softmax(t)),
            smoothed=lambda s: objectives.pairwise(model=graph, loss=bpr(s), l2=1e-4),
            list_scores=consistency.own_items,
            surface=both,
            radii=config.radii,
            optimizer=optax.adam(5e-3),
            batch_size=8192,
            training=f"BPR, d {config.dimension}, 3 layers, L2 .0001, Adam .005, batch 8,192",
            start_epochs=config.lightgcn_epochs[0],
            epochs=config.lightgcn_epochs[1],
            bounds=factor_bounds.of_propagation(num_layers=3),
            factors=lambda params: certified_margin.two_tables(lightgcn.propagated(params, num_layers=3)),
        ),
        board.Subject(
            name="SASRec",
            model=attention,
            clean_of=next_item,
            softened=lambda t: next_item(
                attention, lambda scores, relevant, where: losses.softmax(scores / t, relevant, where)
            ),
            smoothed=lambda s: next_item(attention, bce(s)),
            list_scores=consistency.all_items(num_items=train.num_items),
            surface=surfaces.tables("item"),
            radii=config.radii,
            optimizer=optax.adam(1e-3, b2=0.98),
            batch_size=128,
            training="BCE, 1 negative a place, d 50, Adam .001, 128 histories a step",
            start_epochs=config.sasrec_epochs[0],
            epochs=config.sasrec_epochs[1],
            examples=sequences.examples,
        ),
    ]


def defences(config: Config, data):
    """Every defence: a subject -> the settings that it tries, one for each of its radii, or why it does not apply."""
    import math

    import jax
    import numpy as np
    import optax

    from jaxrec import board, min_max, norms, surfaces, worst_of
    from jaxrec.attacks import fgsm, pgd
    from jaxrec.board import Setting
    from jaxrec.defences import (
        apr,
        certified_margin,
        contrastive,
        distillation,
        dropout,
        edge_dropout,
        fast,
        free,
        mixed,
        multi_norm,
        noise,
        normalised,
        penalties,
        periodic,
        reweighted,
        sam,
        scheduled,
        smoothing,
        tail_aware,
        trades,
        truncated,
        virtual_adversarial,
        vulnerability_aware,
        weight_perturbation,
    )
    from jaxrec.models import ensemble

    train, weight = data.split.train, config.adv_weight
    popularity = np.bincount(train.items, minlength=train.num_items)

    def by_radius(make, **options):
        """One setting for each radius of training's adversary: `make(subject, radius)` is its objective."""
        return lambda on: [Setting(f"epsilon {radius:g} relative", make(on, radius), **options) for radius in on.radii]

    def against(attack):
        """APR against another attack, `attack(subject, radius)`."""
        return by_radius(
            lambda on, radius: apr.objective(
                clean=on.clean, attack=attack(on, radius), surface=on.relative, adv_weight=weight
            )
        )

    def width(on):
        """Of an item's row."""
        return jax.eval_shape(on.model.init, jax.random.key(0))["tables"]["item"].shape[1]

    def two_norms(on, radius):
        """Two balls of which either may win: one step raises the loss as much in both if a gradient is Gaussian."""
        corner = radius * (math.pi / (2 * width(on))) ** 0.5
        return [fgsm.attack(epsilon=radius), fgsm.attack(epsilon=corner, norm=norms.LINF)]

    def comparing(defence, attack):
        """Of lists before and after `attack(radius)`."""
        return by_radius(
            lambda on, radius: defence.objective(
                clean=on.clean,
                model=on.model,
                attack=attack(radius),
                surface=on.relative,
                list_scores=on.list_scores,
                adv_weight=weight,
            )
        )

    def plain(on):
        slower = optax.chain(on.optimizer, optax.scale(0.3))
        return [Setting("clean loss", on.clean), Setting("clean loss, learning rate x .3", on.clean, optimizer=slower)]

    def grown(on):
        if on.bounds is None:
            return "its scores are no products of its tables, so that growing them changes the lists"
        grow = lambda params: {**params, "tables": jax.tree.map(lambda x: 10 * x, params["tables"])}
        return [
            each._replace(words=f"{each.words}, tables x 10", after=grow, trained_as=f"{board.PLAIN}, {each.words}")
            for each in plain(on)
        ]

    def by_user(on, radius):
        return vulnerability_aware.objective(
            clean=on.clean, attack=fgsm.attack(epsilon=radius), surface=on.relative, adv_weight=weight
        )

    def spares_the_tail(on, radius):
        return tail_aware.objective(
            clean=on.clean,
            attack=fgsm.attack(epsilon=radius),
            surface=on.relative,
            scales={"item": tail_aware.scales(popularity)},
            adv_weight=weight,
        )

    def distilled(on):
        return [Setting(f"temperature {t:g}", student(on, t), dense=True, teacher=on.softened(t)) for t in (5.0, 20.0)]

    def student(on, temperature):
        def objective(params, batch, key, reduce):
            teacher = {**params["given"][board.TEACHER], "given": params["given"]}
            learn = distillation.objective(
                model=on.model,
                teacher=on.model,
                teacher_params=teacher,
                num_users=train.num_users,
                num_items=train.num_items,
                list_scores=on.list_scores,
                temperature=temperature,
            )
            return learn(params, batch, key, reduce)

        return objective

    def epoch(on):
        """Its steps."""
        return -(-len(on.examples(train)) // on.batch_size)

    def ramp(on, radius):
        return scheduled.schedule(
            make=lambda epsilon: apr.objective(
                clean=on.clean, attack=fgsm.attack(epsilon=epsilon), surface=on.relative, adv_weight=weight
            ),
            epsilon=optax.linear_schedule(0.0, radius, max(on.epochs * epoch(on) // 2, 1)),
        )

    def every_other_epoch(on, radius):
        return periodic.objective(
            clean=on.clean,
            attack=pgd.attack(epsilon=radius, num_steps=3),
            surface=on.relative,
            every=2 * epoch(on),
            fresh=epoch(on),
            adv_weight=weight,
        )

    def carrying(make, **options):
        """The same where the state carries a perturbation."""
        return lambda on: by_radius(make, carried=min_max.nothing(on.surface), **options)(on)

    def sharpness_aware(on):
        def at(size):  # of one ball for all that is trained, in the mean of the tables' units
            def objective(params, batch, key, reduce):
                unit = sum(params["given"][board.UNITS].values()) / len(params["given"][board.UNITS])
                return sam.objective(clean=on.clean, epsilon=size * unit)(params, batch, key, reduce)

            return objective

        sizes = [10 * radius for radius in on.radii]  # as on 100 rows
        return [Setting(f"epsilon {size:g} relative, over all rows", at(size)) for size in sizes]

    def certified(on):
        if on.factors is None:
            return "its scores are no dot products, which the certificate is of"
        options = {"num_users": train.num_users, "num_items": train.num_items, "factors": on.factors}
        at = lambda epsilon: certified_margin.objective(clean=on.clean, epsilon=epsilon, adv_weight=weight, **options)
        return [Setting(f"epsilon {e:g} of factors", at(e), dense=True) for e in (0.02, 0.05)]

    def smoothed(on, radius):
        sigma = radius / width(on) ** 0.5  # so that a row's noise is about as long as the radius
        return Setting(
            f"noise {radius:g} relative, 8 draws",
            smoothing.objective(clean=on.clean, surface=on.relative, sigma=sigma),
            dense=True,
            model=smoothing.wrap(on.model, surface=on.relative, sigma=sigma, num_samples=8),
        )

    def of_labels(make, words, values):
        """Of a loss of noisy clicks, `make(model, value)`."""

        def settings(on):
            if on.name != "NeuMF":
                return "it changes the cross-entropy of single pairs, which this model is not trained on"
            return [Setting(f"{words} {value:g}", make(on.model, value)) for value in values]

        return settings

    def thinned(on):
        if on.name != "LightGCN":
            return "it has no graph"
        return [Setting(f"rate {rate:g}", edge_dropout.objective(clean=on.clean, rate=rate)) for rate in (0.1, 0.3)]

    def views(on):
        if on.model.sequence is None:
            return "it reads no histories"
        contrast = lambda share: contrastive.objective(clean=on.clean, model=on.model, weight=share)
        return [Setting(f"weight {share:g}", contrast(share)) for share in (0.1, 1.0)]

    def averaged(on):
        (alone, _), names = plain(on), sorted(jax.eval_shape(on.model.init, jax.random.key(0))["tables"])

        def of(num):
            members = {str(number): on.model for number in range(num)}
            return alone._replace(
                words=f"z-scores of {num} models",
                model=ensemble.model(num_users=train.num_users, num_items=train.num_items, members=members),
                surface=surfaces.tables(*(f"{member}/{name}" for member in members for name in names)),
                num_members=num,
                after=lambda *params: ensemble.joined(dict(zip(members, params, strict=True))),
                trained_as=f"{board.PLAIN}, {alone.words}",
            )

        return [of(2), of(3)]

    def penalised(on):
        if on.model.sequence is not None:
            return "it has no rows of users to weigh beside those of items"
        return [Setting(f"L2 {l2:g}", penalties.objective(clean=on.clean, l2=l2)) for l2 in (0.001, 0.01)]

    def dropped(on):
        under = lambda rate: dropout.objective(clean=on.clean, surface=on.surface, rate=rate)
        return [Setting(f"rate {rate:g}", under(rate)) for rate in (0.1, 0.3)]

    def of_length_one(on):
        if on.model.score_rows is None:
            return "its scores depend on more than a user's and an item's row"
        models = {t: normalised.wrap(on.model, temperature=t) for t in (0.1, 0.3)}
        return [Setting(f"temperature {t:g}", on.clean_of(model), model=model) for t, model in models.items()]

    return {
        board.PLAIN: plain,
        "norms grown (control)": grown,
        "noise (control)": by_radius(
            lambda on, radius: noise.objective(clean=on.clean, surface=on.relative, epsilon=radius, adv_weight=weight)
        ),
        "L2 (control)": penalised,
        "dropout (control)": dropped,
        "normalised (control)": of_length_one,
        "label smoothing (control)": lambda on: [Setting(f"smoothing {s:g}", on.smoothed(s)) for s in (0.1, 0.3)],
        "ensemble (control)": averaged,
        "APR": against(lambda on, radius: fgsm.attack(epsilon=radius)),
        "PGD-3 training": against(lambda on, radius: pgd.attack(epsilon=radius, num_steps=3)),
        "free": carrying(
            lambda on, radius: free.objective(clean=on.clean, surface=on.relative, epsilon=radius), num_replays=4
        ),
        "fast": by_radius(lambda on, radius: fast.objective(clean=on.clean, surface=on.relative, epsilon=radius)),
        "periodic PGD-3": carrying(every_other_epoch),
        "multi-norm, average": by_radius(
            lambda on, radius: multi_norm.objective(
                clean=on.clean, attacks=two_norms(on, radius), surface=on.relative, adv_weight=weight
            )
        ),
        "multi-norm, max": against(lambda on, radius: worst_of.shared(two_norms(on, radius))),
        "TRADES": comparing(trades, lambda radius: pgd.attack(epsilon=radius, num_steps=2, random_start=True)),
        "virtual adversarial": comparing(
            virtual_adversarial, lambda radius: virtual_adversarial.power_iteration(epsilon=radius)
        ),
        "vulnerability-aware": lambda on: (
            by_radius(by_user)(on) if on.model.sequence is None else "it has no rows of users to set a radius for"
        ),
        "tail-aware": by_radius(spares_the_tail, dense=True),
        "SAM": sharpness_aware,
        "AWP": by_radius(
            lambda on, radius: weight_perturbation.objective(
                clean=on.clean, attack=fgsm.attack(epsilon=radius), surface=on.relative, adv_weight=weight
            )
        ),
        "distillation": distilled,
        "mixed": by_radius(
            lambda on, radius: mixed.objective(
                clean=on.clean, attack=fgsm.attack(epsilon=radius), surface=on.relative, relative_weight=weight
            )
        ),
        "scheduled": by_radius(ramp),
        "certified margin": certified,
        "smoothing": lambda on: [smoothed(on, radius) for radius in on.radii],
        "truncated loss": of_labels(
            lambda model, rate: truncated.objective(model=model, drop_rate=rate), "drop rate", (0.1, 0.2)
        ),
        "reweighted loss": of_labels(
            lambda model, exponent: reweighted.objective(model=model, exponent=exponent), "exponent", (0.1, 0.25)
        ),
        "edge dropout": thinned,
        "contrastive": views,
    }


if __name__ == "__main__":
    command.run(main, Config)
