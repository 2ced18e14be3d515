"""What a grid of batches found: its records, and the table of what each setting gains."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxrec import provenance, records, summaries
from jaxrec.studies import batch_study, continued, study


def records_of(
    experiment: str,
    data: study.Data,
    plan: batch_study.Plan,
    found: Mapping[continued.Cell, batch_study.Measured],
    gains: Sequence[batch_study.Gain],
) -> list[records.Record]:
    """Of each setting and cell: metrics with t intervals over seeds, the gain with its own, and Holm's p."""
    k = plan.on.test.list_length
    common: dict[str, Any] = {
        "experiment": experiment, "model": f"MF {continued.dimension(plan.start)}", "dataset": data.title,
        "split": data.split_title, "protocol": plan.on.protocol, "seeds": plan.start.seeds, "step": None,
        "chosen_by": "last", "device": provenance.device(), "commit": provenance.commit(),
        "fingerprint": data.fingerprint["sha256"],
        **records.NOBODY,
    }  # fmt: skip
    gained = {(gain.cell, gain.setting): gain for gain in gains}
    made = []
    for cell, measured in found.items():
        for number, setting in enumerate(plan.settings):
            fields = common | {
                "defence": "APR" if setting != continued.CONTROL else None, "users": measured.ndcg.shape[2],
                "training": f"BPR {plan.start.epochs} epochs; {plan.adv_epochs} more, {setting}; {cell}",
            }  # fmt: skip
            by_seed = {
                ("ndcg", k): measured.ndcg[number].mean(axis=1),
                ("coverage", k): measured.coverage[number],
                ("long_tail_share", k): measured.long_tail_share[number],
                ("first_margin_shift", None): measured.first_shift[number],
                ("last_margin_shift", None): measured.last_shift[number],
                ("distinct_users", None): measured.distinct_users[number],
            }
            made += [summaries.of_seeds(values, metric=name, k=k, **fields) for (name, k), values in by_seed.items()]
            if (cell, setting) in gained:
                mean, low, high = gained[cell, setting].interval
                made.append(records.Record(**fields, metric="ndcg_gain", k=k, value=mean, interval=(low, high)))
                p_value = gained[cell, setting].p
                made.append(records.Record(**fields, metric="ndcg_gain_holm_p", k=k, value=p_value, interval=None))
    return made


def page(gains: Sequence[batch_study.Gain]) -> str:
    """The gains as a Markdown table, and what goes with them."""
    lines = [
        "| batches | setting | NDCG gain | p, Holm | margin shift, first epoch | long tail |",
        "|---|---|---|--:|--:|--:|",
    ]
    for gain in gains:
        mean, low, high = gain.interval
        lines.append(
            f"| {gain.cell} | {gain.setting} | {mean:+.4f} [{low:+.4f}, {high:+.4f}] | {gain.p:.3f} | "
            f"{gain.shift:+.2f} | {gain.tail:+.3f} |"
        )
    found = ", ".join(f"{name} {value:+.2f}" for name, value in batch_study.predictors(gains).items())
    lines += ["", f"Spearman's correlation of the mean gain with: {found}."]
    if gains[0].smallest_p > 0.05:
        lines.append(f"So few seeds can reach no p below {gains[0].smallest_p:.2g}: the test cannot tell.")
    return "\n".join([*lines, ""])
