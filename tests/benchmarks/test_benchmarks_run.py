"""The benchmarks run, at tiny shapes, and their yardsticks compute what they should. No time is ever asserted."""

import dataclasses
import importlib
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
    adversarial_cost,
    attack_throughput,
    evaluate_throughput,
    interactions,
    latency,
    mnist_pgd_throughput,
    poisoning_cost,
    propagation_throughput,
    sequence_throughput,
    solve_throughput,
    sweep_throughput,
    timing,
    train_throughput,
)
from jaxrec import command, types
from jaxrec.models import lightgcn

pytestmark = pytest.mark.slow

SHAPE = {"users": 12, "items": 9, "pairs": 40, "dimension": 4, "repeats": 1, "threads": (1,)}


@pytest.fixture
def work():
    return interactions.drawn(num_users=12, num_items=9, num_pairs=40, seed=3)


def installed(*libraries):
    return {library for library in libraries if timing.installed(library)}


def tables_of(path):
    return json.loads(path.read_text())["tables"]


def libraries_of(table):
    return {row["library"] for row in table["rows"]}


def test_contestants_run_in_turn_and_the_first_run_is_not_measured():
    calls = []
    now = iter(range(100))
    contestants = [timing.Contestant(name, "", lambda name=name: calls.append(name), 6) for name in "ab"]
    timings = timing.interleave(contestants, 2, clock=lambda: next(now), cpu_clock=lambda: 0)
    assert "".join(calls) == "ababab"
    assert [t.seconds.tolist() for t in timings] == [[1, 1], [1, 1]]


def test_speedups_are_of_the_best_settings_repeat_by_repeat():
    def timed(library, setting, seconds, cpu_seconds):
        contestant = timing.Contestant(library, setting, lambda: None, 12)
        return timing.Timing(contestant, np.array(seconds), np.array(cpu_seconds))

    ours = timed("ours", "", [1.0, 2.0, 4.0], [1.0, 1.0, 1.0])
    two_threads = timed("theirs", "2 threads", [2.0, 12.0, 12.0], [9.0, 9.0, 9.0])
    one_thread = timed("theirs", "1 thread", [30.0, 30.0, 30.0], [5.0, 5.0, 5.0])
    (comparison,) = timing.compare([ours, two_threads, one_thread])
    speedup = {"setting": "", "other_setting": "2 threads", "median": 3.0, "min": 2.0, "max": 6.0}
    assert comparison["speedup"] == speedup
    assert comparison["cpu_speedup"]["other_setting"] == "1 thread"
    assert comparison["cpu_speedup"]["median"] == 5.0


def test_rates_count_a_contestants_own_examples():
    contestant = timing.Contestant("ours", "", lambda: None, 30)
    table = timing.record("work", "examples a second", [timing.Timing(contestant, np.array([2.0]), np.array([3.0]))])
    assert table["rows"][0]["rate"]["median"] == 15.0
    assert table["rows"][0]["cpu_rate"]["median"] == 10.0


def test_bytes_are_a_share_of_those_of_a_copy():
    contestant = timing.Contestant("ours", "", lambda: None, 30, gradients=8, moved=30)
    timings = [timing.Timing(contestant, np.array([2.0, 2.0]), np.array([3.0, 3.0]))]
    (row,) = timing.record("work", "examples a second", timings, np.array([50.0, 60.0, 90.0]))["rows"]
    assert (row["gradients_rate"]["median"], row["moved_rate"]["median"]) == (4.0, 15.0)
    assert row["share_of_copy"] == 0.25


def test_a_copy_is_read_and_written():
    now = iter(range(100))
    rates = timing.copying(40, 2, clock=lambda: next(now))
    assert rates.tolist() == [80.0, 80.0]


def test_drawn_interactions_are_distinct_and_leave_a_target_unseen(work):
    pairs = set(zip(work.train.users.tolist(), work.train.items.tolist(), strict=True))
    assert len(pairs) == 40
    assert (np.diff(work.train.users) >= 0).all()
    assert work.seen.sum() == 40
    assert not work.seen[np.arange(12), work.targets].any()


