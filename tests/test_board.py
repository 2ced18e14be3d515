"""A board of defences on planted groups: what is trained once, chosen, attacked, recorded and shown."""

import csv
import dataclasses
import functools
import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import defence_board as experiment
from jaxrec import (
    bench,
    consistency,
    factor_bounds,
    gradient_masking,
    loop,
    losses,
    min_max,
    objectives,
    provenance,
    records,
    results,
    splits,
    surfaces,
    train,
    types,
)
from jaxrec.attacks import fgsm, random_noise
from jaxrec.defences import apr, distillation, free, smoothing
from jaxrec.models import ensemble, mf
from jaxrec.studies import board, board_defences, board_exam, board_records, model_table, study
from jaxrec.studies.board import Setting


def two_groups():
    """20 users, each with 12 of the 30 items of its group: a list of ten leaves most of the 60 items out."""
    rng = np.random.default_rng(0)
    items = [30 * (user % 2) + rng.permutation(30)[:12] for user in range(20)]
    users = np.repeat(np.arange(20, dtype=np.int32), 12)
    return splits.leave_one_out(types.Interactions(users, np.concatenate(items).astype(np.int32), 20, 60), seed=0)


SPLIT = two_groups()
DATA = study.Data(SPLIT, "drawn", "drawn data", "leave-one-out", provenance.fingerprint(SPLIT))
ON = bench.leave_one_out(SPLIT, cutoffs=(10,))
MODEL = mf.model(num_users=20, num_items=60, dimension=4, init_scale=0.1)
CLEAN = objectives.pairwise(model=MODEL)
SUBJECT = board.Subject(
    name="MF",
    model=MODEL,
    clean_of=lambda model: objectives.pairwise(model=model),
    softened=lambda t: objectives.listwise(model=MODEL, loss=losses.softened(t)),
    smoothed=lambda s: CLEAN,
    list_scores=consistency.all_items(num_items=60),
    surface=surfaces.tables("user", "item"),
    radii=(0.3,),
    optimizer=optax.adagrad(0.3),
    batch_size=32,
    training="BPR",
    start_epochs=8,
    epochs=2,
    train=SPLIT.train,
    bounds=factor_bounds.of_tables(MODEL),
)
EXAM = board_exam.Exam(
    attacks={"noise": lambda epsilon: random_noise.attack(epsilon=epsilon), "FGSM": lambda e: fgsm.attack(epsilon=e)},
    epsilons={"relative": [1.0], "absolute": [2.0]},
    certified=[0.001],
    choosing=lambda epsilon: fgsm.attack(epsilon=epsilon),
    num_users=20,
    num_doubted=0,
    flag_steps=2,
    black_box={},
    seed=0,
)


def student(params, batch, key, reduce):
    """Of the teacher in what is given."""
    learn = distillation.objective(
        model=MODEL,
        teacher=MODEL,
        teacher_params={**params["given"][board.TEACHER], "given": {}},
        num_users=20,
        num_items=60,
        list_scores=SUBJECT.list_scores,
        temperature=2.0,
    )
    return learn(params, batch, key, reduce)


def grow(params):
    return {**params, "tables": jax.tree.map(lambda x: 10 * x, params["tables"])}


def robust(on):
    return apr.objective(clean=on.clean, attack=fgsm.attack(epsilon=on.radii[0]), surface=on.relative)


