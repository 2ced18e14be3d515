"""What limits learned fakes, on small data: unrounded rows are measured as victims are, what is kept, refusals."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shilled

from experiments import what_limits_learned_fakes
from jaxrec import command, fake_profiles, poison_evaluation, records
from jaxrec.inner import ease as exact_ease
from jaxrec.models import ease
from jaxrec.studies import limits_study, poison_study
from jaxrec.types import Interactions


def run(*args):
    command.run(what_limits_learned_fakes.main, what_limits_learned_fakes.Config, [str(arg) for arg in args])


def test_rows_of_zeros_and_ones_have_the_hit_rate_of_the_victim_that_is_trained_with_them():
    rng = np.random.default_rng(0)
    pairs = rng.random((30, 12)) < 0.3
    known = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(pairs)), num_users=30, num_items=12)
    targets = np.array([2, 5])
    rows = np.zeros((3, 12), np.float32)
    rows[:, targets] = 1
    rows[:, 7] = 1
    fakes = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(rows)), num_users=3, num_items=12)
    held_out = Interactions(np.array([0], np.int32), np.flatnonzero(~pairs[0])[:1].astype(np.int32), 30, 12)
    data = fake_profiles.contaminate(known, fakes)
    model = ease.model(num_users=data.num_users, num_items=12, l2=2.0)
    bench = poison_evaluation.bench(known, held_out, targets)
    victim = poison_evaluation.measure(model, model.solve(data, jax.random.key(0)), bench)
    surrogate = exact_ease.surrogate(l2=2.0)
    found = [limits_study.hit_rate(surrogate, known, targets, jnp.asarray(rows), k) for k in (1, 3)]
    of = poison_evaluation.figures(victim, (1, 3))
    assert found == pytest.approx([of["target_hit_rate@1"], of["target_hit_rate@3"]], abs=1e-9)
    assert 0 < found[0] < found[1] < 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    shilled.write_u_data(data, num_items=400)  # of 70 nearly all are among the first 50 that a user does not know
    flags = "--smoke", "--data-dir", data, "--run-dir", tmp_path_factory.mktemp("runs") / "one"
    run(*flags)
    return flags[-1], flags


@pytest.mark.slow
def test_a_variant_is_recorded_for_all_targets_at_once_and_for_the_mean_of_each_alone(finished):
    path, _ = finished
    found = {(r.model, r.attack): r for r in records.read_records(path / "results.json") if r.metric.endswith("change")}
    about = [json.loads(file.read_text()) for file in (path / "measured").glob("ease-clean-*.json")]
    alone = [group for group in about[0] if group != "head"]
    assert len(alone) == 2
    for victim, variant in (("EASE", "more steps"), ("item-kNN", "through iALS"), ("EASE, not rounded", "learned")):
        gained = {}
        for group in about[0]:
            case = poison_study.Case(variant, "push", group, 0.05)
            after = json.loads(poison_study.path_of(path, "measured", victim, case, 0).read_text())
            clean = poison_study.clean_path(path, victim.removesuffix(", not rounded"), 0)
            gained[group] = after["target_hit_rate@50"] - json.loads(clean.read_text())[group]["target_hit_rate@50"]
        assert found[victim, f"{variant}, at once"].value == pytest.approx(gained["head"], abs=1e-9)
        mean = np.mean([gained[group] for group in alone])
        assert found[victim, f"{variant}, one at a time"].value == pytest.approx(mean, abs=1e-9)
    assert ("EASE, not rounded", "through iALS, at once") not in found
    assert "| more steps, one at a time |" in (path / "limits.md").read_text()
    assert (path / "limits.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_run_that_is_done_is_not_done_again(finished):
    path, flags = finished
    before = (path / "limits.md").read_text()
    case = poison_study.Case("more steps", "push", "head", 0.05)
    kept = poison_study.path_of(path, "measured", "item-kNN", case, 0)
    value = json.loads(kept.read_text())
    kept.write_text(json.dumps(value | {"target_hit_rate@50": 0.0}))
    run(*flags)
    assert (path / "limits.md").read_text() != before
    kept.write_text(json.dumps(value))
    run(*flags)
    assert (path / "limits.md").read_text() == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--fakes", 2], "Expected --fakes in (0, 1], got --fakes 2.0"),
        (["--variants", "longest"], "Expected --variants of learned, more steps"),
        (["--longer", 4], "Expected --profile-size and --longer of the 5 items that bandwagon selects or more, got 4"),
        (["--victims", "SVD"], "Expected --victims of item-kNN"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(args, message, capsys, data_dir):
    with pytest.raises(SystemExit) as left:
        run(*args)
    assert left.value.code == 2
    assert message in capsys.readouterr().err