def test_half_of_all_pairs_can_be_drawn_and_more_are_refused():
    full = interactions.drawn(num_users=4, num_items=5, num_pairs=10, seed=0)
    assert not full.seen.all(axis=1).any()
    with pytest.raises(types.InputError, match="--pairs <= 10"):
        interactions.drawn(num_users=4, num_items=5, num_pairs=11, seed=0)


def test_negatives_are_unseen_and_reach_every_unseen_item(work):
    users = np.repeat(np.arange(12), 200)
    neg = interactions.negatives(np.random.default_rng(0), users, work.seen)
    assert not work.seen[users, neg].any()
    reached = np.zeros_like(work.seen)
    reached[users, neg] = True
    assert (reached == ~work.seen).all()


def test_train_throughput_runs(tmp_path):
    path = tmp_path / "train.json"
    config = train_throughput.Config(**SHAPE, examples=10, bpr_batch_sizes=(4,), apr_batch_sizes=(4,), json=path)
    train_throughput.main(config)
    sgd, adagrad, apr = tables_of(path)
    assert libraries_of(sgd) == {"jaxrec"} | installed("torch", "implicit")
    assert libraries_of(adagrad) == libraries_of(apr) == {"jaxrec"} | installed("torch")


def test_sequence_throughput_runs(tmp_path):
    path = tmp_path / "sequences.json"
    sizes = {"users": 8, "items": 9, "examples": 6, "batch_size": 4, "dimension": 4, "max_length": 5, "blocks": 1}
    config = sequence_throughput.Config(**sizes, piece_sizes=(0, 2), threads=(1,), repeats=1, json=path)
    sequence_throughput.main(config)
    (table,) = tables_of(path)
    assert [row["setting"] for row in table["rows"][:2]] == ["batch at once", "pieces of 2"]
    assert libraries_of(table) == {"jaxrec"} | installed("torch")
    assert {row["amount"] for row in table["rows"]} == {6}


def test_attack_throughput_runs(tmp_path):
    path = tmp_path / "attack.json"
    config = attack_throughput.Config(
        **SHAPE, tables=("pgd",), batch_sizes=(4,), piece_size=2, num_steps=2, num_steps_all=1, repeats_all=1, json=path
    )
    attack_throughput.main(config)
    batch, everything = tables_of(path)
    assert libraries_of(batch) == libraries_of(everything) == {"jaxrec"} | installed("torch")
    assert batch["rows"][0]["amount"] == 4 * 2
    assert everything["rows"][0]["amount"] == 40
    # Two steps on four pairs of three rows of four numbers, eight passes of four bytes.
    assert batch["rows"][0]["moved"] == 2 * 4 * 3 * 4 * 8 * 4
    assert batch["rows"][0]["share_of_copy"] > 0


@pytest.fixture(scope="module")
def attack_tables(tmp_path_factory):
    """What a small run of the other tables writes: of attacks on rows, epsilons and sizes, in this order."""
    path = tmp_path_factory.mktemp("attack") / "attack.json"
    shape = {"batch_size": 4, "row_batch_sizes": (4,), "table_rows": (14, 20), "piece_size": 2, "num_batches": 2}
    attack_throughput.main(
        attack_throughput.Config(
            **SHAPE,
            **shape,
            tables=("attacks", "batches", "epsilons", "sizes"),
            attacks=("deepfool", "fgsm"),
            num_steps=2,
            num_epsilons=2,
            json=path,
        )
    )
    return tables_of(path)


def test_attacks_on_rows_run_beside_foolbox(attack_tables):
    deepfool, fgsm_l2, fgsm_linf, pgd_l2, pgd_linf = attack_tables[:5]
    for table in attack_tables[:5]:
        assert libraries_of(table) == {"jaxrec"} | installed("foolbox")
        assert {row["amount"] for row in table["rows"]} == {4}
    assert fgsm_l2["rows"][0]["gradients"] == 4
    assert fgsm_linf["rows"][0]["moved"] == 3 * 4 * 12 * 4  # three passes over four inputs of twelve numbers
    assert deepfool["rows"][0]["gradients"] >= 4
    assert pgd_l2["rows"][0]["gradients"] == pgd_linf["rows"][0]["gradients"] == 2 * 4
    assert [row["setting"] for row in pgd_l2["rows"][:2]] == ["batch at once", "pieces of 2"]