ROWS = board.rows(
    [SUBJECT],
    {
        board.PLAIN: lambda on: [Setting("clean loss", on.clean)],
        "grown": lambda on: [Setting("tables x 10", on.clean, after=grow, trained_as="plain, clean loss")],
        "APR": lambda on: [Setting("epsilon 0.3", robust(on))],
        "distilled": lambda on: [Setting("T 2", student, dense=True, teacher=on.softened(2.0))],
        "wheels": lambda on: "it has none",
        "free": lambda on: [
            Setting(
                "two replays",
                free.objective(clean=on.clean, surface=on.relative, epsilon=0.3),
                carried=min_max.nothing(on.surface),
                num_replays=2,
            )
        ],
        "smoothed": lambda on: [
            Setting(
                "sigma 0.1",
                smoothing.objective(clean=on.clean, surface=on.relative, sigma=0.1),
                dense=True,
                model=smoothing.wrap(MODEL, surface=on.relative, sigma=0.1, num_samples=2),
            )
        ],
        "averaged": lambda on: [
            Setting(
                "two models",
                on.clean,
                model=ensemble.model(num_users=20, num_items=60, members={"0": MODEL, "1": MODEL}),
                surface=surfaces.tables("0/user", "0/item", "1/user", "1/item"),
                num_members=2,
                after=lambda *params: ensemble.joined(dict(zip("01", params, strict=True))),
                trained_as="plain, clean loss",
            )
        ],
    },
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("board")
    found = board_exam.run(path, ROWS, ROWS, ON, EXAM, [3, 4])
    return path, found, board_records.records_of("test", found, ROWS, DATA)


def cells(found, defence):
    return board_records.by_row(found)["MF", defence]


def test_growing_norms_gains_nothing_at_a_relative_epsilon_and_much_at_an_absolute_one(finished):
    plain, grown = (cells(finished[2], name) for name in (board.PLAIN, "grown"))
    assert plain["FGSM, 1"].value < plain["clean"].value - 0.1, "the attack does something"
    for name in ("clean", "FGSM, 1"):
        assert grown[name].value == pytest.approx(plain[name].value, abs=1e-6)
    assert grown["certified, 0.001"].value == pytest.approx(plain["certified, 0.001"].value, abs=1e-6)
    assert grown["FGSM, 2 absolute"].value > plain["FGSM, 2 absolute"].value + 0.1
    assert grown["row norms"].value == pytest.approx(10, rel=1e-5)
    assert board_records.NORMS_ALONE in board_records.doubts(grown)
    for name in ("APR", "distilled"):
        assert cells(finished[2], name)["row norms"].value < 5


def test_a_finished_board_is_read_and_a_lost_measurement_needs_no_training(finished, monkeypatch, tmp_path):
    path, found, _ = finished
    logs = {log.name: log.read_bytes() for log in (path / "logs").iterdir()}
    assert "mf__grown__tables_x_10-3.jsonl" not in logs, "it is the plain training"
    assert {f"mf__plain__clean_loss-{seed}.jsonl" for seed in (3, 4)} <= {*logs}
    monkeypatch.setattr(loop, "_train", lambda *_: pytest.fail("it trained again"))
    (path / "measured" / "mf_distilled-4.npz").unlink()
    again = board_exam.run(path, ROWS, ROWS, ON, EXAM, [3, 4])
    for one, other in zip(again["MF/distilled"][4].measured, found["MF/distilled"][4].measured, strict=True):
        np.testing.assert_array_equal(one.ranks.ranks, other.ranks.ranks)
    assert {log.name: log.read_bytes() for log in (path / "logs").iterdir()} == logs
    monkeypatch.setattr(model_table, "finish", lambda *_: pytest.fail("it was looked at again"))
    assert board_exam.run(path, ROWS, [], ON, EXAM, [3, 4]).keys() == found.keys(), "rows that are not asked for stay"


def test_a_student_starts_where_the_others_do_and_learns_from_a_teacher_that_was_trained(finished):
    path, found, _ = finished
    seconds = {name: found[name][3].about["seconds"] for name in ("MF/plain", "MF/distilled")}
    assert all(value > 0 for value in seconds.values())
    assert (path / "logs" / "mf__distilled__t_2__teacher-3.jsonl").exists()
    student = ROWS[3].trainings["T 2"]
    parts = [model_table.finish(path, part, ON, 3).params for part in student.fit.parts]
    given = student.fit.given(*parts)
    assert set(given[board.TEACHER]) == {"tables", "weights"}
    np.testing.assert_array_equal(given[board.TEACHER]["tables"]["user"], parts[1]["tables"]["user"])
    assert [part.name for part in student.fit.parts] == ["MF, start", "MF, distilled, T 2, teacher"]
    start, *others = (
        student.fit.parts[0].fit,
        student.fit.parts[1].fit,
        student.fit,
        next(iter(ROWS[0].trainings.values())).fit,
    )
    assert [each.first_epoch for each in others] == [start.num_epochs] * 3, "all on the same batches, after the start's"


def test_every_row_pays_the_l2_of_its_model_once(monkeypatch):
    """A defence that takes the clean loss twice, or another loss, pays for its rows as the plain one does."""
    minimised, by_steps = [], board.model_table.by_steps
    keep = lambda objective, **options: (minimised.append(objective), by_steps(objective=objective, **options))[1]
    monkeypatch.setattr(board.model_table, "by_steps", keep)
    defences = {board.PLAIN: lambda on: [Setting("", on.clean)], "APR": lambda on: [Setting("", robust(on))]}
    board.rows([SUBJECT._replace(l2=0.5)], defences)
    params = MODEL.init(jax.random.key(0))
    params["given"][board.UNITS] = board.row_norms(SUBJECT.surface.get(params))
    batch = {"users": jnp.array([1, 1]), "pos": jnp.array([2, 3]), "neg": jnp.array([4, 2]), "where": jnp.ones(2, bool)}
    user, item = (np.square(params["tables"][name]).sum(axis=1) for name in ("user", "item"))
    expected = 0.25 * (2 * user[1] + 2 * item[2] + item[3] + item[4])
    for each, alone in zip(minimised, (SUBJECT.clean, SUBJECT.clean, robust(SUBJECT)), strict=True):
        with_l2, without = (of(params, batch, jax.random.key(1), lambda tree: tree)[0] for of in (each, alone))
        assert with_l2 - without == pytest.approx(expected, rel=1e-4)


def test_the_words_of_a_training_say_the_l2_that_its_rows_pay():
    stated = {}
    for subject in experiment.subjects(experiment.Config(), SPLIT.train):
        words = re.search(r"L2 (\.\d+)", subject.training)
        stated[subject.name] = float(words[1]) if words else 0
        assert subject.l2 == stated[subject.name]
    assert stated["LightGCN"] == 1e-4, "as published"


def test_records_are_complete_and_the_page_and_the_csv_are_made_of_them(finished, tmp_path):
    made = finished[2]
    metrics = {(r.metric, r.attack) for r in made if r.defence == "APR"}
    for attack in (None, "noise", "FGSM"):
        assert {("ndcg", attack), ("coverage", attack), ("long_tail_share", attack)} <= metrics
    assert {("ndcg", board_exam.CERTIFIED), ("cost", None), ("seconds", None), ("ndcg_gain", "FGSM")} <= metrics
    assert ("coverage", board_exam.CERTIFIED) not in metrics, "its lists are not known"
    assert {r.seeds for r in made if r.metric == "ndcg"} == {(3, 4)}
    assert cells(made, board.PLAIN)["cost"].value == 1
    board_records.publish(tmp_path, made)
    assert records.read_records(tmp_path / "results.json") == made
    words, numbers, rows = board_records.table(made)
    page = (tmp_path / "board.md").read_text()
    assert results.markdown(results.Table(words, numbers, rows)) in page
    shown = dict(zip([*words, *numbers], next(row for row in rows if row[1] == "APR"), strict=True))
    assert shown["FGSM, 1"] == f"{cells(made, 'APR')['FGSM, 1'].value:.4f}"
    assert (shown["setting"], shown["seeds"]) == ("epsilon 0.3", "2")
    lines = {line["defence"]: line for line in csv.DictReader(io.StringIO((tmp_path / "board.csv").read_text()))}
    assert float(lines["APR"]["FGSM, 1"]) == cells(made, "APR")["FGSM, 1"].value
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_says_how_intervals_were_made_and_that_levels_compare_only_at_equal_seeds(finished):
    made, equal = finished[2], "levels compare only at equal seeds"
    one = [dataclasses.replace(r, seeds=(3,)) if r.defence == "APR" else r for r in made]
    over_users, over_both = board_records.INTERVALS
    page = board_records.page(made)
    assert (over_users in page, over_both in page, equal in page) == (False, True, False)
    page = board_records.page(one)
    assert f"{over_users} or {over_both}" in page
    assert f"Rows have 1, 2 seeds: {equal}." in page


def test_what_does_not_apply_says_why(finished):
    row = next(row for row in board_records.table(finished[2]).rows if row[1] == "wheels")
    assert row[2] == "does not apply: it has none"
    assert set(row[3:]) == {"-"}


def test_radii_of_training_are_in_mean_row_norms_of_the_clean_tables(finished):
    path = finished[0]
    start = model_table.finish(path, ROWS[2].trainings["epsilon 0.3"].fit.parts[0], ON, 3).params
    final = board_exam.finish(path, ROWS[2], ROWS[2].settings[0], ON, 3)
    norms = {name: np.linalg.norm(table, axis=1).mean() for name, table in start["tables"].items()}
    units = final.params["given"][board.UNITS]
    assert {*units} == {"user", "item"}
    seen = SUBJECT.relative.get(final.params)
    moved = SUBJECT.relative.put(final.params, {name: table + 0.5 for name, table in seen.items()})["tables"]
    for name, norm in norms.items():
        np.testing.assert_allclose(units[name], norm, rtol=1e-5)
        np.testing.assert_allclose(moved[name] - final.params["tables"][name], 0.5 * norm, rtol=1e-4)
    ends = [np.linalg.norm(table, axis=1).mean() for table in final.params["tables"].values()]
    assert not np.allclose(ends, list(norms.values()), rtol=1e-2), "units of the end would be others"


def test_replays_take_as_many_steps_on_as_many_fewer_epochs(finished, tmp_path):
    path, found, _ = finished
    replayed = next(row for row in ROWS if row.defence == "free")
    assert replayed.trainings["two replays"].fit.num_epochs == 1
    assert board_exam.finish(path, replayed, replayed.settings[0], ON, 3).step * 2 == found["MF/plain"][3].about["step"]
    whole = model_table.finish(path, replayed.trainings["two replays"], ON, 3)
    assert found["MF/free"][3].about["seconds"] == pytest.approx(whole.seconds / 2), "half the epochs"
    times = tmp_path / "times"
    times.write_text(
        "".join(
            f'{{"epoch": {epoch}, "step": {step}, "seconds": {seconds}}}\n'
            for epoch, step, seconds in ((1, 2, 9), (2, 3, 50), (2, 3, 1), (2, 4, 1), (3, 6, 4))
        )
    )
    assert model_table._seconds_an_epoch(times) == 3, "the first compiles; step 3 was taken again after a kill"


def test_an_ensemble_scores_as_its_members_which_are_plain_trainings_of_other_seeds(finished):
    path, found, made = finished
    row = ROWS[-1]
    final = board_exam.finish(path, row, row.settings[0], ON, 3)
    plain = ROWS[0].trainings["clean loss"]
    members = [model_table.finish(path, plain, ON, seed).params for seed in (3, 3 + board_exam.MEMBERS_APART)]
    scores = [params["tables"]["user"] @ params["tables"]["item"].T for params in members]
    assert not np.allclose(*scores)
    unit = [(s - s.mean(axis=1, keepdims=True)) / s.std(axis=1, keepdims=True) for s in scores]
    found_scores = jax.jit(final.model.score_all)(final.params, jnp.arange(20))
    np.testing.assert_allclose(found_scores, sum(unit), rtol=1e-3, atol=1e-4)
    assert 0.5 < cells(made, "averaged")["row norms"].value < 2
    attacked = found["MF/averaged"][3].measured[2]
    assert set(attacked.mean_norms) == {"0/user", "0/item", "1/user", "1/item"}


def test_a_record_states_the_gauge_of_the_model_that_was_attacked(finished):
    gauges = {name: cells(finished[2], name)["FGSM, 1"].gauge for name in (board.PLAIN, "smoothed", "averaged")}
    assert gauges == {board.PLAIN: "canonical", "smoothed": "as trained", "averaged": "as trained"}
    assert "certified, 0.001" not in cells(finished[2], "smoothed"), "the certificate is of products of its tables"


def test_validation_under_attack_chooses_and_each_row_tries_as_many(tmp_path):
    (tmp_path / "measured").mkdir()
    two = SUBJECT._replace(radii=(0.3, 3.0), start_epochs=1, epochs=1)
    settings = [
        Setting("one", CLEAN),
        Setting("none", CLEAN, after=lambda params: jax.tree.map(lambda x: 0 * x, params)),
    ]
    (row,) = board.rows([two], {board.PLAIN: lambda on: settings[::-1]})
    best, scores = board_exam._choose(tmp_path, row, ON, EXAM, 3)
    assert best.words == max(scores, key=lambda words: scores[words]["valid_robust_ndcg"])
    assert scores["none"]["valid_ndcg"] != scores["one"]["valid_ndcg"]
    with pytest.raises(ValueError, match="Expected 1 settings of MF/plain, got 2"):
        board.rows([SUBJECT], {board.PLAIN: lambda on: settings})


def test_rows_are_asked_for_by_model_by_defence_or_both():
    asked = lambda *only: [row.defence for row in board.chosen(ROWS, only)]
    assert asked("MF/APR") == asked("apr") == ["plain", "APR"]
    assert asked() == asked("mf") == [row.defence for row in ROWS]
    with pytest.raises(types.InputError, match="got SLIM"):
        board.chosen(ROWS, ["SLIM"])


@pytest.mark.slow
def test_the_flags_of_gradient_masking_are_asked_of_a_final_model(finished, monkeypatch):
    finals = [board_exam.finish(finished[0], row, row.settings[0], ON, 3) for row in (ROWS[0], *ROWS[-2:])]
    flags = board_exam._doubts(SUBJECT, finals[0], ON, EXAM._replace(num_doubted=10), 3)
    assert len(flags) == 7
    assert not flags[1].tripped, "rows outside the listed users have no gradient by right"
    seen = []
    monkeypatch.setattr(gradient_masking, "inspect", lambda model, *_, **__: seen.append(model.reads) or [])
    for final in finals[1:]:
        board_exam._doubts(SUBJECT, final, ON, EXAM._replace(num_doubted=10), 3)
    user, item = ("users",), ("pos", "neg")
    assert seen == [
        {"user": user, "item": item},
        {"0/user": user, "0/item": item, "1/user": user, "1/item": item},
    ], "nor have those of a model that is wrapped"


@pytest.mark.parametrize(
    "place", [0, 1, 2, pytest.param(3, marks=pytest.mark.slow)], ids=["MF", "NeuMF", "LightGCN", "SASRec"]
)
def test_every_defence_can_be_trained_on_every_model_or_says_why_not(place):
    config = experiment.Config(dimension=4)
    subject = experiment.subjects(config, SPLIT.train)[place]
    # Traced once for all rows.
    subject = subject._replace(
        clean_of=functools.cache(lambda m, of=subject.clean_of: jax.jit(of(m), static_argnums=3))
    )
    params = jax.eval_shape(subject.model.init, jax.random.key(0))
    params = subject.model.knowing(params, SPLIT.train)
    params["given"] |= {board.TEACHER: {part: params[part] for part in ("tables", "weights")}}
    params["given"] |= {board.UNITS: jax.eval_shape(surfaces.row_scales, subject.surface.get(params))}
    ids, neg = jnp.arange(6), jnp.zeros((6, 4) if subject.name == "NeuMF" else 6, jnp.int32)
    batch = {"users": ids, "pos": ids, "neg": neg, "where": ids >= 0, "step": ids}
    reasons, alone = {}, train.ALONE.reduce
    for row in board.rows([subject], board_defences.ALL):
        if row.reason is not None:
            reasons[row.defence] = row.reason
        for setting in row.settings[:1]:
            at = lambda params, batch, each=setting: each.objective(params, batch, jax.random.key(0), alone)
            carried = jax.eval_shape(setting.carried, params)
            loss, metrics = jax.eval_shape(at, {**params, "carried": carried}, batch)
            assert loss.shape == ()
            assert {"loss", "examples"} <= metrics.keys()
            assert metrics.get("carried", carried) == carried
    clicks = {"truncated loss", "reweighted loss"}
    of_sequence = {"norms grown (control)", "L2 (control)", "normalised (control)", "vulnerability-aware"}
    assert (
        set(reasons)
        == {
            "MF": {*clicks, "edge dropout", "contrastive"},
            "NeuMF": {"norms grown (control)", "certified margin", "edge dropout", "contrastive"},
            "LightGCN": {*clicks, "normalised (control)", "softmax (control)", "contrastive"},
            "SASRec": {*clicks, *of_sequence, "softmax (control)", "certified margin", "edge dropout"},
        }[subject.name]
    )


def test_histories_need_the_order_of_time(monkeypatch, tmp_path):
    monkeypatch.setattr(study, "movielens_1m_in_order", lambda *_, **__: DATA)  # without times
    with pytest.raises(types.InputError, match="order of time, for --models SASRec; got drawn"):
        experiment.main(experiment.Config(run_dir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_experiment_makes_the_board(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "movielens_1m_in_order", lambda *_, **__: DATA)
    config = experiment.Config(
        models=("MF",), smoke=True, only=("MF/APR",), run_dir=tmp_path / "run", absolute_epsilons=()
    )
    with pytest.raises(types.InputError, match="got MF/APR"):
        experiment.main(dataclasses.replace(config, models=("NeuMF",)))
    monkeypatch.setattr(experiment, "SMOKE", experiment.SMOKE | {"doubted_users": 0, "num_steps": 1})
    experiment.main(config)
    made = records.read_records(tmp_path / "run" / "results.json")
    there = [record for record in made if record.metric != board_records.NOT_HERE]
    assert {(r.model, r.defence) for r in there} == {("MF", None), ("MF", "APR")}
    assert {(r.model, r.defence) for r in made} > {("MF", "edge dropout")}, "what does not apply says so"
    assert {r.epsilon for r in made if r.gradient_evaluations} == {0.1, 0.2}
