"""The grid of batches, end to end on a planted world: what is trained, resumed, compared and shown."""

import json

import jax
import numpy as np
import optax
import pytest
import two_processes

from experiments import why_apr_papers_disagree as experiment
from jaxrec import (
    bench,
    checkpoint_step,
    command,
    metrics,
    objectives,
    records,
    sampling,
    statistics,
    surfaces,
    sweep,
    train,
)
from jaxrec.attacks import fgsm
from jaxrec.defences import apr
from jaxrec.studies import batch_records, batch_study, continued
from jaxrec.types import Interactions, Split

MODEL = two_processes.MODEL
SETTING = continued.Setting(0.5, 0.1)
CELLS = [continued.Cell("shuffled", 512), continued.Cell("user_blocked", 512)]


def measured(gain):
    """Two settings, six seeds, four users: the second setting is better by `gain` for every seed and user."""
    base = np.random.default_rng(0).uniform(size=(1, 6, 4))
    flat = lambda control, other: np.array([[control] * 6, [other] * 6])
    return batch_study.Measured(
        np.concatenate([base, base + gain]),
        flat(0.1, 0.04),
        flat(0.5, 0.5),
        flat(0.0, -7 * gain),
        flat(0, 0),
        flat(9, 9),
    )


def test_gains_are_against_the_control_of_the_same_batches_and_corrected():
    found = dict(zip(CELLS, (measured(0.2), measured(-0.1)), strict=True))
    gains = batch_study.gains(found, (continued.CONTROL, SETTING))
    assert [gain.cell for gain in gains] == CELLS
    for gain, expected in zip(gains, (0.2, -0.1), strict=True):
        np.testing.assert_allclose(gain.interval, [expected] * 3, atol=1e-12)
        assert gain.p == pytest.approx(2 * 2 / 2**6)  # the least that six seeds reach, times two tests
        assert gain.smallest_p == gain.p
        assert gain.tail == pytest.approx(-0.06)
        assert gain.shift == pytest.approx(-7 * expected)
    by = batch_study.predictors(gains)
    assert np.isnan(by["epsilon"])  # it does not vary
    assert by["margin shift"] == pytest.approx(1)
    page = batch_records.page(gains)
    assert "| user-blocked, batch 512 | epsilon 0.5, weight 0.1 | -0.1000" in page
    assert "no p below 0.062: the test cannot tell" in page


def test_one_seed_has_an_interval_over_users():
    one = batch_study.Measured(*(part[:, :1] for part in measured(0.2)))
    noisy = one._replace(ndcg=one.ndcg + np.array([[[0.0] * 4], [[0.01, -0.01, 0.02, -0.02]]]))
    (gain,) = batch_study.gains({CELLS[0]: noisy}, (continued.CONTROL, SETTING))
    expected = statistics.summary(noisy.ndcg[1, 0] - noisy.ndcg[0, 0])
    assert gain.interval == (expected.mean, expected.low, expected.high)


def test_the_experiment_runs_and_goes_on_without_training_twice(data_dir, tmp_path, monkeypatch):
    config = experiment.Config(
        smoke=True, dimension=4, data_dir=data_dir / "ml-1m-leave-one-out", run_dir=tmp_path / "run"
    )
    monkeypatch.setattr(experiment, "SMOKE", experiment.SMOKE | {"users": 60, "epsilons": (1.0,), "num_seeds": 3})
    experiment.main(config)
    found = records.read_records(tmp_path / "run" / "results.json")
    assert {r.metric for r in found if r.defence is None} == {
        "ndcg", "coverage", "long_tail_share", "first_margin_shift", "last_margin_shift", "distinct_users",
    }  # fmt: skip
    control, robust = ([r.value for r in found if (r.metric, r.defence) == ("ndcg", d)] for d in (None, "APR"))
    gains = [r.value for r in found if r.metric == "ndcg_gain"]
    np.testing.assert_allclose(gains, np.subtract(robust, control), atol=1e-9)
    assert all(0 < r.value <= 1 for r in found if r.metric == "ndcg_gain_holm_p")
    assert sum(r.metric == "ndcg_gain_holm_p" for r in found) == len(gains) == 2
    shifts = {d: [r.value for r in found if (r.metric, r.defence) == ("first_margin_shift", d)] for d in (None, "APR")}
    assert shifts[None] == [0, 0]  # of two cells
    assert 0 not in shifts["APR"]
    assert (tmp_path / "run" / "gains.png").read_bytes().startswith(b"\x89PNG")

    before = (tmp_path / "run" / "results.json").read_bytes()
    monkeypatch.setattr(continued, "_fit", lambda *_: pytest.fail("it trained again"))
    experiment.main(config)
    assert (tmp_path / "run" / "results.json").read_bytes() == before