def test_epsilons_and_sizes_of_tables_run(attack_tables):
    epsilons, *sizes = attack_tables[5:]
    assert libraries_of(epsilons) == {"jaxrec vmap", "jaxrec loop"} | installed("torch")
    assert {row["amount"] for row in epsilons["rows"]} == {4 * 2 * 2}
    assert [libraries_of(table) for table in sizes] == [{"14 rows", "20 rows"}] * 3
    assert [table["rows"][0]["amount"] for table in sizes] == [2 * 4 * 2, 2 * 4, 2 * 4]


def test_evaluate_throughput_runs(tmp_path):
    path = tmp_path / "evaluate.json"
    evaluate_throughput.main(evaluate_throughput.Config(**SHAPE, k=3, chunk_sizes=(5,), json=path))
    (table,) = tables_of(path)
    assert libraries_of(table) == {"jaxrec", "numpy"} | installed("torch", "implicit")


def test_propagation_throughput_runs_and_its_matrix_is_what_ours_multiplies_by(tmp_path):
    path = tmp_path / "propagation.json"
    config = propagation_throughput.Config(**SHAPE, chunk_sizes=(5,), json=path)
    propagation_throughput.main(config)
    (table,) = tables_of(path)
    assert libraries_of(table) == {"jaxrec", "scipy"} | installed("torch")
    known = propagation_throughput.drawn(config)
    assert {row["amount"] for row in table["rows"]} == {2 * len(set(zip(known.users, known.items, strict=True)))}
    x = np.random.default_rng(0).normal(size=(21, 4)).astype(np.float32)
    ours = lightgcn.propagate(lightgcn.graph(known, chunk_size=5), jnp.asarray(x))
    np.testing.assert_allclose(ours, propagation_throughput.normalised(known) @ x, rtol=1e-4, atol=1e-6)


def test_solve_throughput_runs(tmp_path):
    path = tmp_path / "solve.json"
    solve_throughput.main(solve_throughput.Config(**SHAPE, l2=1.0, json=path))
    ease, ials = tables_of(path)
    assert libraries_of(ease) == {"jaxrec", "numpy"}
    assert libraries_of(ials) == {"jaxrec"} | installed("implicit")


def test_latency_runs(tmp_path, capsys):
    path = tmp_path / "latency.json"
    shape = {"users": 6, "items": 9, "many_items": 30, "known": 4, "dimension": 4, "batch_sizes": (1, 2), "k": 3}
    latency.main(latency.Config(**shape, calls=3, lists_of=5, list_length=7, json=path))
    found = json.loads(path.read_text())
    names = [(row["model"], row["items"], row["users"]) for row in found["rows"]]
    models = [("MF 4", 9), ("MF 4", 30), ("SASRec, 4 places", 9), ("EASE, item by item", 9)]
    assert names == [(*model, size) for model in models for size in (1, 2)]
    assert all(len(row["seconds"]) == 3 for row in found["rows"])
    assert found["lists"]["peak_bytes"] > 1e7, "in bytes: Python with jax takes more than ten of a million"
    assert "Top 7 of 30 items for 5 users" in capsys.readouterr().out.replace("\n", " ")


def test_a_request_is_timed_call_by_call_after_the_warm_up():
    config = latency.Config(users=6, items=9, known=4, dimension=4, k=3, calls=3)
    now = iter([second for call in range(13) for second in (0.0, float(call))])
    case = next(latency.cases(dataclasses.replace(config, many_items=9)))
    assert latency.call_times(case, config, 2, clock=lambda: next(now)) == [10.0, 11.0, 12.0]


def test_known_items_are_distinct_and_in_the_catalogue():
    items = latency.known_items(np.random.default_rng(0), 50, 7, 6)
    assert all(len(set(row)) == 6 for row in items.tolist())
    assert (items.min(), items.max()) == (0, 6)


