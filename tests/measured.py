"""A record to change for a test."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxrec import records


def record(**changes) -> records.Record:
    """A measurement without an attack."""
    fields: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(records.Record))
    fields |= {
        "experiment": "ml1m_apr",
        "model": "mf",
        "dataset": "MovieLens-1M",
        "split": "leave-one-out",
        "protocol": "full ranking",
        "metric": "ndcg",
        "k": 10,
        "value": 0.0427,
        "interval": (0.0412, 0.0441),
        "seeds": (0, 1),
        "users": 6040,
        "step": 200,
        "chosen_by": "validation",
        "training": "200 epochs",
        "device": "2 x cpu",
        "commit": "abc",
        "fingerprint": "ff",
    }
    return records.Record(**(fields | changes))


ATTACKED = {
    "defence": "apr",
    "surface": "user and item tables",
    "attack": "pgd",
    "oracle": "white-box",
    "epsilon": 0.5,
    "epsilon_unit": "absolute",
    "achieved_norm": {"user": 0.5, "item": 0.25},
    "gradient_evaluations": 20,
}
