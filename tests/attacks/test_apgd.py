"""What is special to APGD: the algorithm of the paper, step by step, unit by unit, and the best point kept."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_every_attack as laws

from jaxrec import norms, oracles
from jaxrec.attacks import apgd

X = np.array([[0.4, -0.3, 0.2], [-0.5, 0.1, 0.6], [0.0, 0.2, 0.1]])
SLOPES = np.array([[1.0, -2.0, 0.5], [0.3, 0.4, -1.0], [0.0, 0.1, 0.2]])
CURVES = np.array([[9.0], [2.0], [30.0]])  # one row oscillates where another needs long steps


def waves(key, x):
    """One loss a row, with many tops."""
    return jnp.sum(jnp.sin(CURVES.astype(np.float32) * x) + SLOPES.astype(np.float32) * x, axis=1)


def perturb(attack, losses, x, **limits):
    return jax.jit(lambda x: attack(jax.random.key(0), oracles.white_box(losses, **limits), x))(x)


def ball(norm, delta, epsilon):
    if norm == norms.LINF:
        return np.clip(delta, -epsilon, epsilon)
    return delta * min(1, epsilon / max(np.linalg.norm(delta), 1e-30))


def algorithm_1(norm, x, loss, grad, epsilon, num_steps, checkpoints):
    """Of the paper, for one unit, with its names: the best loss, its point, and how often the step was halved."""
    project = lambda point: x + ball(norm, point - x, epsilon)
    unit = np.sign if norm == norms.LINF else lambda g: g / np.linalg.norm(g)
    eta, path, f = 2 * epsilon, [x], [loss(x)]
    x_max, f_max = x, f[0]
    etas, maxima, since, halvings = [eta], [f_max], 0, 0
    for k in range(num_steps):
        z = project(path[k] + eta * unit(grad(path[k])))
        following = z if k == 0 else project(path[k] + 0.75 * (z - path[k]) + 0.25 * (path[k] - path[k - 1]))
        path.append(following)
        f.append(loss(following))
        since += f[k + 1] > f[k]
        if f[k + 1] > f_max:
            x_max, f_max = following, f[k + 1]
        if k + 1 in checkpoints:
            span = k + 1 - max([0] + [w for w in checkpoints if w < k + 1])
            both_same = etas[-1] == eta and maxima[-1] == f_max
            etas.append(eta)
            maxima.append(f_max)
            if since < 0.75 * span or both_same:
                eta, path[k + 1], f[k + 1], halvings = eta / 2, x_max, f_max, halvings + 1
            since = 0
    return f_max, x_max, halvings


@pytest.mark.parametrize("norm", [norms.L2, norms.LINF], ids=lambda norm: norm.name)
def test_it_is_the_algorithm_of_the_paper_for_each_unit_apart(norm):
    """20 steps: no more, as float32 and float64 part on the way."""
    checkpoints = [5, 9, 12, 14, 16, 18, 19, 20]  # .22, .41, .57, .70, .80, .87, .93, .99 of 20, rounded up
    delta, info = perturb(apgd.attack(epsilon=0.5, norm=norm, num_steps=20), waves, jnp.asarray(X, jnp.float32))
    halvings = []
    for row in range(3):
        curve, slopes = CURVES[row], SLOPES[row]
        loss = lambda x, c=curve, s=slopes: np.sum(np.sin(c * x) + s * x)
        grad = lambda x, c=curve, s=slopes: c * np.cos(c * x) + s
        best, point, halved = algorithm_1(norm, X[row], loss, grad, 0.5, 20, checkpoints)
        np.testing.assert_allclose(info["losses"][row], best, rtol=1e-4)
        np.testing.assert_allclose(delta[row], point - X[row], atol=1e-3)
        halvings.append(halved)
    assert len(set(halvings)) > 1  # so one step size for all rows would not do


def test_checkpoints_are_the_published_ones():
    """For 100 steps without rounding; for others rounded up, several in one place with few steps."""
    found = lambda num_steps: (np.flatnonzero(apgd._spans(num_steps)) + 1).tolist()
    assert found(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert found(1) == [1]
    for num_steps in (3, 10, 50, 1000):
        shares = [0.22, 0.41, 0.57, 0.7, 0.8, 0.87, 0.93, 0.99]
        assert found(num_steps) == sorted({math.ceil(round(share * num_steps, 6)) for share in shares})
        assert apgd._spans(num_steps).sum() == found(num_steps)[-1]


def test_a_checkpoint_halves_on_either_condition_and_goes_back_to_the_best_point():
    """After 4 steps, of which condition 1 asks that 3 raised the loss; condition 2 is about the best loss."""
    columns = [  # steps that raised the loss, best loss, best loss at the last checkpoint, halved there, halved now
        (3, 5.0, 4.0, False, False),
        (2, 5.0, 4.0, False, True),  # condition 1
        (4, 4.0, 4.0, False, True),  # condition 2
        (4, 4.0, 4.0, True, False),  # the step was halved since: another try
        (2, 4.0, 4.0, True, True),  # condition 1 again
    ]
    improved, best, best_then, before, now = map(np.array, zip(*columns, strict=True))
    here, there = np.full((5, 2), 1, np.float32), np.full((5, 2), 7, np.float32)
    state = apgd._State(
        delta=here,
        previous=here,
        losses=np.full(5, 3.0, np.float32),
        best=(best.astype(np.float32), there),
        step_size=np.full(5, 2.0, np.float32),
        improved=improved.astype(np.float32),
        best_then=best_then.astype(np.float32),
        halved=before,
    )
    after = apgd._at_checkpoint(jax.tree.map(jnp.asarray, state), jnp.asarray(4))
    np.testing.assert_array_equal(after.halved, now)
    np.testing.assert_array_equal(after.step_size, np.where(now, 1, 2))
    np.testing.assert_array_equal(after.losses, np.where(now, best, 3))
    np.testing.assert_array_equal(after.delta, np.where(now[:, None], there, here))
    np.testing.assert_array_equal(after.best_then, best)
    np.testing.assert_array_equal(after.improved, np.zeros(5))


def test_it_finds_a_top_inside_the_ball_without_a_step_size_to_tune():
    """At distances from a thousandth of the radius to all of it, in one call."""
    tops = np.array([[0.001, 0.0], [0.03, -0.02], [0.3, 0.1], [0.6, -0.8]], np.float32)
    near = lambda key, x: -jnp.sum(jnp.square(x - tops), axis=1)
    delta, info = perturb(apgd.attack(epsilon=1.0), near, jnp.zeros((4, 2)))
    clean = -np.square(tops).sum(axis=1)
    assert (np.asarray(info["losses"]) >= clean).all()
    np.testing.assert_allclose(delta[1:], tops[1:], atol=0.02)


def test_nothing_is_a_candidate():
    """Any move lowers the first loss; the second is at its lowest, with no slope; the third rises."""
    x = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], np.float32)
    signs, tops = np.array([-1, 1, 1], np.float32), np.array([[1.001, 0], [0, 0], [0, 0]], np.float32)
    losses = lambda key, x: signs * jnp.sum(jnp.square(x - tops), axis=1)
    delta, info = perturb(apgd.attack(epsilon=0.5, num_steps=4), losses, x)
    np.testing.assert_array_equal(delta[:2], 0)
    np.testing.assert_allclose(info["losses"], [-1e-6, 0, 1.5**2], rtol=1e-3)


@pytest.mark.parametrize("victim", ["mlp", "tables"])
def test_what_it_returns_is_the_best_of_all_it_asked(victim):
    it, seen = laws.VICTIMS[victim], []

    def recorded(key, x):
        losses = it.losses(key, x)
        jax.debug.callback(lambda losses: seen.append(np.asarray(losses)), losses)
        return losses

    oracle = laws.oracle_of(victim)._replace(losses=recorded)
    _, info = jax.jit(lambda key: apgd.attack(epsilon=2.0, num_steps=12)(key, oracle, it.x))(jax.random.key(0))
    jax.effects_barrier()
    np.testing.assert_allclose(info["losses"], np.max(seen, axis=0), rtol=1e-6)
    assert len(seen) == int(info["queries"]) == 12 + 2
    assert int(info["gradient_evaluations"]) == 12


@pytest.mark.parametrize("num_steps", [0, -1])
def test_wrong_arguments_are_refused_by_name(num_steps):
    with pytest.raises(ValueError, match=f"num_steps={num_steps}"):
        apgd.attack(epsilon=0.1, num_steps=num_steps)