def test_a_library_that_is_missing_is_left_out_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(timing, "installed", lambda library: False)
    path = tmp_path / "attack.json"
    config = attack_throughput.Config(
        **SHAPE, tables=("pgd",), batch_sizes=(), piece_size=2, num_steps=1, num_steps_all=1, repeats_all=1, json=path
    )
    attack_throughput.main(config)
    (table,) = tables_of(path)
    assert libraries_of(table) == {"jaxrec"}
    assert "Left out, because not installed: torch, foolbox (pip install 'jaxrec[bench]')" in capsys.readouterr().out


WORKS = ("train", "sequence", "attack", "evaluate", "propagation", "solve")


@pytest.mark.parametrize("name", [f"{work}_throughput" for work in WORKS])
def test_a_size_of_zero_is_refused_in_one_line(name, capsys):
    benchmark = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as refused:
        command.run(benchmark.main, benchmark.Config, ["--repeats", "0"])
    assert refused.value.code == 2
    assert capsys.readouterr().err == "Expected --repeats finite and > 0, got --repeats 0.\n"


def test_all_ways_to_rank_agree(work):
    torch = pytest.importorskip("torch")
    from benchmarks import torch_mf

    rng = np.random.default_rng(0)
    tables = [rng.normal(size=(rows, 4)).astype(np.float32) for rows in (12, 9)]
    scores = np.where(work.seen, -np.inf, tables[0] @ tables[1].T)
    order = np.argsort(-scores, axis=1)[:, :3]
    seen = torch.from_numpy(work.train.users).long(), torch.from_numpy(work.train.items).long()
    starts = np.searchsorted(work.train.users, np.arange(13))
    found = torch_mf.hits(
        (torch.from_numpy(tables[0]), torch.from_numpy(tables[1])),
        seen,
        starts,
        torch.from_numpy(work.targets).long(),
        k=3,
        chunk_size=5,
    )
    assert (found.numpy() == (order == work.targets[:, None])).all()


