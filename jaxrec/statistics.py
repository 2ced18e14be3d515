"""What a difference between recommenders means: two questions, two statistics, and the intervals beside them.

*Are these two fixed models different?* What is random is which users were met: `randomisation_test` over users.
Fisher, "The Design of Experiments", 1935; Smucker, Allan, Carterette, "A Comparison of Statistical Significance Tests
for Information Retrieval Evaluation", CIKM 2007.

*Is this method better?* What is random is the training seed too: `sign_flip_test` over seeds, `over_seeds_and_users`,
which is `crossed_bootstrap` made fit for few seeds. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics
2007, arXiv:0712.1111.

Seeds times users are never pooled as if they were independent: all the values of one seed share one model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float


class Comparison(NamedTuple):
    """A paired test.

    Attributes:
        difference: Mean of values - others.
        p_value: Two-sided.
        smallest_p_value: The smallest that so many pairs (or resamples) can reach: above 0.05, the test cannot tell.
    """

    difference: float
    p_value: float
    smallest_p_value: float


class Summary(NamedTuple):
    """A mean over `num` independent units, with their standard deviation and the mean's interval."""

    mean: float
    sd: float
    low: float
    high: float
    num: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval's ends; None of one unit."""
        return None if self.num == 1 else (self.low, self.high)


class Interval(NamedTuple):
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float


def randomisation_test(
    values: Float[np.ndarray, " U"], others: Float[np.ndarray, " U"], *, seed: int, num_resamples: int = 9999
) -> Comparison:
    """Are these two fixed models different? A paired randomisation test over users.

    Under the null hypothesis the two models' values of a user are exchangeable. Of the training seed it says nothing:
    two seeds of the same method are different models, and a test of enough users finds that.

    Args:
        values: One model's metric for each user.
        others: The other model's, the same users in the same order.
        seed: Of the resamples.
        num_resamples: Random swaps; all swaps are taken instead where there are no more of them than that.

    Returns:
        The comparison; p = 1 where no user differs.

    Raises:
        ValueError: If the two differ in shape, hold no user or a value that is not finite, or `num_resamples < 1`.
    """
    return _paired_test(values, others, seed, num_resamples)


def sign_flip_test(
    values: Float[np.ndarray, " S"], others: Float[np.ndarray, " S"], *, seed: int = 0, num_resamples: int = 2**16
) -> Comparison:
    """Is this method better? An exact sign-flip test over training seeds.

    Under the null hypothesis the differences of the seeds are independent and symmetric about 0. All 2^S sign patterns
    are taken up to S = 16, random ones beyond. The smallest p that S seeds can reach is 2 / 2^S: 0.0625 at 5 seeds,
    0.031 at 6; fewer than 6 can never show a difference at the level 0.05. A single seed always gives p = 1.

    Args:
        values: One method's mean over users, for each seed.
        others: The other method's, seed by seed (the same data split and, if it has one, the same start).
        seed: Of the random sign patterns, beyond 16 seeds.
        num_resamples: Their number.

    Returns:
        The comparison; p = 1 where no seed differs. Seeds that do not differ add nothing to what p can reach.

    Raises:
        ValueError: If the two differ in shape, hold no seed or a value that is not finite, or `num_resamples < 1`.
    """
    return _paired_test(values, others, seed, num_resamples)