def test_unknown_batchings_are_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.run(experiment.main, experiment.Config, ["--batchings", "by_moon"])
    assert stopped.value.code == 2
    assert "by_moon" in capsys.readouterr().err


def test_a_seed_goes_on_from_its_own_tables_and_its_control_with_the_clean_loss(tmp_path):
    """Held against the steps of each seed and setting alone."""
    data, optimizer = two_processes.make_data(), optax.adagrad(0.05, initial_accumulator_value=0.1)
    on = bench.leave_one_out(
        Split(data, data.take(np.arange(0, 40, 20)), data.take(np.arange(60, 200, 20))), list_length=3
    )
    settings = (continued.CONTROL, SETTING, continued.Setting(1.0, 0.3))
    base = continued.Start(MODEL, data, optimizer, 1, (4, 7))
    plan = batch_study.Plan(base, on, 1, settings)
    for folder in ("logs", "checkpoints"):
        (tmp_path / folder).mkdir()
    begun = continued.begun(tmp_path, base)
    cell = continued.Cell("item_blocked", 20)
    found = batch_study._gone_on(tmp_path, plan, cell, begun)

    def alone(start, key, objective, cell, seed):
        trainer = train.parallel(lambda devices: train.make_step(objective, optimizer, reads=MODEL.reads))
        order = sampling.SAMPLERS[cell.batching](data, seed=seed, epoch=0)
        num = -(-len(data) // cell.batch_size)
        batches = sampling.batches(data, order, batch_size=cell.batch_size, first=0, num=num)
        state = trainer.put(train.init_state({**start, "given": {}}, optimizer, key))
        return trainer.get(trainer.run(state, {}, sampling.seen(data), batches)[0]).trained

    clean, surface = objectives.pairwise(model=MODEL), surfaces.tables("user", "item")
    for place, seed in enumerate(base.seeds):
        init_key, first, second = jax.random.split(jax.random.key(seed), 3)
        start = alone(MODEL.init(init_key), first, clean, continued.BEGINNING, seed)
        assert checkpoint_step.digest(sweep.model(begun, place)) == checkpoint_step.digest(start)
        for number, setting in enumerate(settings):
            attack = fgsm.attack(epsilon=setting.epsilon)
            robust = apr.objective(clean=clean, attack=attack, surface=surface, adv_weight=setting.adv_weight)
            objective = clean if setting == continued.CONTROL else robust
            expected = alone(start, second, objective, cell, seed)["tables"]
            tables = sweep.model(found.trained, 2 * number + place)["tables"]
            for name, table in expected.items():
                np.testing.assert_allclose(tables[name], table, rtol=1e-5, atol=1e-6)

    measured = batch_study._measure(tmp_path, plan, cell, found)
    lines = [json.loads(line) for line in (tmp_path / "logs" / "item_blocked__batch_20.jsonl").read_text().splitlines()]
    for number, setting in enumerate(settings):
        for place, seed in enumerate(base.seeds):
            params = {**sweep.model(found.trained, 2 * number + place), "given": {}}
            ranks = bench.ranks(MODEL, params, on.test)
            np.testing.assert_array_equal(measured.ndcg[number, place], metrics.ndcg(ranks, 3, on.test.num_ranked))
            (line,) = [line for line in lines if (line["model"], line["seed"]) == (str(setting), seed)]
            assert measured.first_shift[number, place] == measured.last_shift[number, place] == line["margin_shift"]


def test_item_blocked_batches_have_few_items_and_every_row_once():
    users, items = (part.astype(np.int32) for part in np.divmod(np.arange(600), 30))
    data = Interactions(users, items, 20, 30)
    order = sampling.item_blocked(data, seed=0, epoch=0, buffer_size=20)
    assert sorted(order) == list(range(600))
    distinct = lambda order: np.mean([len({*items[order[i : i + 20]]}) for i in range(0, 600, 20)])
    assert distinct(order) < 6 < 12 < distinct(sampling.shuffled(data, seed=0, epoch=0))
    assert list(order) != list(sampling.item_blocked(data, seed=0, epoch=1, buffer_size=20))
    with pytest.raises(ValueError, match="buffer_size=0"):
        sampling.item_blocked(data, seed=0, epoch=0, buffer_size=0)