class TestTorch:
    """The PyTorch versions take the steps that their papers state (tolerance 1e-5: float32 against float64)."""

    users, pos, neg = np.array([0, 1, 0, 2]), np.array([0, 1, 2, 0]), np.array([3, 0, 3, 1])  # rows come repeatedly

    @pytest.fixture
    def torch_mf(self):
        pytest.importorskip("torch")
        return importlib.import_module("benchmarks.torch_mf")

    def gradients(self, tables):
        """Of the summed loss, example by example."""
        grads = [np.zeros_like(table) for table in tables]
        for user, pos, neg in zip(self.users, self.pos, self.neg, strict=True):
            margin = tables[0][user] @ (tables[1][pos] - tables[1][neg])
            slope = -1 / (1 + math.exp(margin))
            grads[0][user] += slope * (tables[1][pos] - tables[1][neg])
            grads[1][pos] += slope * tables[0][user]
            grads[1][neg] -= slope * tables[0][user]
        return grads

    def rows_scaled(self, grads, length):
        norms = [np.linalg.norm(grad, axis=1, keepdims=True) for grad in grads]
        return [length * grad / np.where(norm > 0, norm, 1) for grad, norm in zip(grads, norms, strict=True)]

    def start(self, torch_mf, sparse):
        import torch

        model = torch_mf.MatrixFactorisation(4, 5, 3, sparse=sparse, seed=0)
        with torch.no_grad():
            for table in model.tables():
                table.mul_(40)
        batch = tuple(torch.from_numpy(column) for column in (self.users, self.pos, self.neg))
        return model, batch, [table.detach().numpy().astype(np.float64) for table in model.tables()]

    @pytest.mark.parametrize("sparse", [False, True])
    def test_a_bpr_step_by_sgd(self, torch_mf, sparse):
        model, batch, tables = self.start(torch_mf, sparse)
        torch_mf.bpr_step(model, torch_mf.sgd(model), batch)
        expected = [table - 0.05 * grad for table, grad in zip(tables, self.gradients(tables), strict=True)]
        for table, value in zip(model.tables(), expected, strict=True):
            np.testing.assert_allclose(table.detach().numpy(), value, atol=1e-5)

    @pytest.mark.parametrize("sparse", [False, True])
    def test_two_apr_steps_by_adagrad(self, torch_mf, sparse):
        model, batch, tables = self.start(torch_mf, sparse)
        optimizer, against = torch_mf.adagrad(model), torch_mf.adversary(model, epsilon=0.5, adv_weight=2.0)
        sums = [np.full_like(table, 0.1) for table in tables]
        for _ in range(2):
            torch_mf.apr_step(model, optimizer, batch, against)
            clean = self.gradients(tables)
            perturbed = [table + delta for table, delta in zip(tables, self.rows_scaled(clean, 0.5), strict=True)]
            grads = [a + 2 * b for a, b in zip(clean, self.gradients(perturbed), strict=True)]
            sums = [total + grad**2 for total, grad in zip(sums, grads, strict=True)]
            tables = [t - 0.05 * g / np.sqrt(s) for t, g, s in zip(tables, grads, sums, strict=True)]
        for table, value in zip(model.tables(), tables, strict=True):
            np.testing.assert_allclose(table.detach().numpy(), value, atol=1e-5)

    @pytest.mark.parametrize("sparse", [False, True])
    def test_pgd_is_jaxrecs(self, torch_mf, sparse):
        import jax

        from jaxrec import objectives, oracles, surfaces
        from jaxrec.attacks import pgd
        from jaxrec.models import mf

        model, batch, tables = self.start(torch_mf, sparse)
        found = torch_mf.pgd(
            [table.detach() for table in model.tables()], batch, epsilon=0.5, step_size=0.3, num_steps=3, sparse=sparse
        )
        columns = {
            name: jax.numpy.asarray(ids.numpy()) for name, ids in zip(("users", "pos", "neg"), batch, strict=True)
        }
        clean = objectives.pairwise(model=mf.model(num_users=4, num_items=5, dimension=3))
        surface, x = surfaces.tables("user", "item"), dict(zip(("user", "item"), map(np.float32, tables), strict=True))
        params = {"tables": x, "weights": {}, "given": {}}
        losses = lambda key, x: clean(
            surface.put(params, x), columns | {"where": jax.numpy.ones(4, bool)}, key, lambda tree: tree
        )[0][None]
        attack = pgd.attack(epsilon=0.5, step_size=0.3, num_steps=3)
        delta, _ = attack(jax.random.key(0), oracles.white_box(losses), jax.tree.map(jax.numpy.asarray, x))
        for mine, name, table in zip(found, ("user", "item"), tables, strict=True):
            np.testing.assert_allclose(mine.numpy() - table, delta[name], atol=1e-5)


def test_the_benchmark_of_sweeps_trains_each_model_in_each_way(tmp_path):
    path = tmp_path / "sweep.json"
    shape = {name: value for name, value in SHAPE.items() if name != "threads"}
    sweep_throughput.main(sweep_throughput.Config(**shape, examples=20, batch_size=8, models=(3,), json=path))
    (table,) = tables_of(path)
    assert [row["setting"] for row in table["rows"]] == ["in turn", "at once", "after another"]
    assert {row["amount"] for row in table["rows"]} == {3 * 20}


def test_the_benchmark_of_pgd_training_runs(tmp_path):
    path = tmp_path / "mnist.json"
    sizes = {"images": 10, "pixels": 6, "hidden": 3, "batch_size": 4, "num_steps": 2, "threads": (1,), "repeats": 1}
    mnist_pgd_throughput.main(mnist_pgd_throughput.Config(**sizes, json=path))
    (table,) = tables_of(path)
    expected = {"jaxrec"} | installed("torch")
    assert libraries_of(table) == expected | (
        {"torch + foolbox"} if installed("torch", "foolbox") == {"torch", "foolbox"} else set()
    )
    assert {row["amount"] for row in table["rows"]} == {10}


