"""The experiments that attack a run's models: one of them end to end on a tiny run, and what all of them declare."""

import pytest
import tiny_run

from experiments import ml1m_ascended_losses, ml1m_attack_table, ml1m_matched_budget
from jaxrec import command, records, results
from jaxrec.studies import attack_study


@pytest.mark.slow
def test_a_study_leaves_its_records_its_table_and_its_picture(tmp_path, capsys):
    run, data = tiny_run.write(tmp_path)
    flags = ["--run", run, "--data-dir", data, "--num-steps", 2, "--smooth-seeds", 0]
    command.run(ml1m_ascended_losses.main, ml1m_ascended_losses.Config, [str(flag) for flag in flags])
    out = run / "ml1m_ascended_losses"
    made = records.read_records(out / "results.json")
    assert (out / "results.md").read_text() == results.page(made)
    assert (out / "table.png").stat().st_size > 10_000
    losses = {"sampled BPR", "full softmax", "hardest margin", "scale-free margin"}
    assert {record.attack for record in made} == {None, *losses}
    assert {record.oracle for record in made if record.attack == "full softmax"} == {
        "white box: model, training pairs; full softmax"
    }
    printed = capsys.readouterr().out
    assert all(name in printed for name in losses)
    assert "Holm p" in printed


def test_what_is_declared_is_mounted():
    """And no name comes twice, nor more comparisons than ten seeds could find."""
    one, two = (attack_study.Training("bpr", seed) for seed in (0, 1))
    study = attack_study.Study("", None, None, None, [one, two], None)
    alone = ml1m_attack_table.threats(ml1m_attack_table.Config(), study._replace(trainings=[one]))
    assert not any(ml1m_attack_table.OTHER_SEED in threat.attacks for threat in alone), "it would be the victim itself"
    white_box = ml1m_attack_table.threats(ml1m_attack_table.Config(), study)
    of_table = [name for threat in white_box for name in threat.attacks]
    assert set(ml1m_attack_table.WHITE_BOX) == set(white_box[1].attacks)
    worst = [ml1m_attack_table.WORST, ml1m_attack_table.CONTROL]
    at_one_epsilon, at_msaps_lengths = ml1m_matched_budget.attacks(25)
    for declared, mounted in (
        (ml1m_attack_table.declared(), [*of_table, *worst]),
        (ml1m_matched_budget.declared(25), [*at_one_epsilon, *at_msaps_lengths]),
        (ml1m_ascended_losses.declared(), [ml1m_ascended_losses.BPR, *ml1m_ascended_losses.OTHERS]),
    ):
        assert len(set(mounted)) == len(mounted)
        assert {attack for pair in declared for _, attack in pair} <= set(mounted)
        assert {stage for pair in declared for stage, _ in pair} == {"bpr", "apr"}
        assert 2 * len(declared) * 2 / 2**10 < 0.05, "at two epsilons"


def test_a_run_must_be_named(capsys):
    with pytest.raises(SystemExit) as left:
        command.run(ml1m_attack_table.main, ml1m_attack_table.Config, [])
    assert left.value.code == 2
    assert "Expected --run, a finished run" in capsys.readouterr().err