def crossed_bootstrap(
    values: Float[np.ndarray, "S U"],
    others: Float[np.ndarray, "T U"] | None = None,
    *,
    seed: int,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of a method's mean, or of two methods' difference, over training seeds and users.

    Seeds and users are resampled with replacement, each along its own axis, and a cell counts as often as its seed and
    its user were drawn together. The seeds are assumed to be drawn independently, as are the users, and any value may
    depend on both. With few seeds the interval is too narrow on the seeds' part: S seeds show a share (S - 1) / S of
    their variance: `over_seeds_and_users` makes up for it.

    Args:
        values: A method's metric, for each seed and user.
        others: Another method's, for the same users and its own seeds, which are resampled independently. For methods
            that are paired by seed, pass the difference as `values`.
        seed: Of the resamples.
        num_resamples: Their number.
        level: Coverage that is aimed at.

    Returns:
        The mean (of the difference) and the interval's ends; both equal the mean where nothing varies.

    Raises:
        ValueError: If there are fewer than two seeds (`summary` over users is the interval of one model), no users, a
            value that is not finite, numbers of users that differ, `num_resamples < 1`, or `level` outside (0, 1).
    """
    parts = [values] if others is None else [values, -others]
    _check_level(level)
    _check_resamples(num_resamples)
    for part in parts:
        _check_finite(part)
        if part.ndim != 2 or len(part) < 2 or part.shape[1:] != values.shape[1:]:
            raise ValueError(f"Expected values [seeds >= 2, users {values.shape[1:]}], got shape {part.shape}.")
    rng = np.random.default_rng(seed)
    num_users = values.shape[1]
    means = np.empty(num_resamples)
    for resample in range(num_resamples):
        by_user = np.sum([part[rng.integers(len(part), size=len(part))].mean(axis=0) for part in parts], axis=0)
        means[resample] = by_user[rng.integers(num_users, size=num_users)].mean()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sum(part.mean() for part in parts)), float(low), float(high))


FEW_SEEDS = 10  # below them a crossed bootstrap is not left alone


def over_seeds_and_users(values: Float[np.ndarray, "S U"], *, seed: int, num_resamples: int = 2000) -> Interval:
    """The 95 % interval of a mean over seeds and users, such as of gains that are paired by both.

    That of `crossed_bootstrap`. Below `FEW_SEEDS` it also takes in Student's t interval over the seeds' means, from the
    lower of the two low ends to the higher of the two high ones: of three seeds, where seeds are what varies most, the
    bootstrap alone covers the truth in three of four trials. Of one seed it is the t interval over users, which says
    nothing about another seed.

    Args:
        values: A method's metric, or its gain, for each seed and user.
        seed, num_resamples: Of the bootstrap.

    Raises:
        ValueError: As `crossed_bootstrap` and `summary` do.
    """
    if len(values) == 1:
        of_users = summary(values[0])
        return Interval(of_users.mean, of_users.low, of_users.high)
    mean, low, high = crossed_bootstrap(values, seed=seed, num_resamples=num_resamples)
    if len(values) < FEW_SEEDS:
        of_seeds = summary(values.mean(axis=1))
        low, high = min(low, of_seeds.low), max(high, of_seeds.high)
    return Interval(mean, low, high)


def summary(values: Float[np.ndarray, " n"], *, level: float = 0.95) -> Summary:
    """Mean, standard deviation and Student's t interval of independent units.

    The units are the users of one fixed model (its interval says nothing about another seed), or the seeds of one
    method (each value a mean over users). Assumes that their mean is near normal; of a handful of
    seeds, that each is.

    Returns:
        The summary. `sd` has n - 1 in its divisor; for one unit it and the interval's ends are NaN: one seed says
        nothing about the next. Where nothing varies both ends equal the mean.

    Raises:
        ValueError: If there are no values or one is not finite, or `level` lies outside (0, 1).
    """
    _check_level(level)
    _check_finite(values)
    mean, num = float(values.mean()), len(values)
    if num == 1:
        return Summary(mean, np.nan, np.nan, np.nan, 1)
    sd = float(values.std(ddof=1))
    half = float(scipy.stats.t.ppf((1 + level) / 2, num - 1)) * sd / num**0.5
    return Summary(mean, sd, mean - half, mean + half, num)


def holm(p_values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """P values adjusted for all of them having been asked, by Holm's step-down method.

        adjusted_(i) = max over j <= i of min(1, (n - j + 1) * p_(j)), ascending

    The chance of one false finding or more among those with an adjusted value below alpha is at most alpha, however the
    tests depend on each other. All tests that were declared must be given, found or not. Holm, "A Simple Sequentially
    Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979.

    Raises:
        ValueError: If there are none, or one lies outside [0, 1].
    """
    _check_finite(p_values)
    if (p_values < 0).any() or (p_values > 1).any():
        raise ValueError(f"Expected p values in [0, 1], got {p_values.min()} to {p_values.max()}.")
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


class Declared(NamedTuple):
    """What came of one of several declared comparisons.

    Attributes:
        interval: Of the mean difference, by `over_seeds_and_users`.
        p_value: Of sign flips over seeds, Holm's correction for all that were declared.
        smallest_p_value: The smallest that so many seeds can reach after that correction: above .05, the tests cannot
            tell.
    """

    interval: Interval
    p_value: float
    smallest_p_value: float


def declared(
    pairs: Sequence[tuple[Float[np.ndarray, "S U"], Float[np.ndarray, "S U"]]], *, seed: int = 0
) -> list[Declared]:
    """Is each first method better than its second? All that were decided on before, paired by seed and user.

    Args:
        pairs: A metric of two methods for each seed and user, the same seeds in the same order.
        seed: Of the bootstrap.

    Raises:
        ValueError: As `crossed_bootstrap`, `sign_flip_test` and `holm` do.
    """
    differences = [np.asarray(first - second, np.float64) for first, second in pairs]
    tests = [sign_flip_test(first.mean(axis=1), second.mean(axis=1)) for first, second in pairs]
    adjusted = holm(np.array([test.p_value for test in tests]))
    least = min(1.0, len(tests) * min(test.smallest_p_value for test in tests))  # equal pairs have 1
    return [
        Declared(over_seeds_and_users(difference, seed=seed), float(p_value), least)
        for difference, p_value in zip(differences, adjusted, strict=True)
    ]


def _paired_test(values: np.ndarray, others: np.ndarray, seed: int, num_resamples: int) -> Comparison:
    """Randomisation test of pairs: which value is whose is a coin's toss, that is, the sign of the difference."""
    if values.shape != others.shape or values.ndim != 1:
        raise ValueError(f"Expected two vectors of equal length, got shapes {values.shape} and {others.shape}.")
    _check_resamples(num_resamples)
    differences = np.asarray(values - others, np.float64)
    _check_finite(differences)
    # The sign of a zero changes no sum: most users are left out here, as both models miss their items.
    moving = differences[differences != 0]
    if len(moving) < 2:
        return Comparison(float(differences.mean()), 1.0, 1.0)
    test = scipy.stats.permutation_test(
        (moving,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=num_resamples,
        batch=1024,
        rng=np.random.default_rng(seed),
    )
    exact = 2 ** min(len(moving), 64) <= num_resamples
    smallest = 2 / 2 ** len(moving) if exact else 2 / (num_resamples + 1)
    return Comparison(float(differences.mean()), float(test.pvalue), smallest)


def _check_finite(values: np.ndarray) -> None:
    """Refuses no values, and values that are not finite."""
    if not values.size:
        raise ValueError("Expected at least one value, got none.")
    if not np.isfinite(values).all():
        raise ValueError(f"Expected finite values, got {(~np.isfinite(values)).sum()} of {values.size} that are not.")


def _check_resamples(num_resamples: int) -> None:
    """Refuses a number of resamples below 1."""
    if num_resamples < 1:
        raise ValueError(f"Expected num_resamples >= 1, got num_resamples={num_resamples}.")


def _check_level(level: float) -> None:
    """Refuses a level outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"Expected a level in (0, 1), got level={level}.")
