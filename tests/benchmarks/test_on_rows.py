"""Attacks on each pair's own rows: every attack has a row, and foolbox's compute the same where they are compared."""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import on_rows
from jaxrec import attacks, norms, types


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    tables = [rng.normal(scale=0.3, size=(rows, 4)).astype(np.float32) for rows in (6, 5)]
    users, pos, neg = np.arange(6), np.array([0, 1, 2, 0, 1, 2]), np.array([3, 4, 3, 4, 3, 4])
    return on_rows.inputs(tables, (users, pos, neg))


def test_every_attack_has_a_row_in_each_of_its_norms():
    cases = on_rows.cases(2, 5)
    files = {path.stem for path in pathlib.Path(attacks.__path__[0]).glob("*.py")} - {"__init__"}
    assert {case.name for case in cases} == files
    assert {case.norm for case in cases if case.name == "pgd"} == {norms.L2, norms.LINF}
    assert all(isinstance(case.build(), types.Attack) for case in cases)
    assert len({case.title() for case in cases}) == len(cases)


def test_the_loss_is_bpr_and_the_cross_entropy_of_the_two_scores(x):
    oracle = on_rows.oracle(6)
    assert oracle.scores is not None
    key = jax.random.key(0)
    scores, losses = oracle.scores(key, jnp.asarray(x)), oracle.losses(key, jnp.asarray(x))
    for row, (neg, pos), loss in zip(x, scores, losses, strict=True):
        user, of_pos, of_neg = row.reshape(3, 4).astype(float)
        assert pos >= neg  # in the order of a trained model
        assert pos == pytest.approx(user @ of_pos, abs=1e-6)
        assert neg == pytest.approx(user @ of_neg, abs=1e-6)
        assert loss == pytest.approx(math.log(1 + math.exp(user @ of_neg - user @ of_pos)), abs=1e-6)
    np.testing.assert_allclose(-jax.nn.log_softmax(scores)[:, 1], losses, atol=1e-6)


# Foolbox adds 1e-4 to each of DeepFool's steps.
TOLERANCES = {"fgsm": 1e-6, "bim": 1e-5, "pgd": 1e-5, "deepfool": 2e-4, "cw": 1e-4}
CASES = on_rows.cases(60, 5)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in TOLERANCES], ids=on_rows.Case.title)
def test_deltas_are_those_of_foolbox(case, x):
    torch = pytest.importorskip("torch")
    pytest.importorskip("foolbox")
    theirs = on_rows.rival(case)
    assert theirs is not None
    attack, oracle = case.build(), on_rows.oracle(len(x))
    delta, _ = jax.jit(lambda x: attack(jax.random.key(0), oracle, x))(jnp.asarray(x))
    assert np.abs(delta).max() > 0.01
    np.testing.assert_allclose(x + delta, theirs(torch.from_numpy(x)).numpy(), atol=TOLERANCES[case.name])


def test_foolbox_is_not_asked_for_what_it_lacks():
    pytest.importorskip("foolbox")
    both = {f"{name} {norm}" for name in ("bim", "fgsm", "mim", "pgd") for norm in ("L2", "LINF")}
    expected = both | {"cw", "deepfool", "random_noise L2"}
    assert {case.title() for case in CASES if on_rows.rival(case) is not None} == expected