def test_the_benchmark_of_a_learned_attack_tells_its_time_and_memory(tmp_path):
    path = tmp_path / "poisoning.json"
    sizes = {"users": 12, "items": 9, "pairs": 40, "dimension": 4, "fakes": 0.2, "fillers": 3, "targets": 2, "steps": 3}
    poisoning_cost.main(poisoning_cost.Config(**sizes, train_steps=3, unrolled_steps=2, json=path))
    found = json.loads(path.read_text())
    (row,) = found["tables"][0]["rows"]
    assert (found["fakes"], row["amount"]) == (2, 3)
    assert 20 < found["peak MiB"] < 1e5
    assert found["seconds"] == row["seconds"][0] > 0


def test_torchs_pgd_training_is_jaxrecs():
    """The attacked images, by hand and by foolbox, and the weights after a step of SGD."""
    torch = pytest.importorskip("torch")
    import jax
    import optax

    from benchmarks import torch_classifier
    from jaxrec import classifier, norms, train
    from jaxrec.attacks import pgd

    rng, steps = np.random.default_rng(0), {"epsilon": 0.1, "step_size": 0.03, "num_steps": 5}
    images, labels = rng.integers(256, size=(6, 8), dtype=np.uint8), np.arange(6) % 3
    model = classifier.mlp(num_pixels=8, hidden=(4,), num_classes=3)
    params = classifier.init(model, images, jax.random.key(0))
    theirs = torch_classifier.mlp(8, 4, 3)
    with torch.no_grad():
        for layer, name in ((theirs[0], "Dense_0"), (theirs[2], "Dense_1")):
            layer.weight.copy_(torch.tensor(np.array(params["weights"][name]["kernel"]).T))
            layer.bias.copy_(torch.tensor(np.array(params["weights"][name]["bias"])))
    x, classes = torch.from_numpy(images).float() / 255, torch.from_numpy(labels)
    attack = pgd.attack(norm=norms.LINF, **steps)
    oracle = classifier.oracle(model, params["weights"], jnp.asarray(x.numpy()), jnp.asarray(labels))
    delta, _ = jax.jit(lambda: attack(jax.random.key(0), oracle, jnp.asarray(x.numpy())))()
    makers = [torch_classifier.by_hand] + ([torch_classifier.by_foolbox] if timing.installed("foolbox") else [])
    for make in makers:
        np.testing.assert_allclose(make(**steps)(theirs, x, classes).numpy() - x.numpy(), delta, atol=1e-5)
    objective, optimizer = classifier.objective(classifier=model, attack=attack), optax.sgd(0.5)
    state = train.init_state(params, optimizer, jax.random.key(0))
    batch = {"users": jnp.arange(6), "pos": jnp.asarray(labels, jnp.int32), "where": jnp.ones(6, bool)}
    step = jax.jit(train.make_step(objective, optimizer))
    after, _ = step(state, params["given"], batch, jax.random.key(0))
    torch_classifier.step(theirs, torch.optim.SGD(theirs.parameters(), lr=0.5), x, classes, makers[0](**steps))
    for layer, name in ((theirs[0], "Dense_0"), (theirs[2], "Dense_1")):
        kernel = after.trained["weights"][name]["kernel"]
        np.testing.assert_allclose(layer.weight.detach().numpy().T, kernel, atol=1e-5)


def test_the_benchmark_of_adversarial_training_takes_every_kind_of_step_and_serves_what_it_trained(tmp_path):
    path = tmp_path / "cost.json"
    shape = {name: value for name, value in SHAPE.items() if name != "threads"}
    config = adversarial_cost.Config(
        **shape, examples=20, batch_size=8, pgd_steps=(2,), replays=3, requests=2, k=3, json=path
    )
    adversarial_cost.main(config)
    training, serving = tables_of(path)
    amounts = {row["library"]: row["amount"] for row in training["rows"]}
    assert amounts == {"plain": 20, "FGSM": 20, "PGD-2": 20, "free": 60, "fast": 20}
    assert {each["other_library"] for each in training["comparisons"]} == {"FGSM", "PGD-2", "free", "fast"}
    assert libraries_of(serving) == {"plain", "FGSM"}
