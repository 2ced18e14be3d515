"""What is special to training on several attacks: the mean of what each of them alone makes, and the greatest."""

import jax
import pytest
import test_every_defence as laws
import toys

from jaxrec import norms, surfaces, worst_of
from jaxrec.attacks import fgsm
from jaxrec.defences import apr, multi_norm

SURFACE = surfaces.tables("user", "item")
BALLS = [fgsm.attack(epsilon=0.6), fgsm.attack(epsilon=0.2, norm=norms.LINF)]


@jax.jit
def outcomes():
    """(loss, metrics), gradient of: APR against each ball, their mean, the strongest."""
    built = [apr.objective(clean=laws.CLEAN, attack=attack, surface=SURFACE, adv_weight=0.7) for attack in BALLS]
    built.append(multi_norm.objective(clean=laws.CLEAN, attacks=BALLS, surface=SURFACE, adv_weight=0.7))
    strongest = worst_of.shared(BALLS)
    built.append(apr.objective(clean=laws.CLEAN, attack=strongest, surface=SURFACE, adv_weight=0.7))

    def at(objective):
        value = lambda params: objective(params, toys.BATCH, jax.random.key(0), lambda tree: tree)
        return jax.value_and_grad(value, has_aux=True)(toys.params())

    return [at(objective) for objective in built]


def test_loss_gradient_and_metrics_are_the_means_of_training_on_each_attack():
    first, second, both, _ = outcomes()
    assert abs(float(first[0][1]["adv_loss"]) - float(second[0][1]["adv_loss"])) > 0.1
    laws.assert_close(both, jax.tree.map(lambda a, b: (a + b) / 2, first, second))


def test_the_greatest_of_them_is_apr_on_the_strongest_attack():
    first, second, _, strongest = outcomes()
    laws.assert_close(strongest, max(first, second, key=lambda outcome: float(outcome[0][1]["adv_loss"])))


def test_no_attack_is_refused():
    with pytest.raises(ValueError, match="at least one attack"):
        multi_norm.objective(clean=laws.CLEAN, attacks=[], surface=SURFACE)
