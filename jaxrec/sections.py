"""What stands on the page of a robustness report: its sections, in the order of the page.

Each makes its elements of a report's JSON values, whose fields are those that are read here.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxrec import charts, markup
from jaxrec.charts import Style
from jaxrec.markup import Columns

MINUS = "\N{MINUS SIGN}"
EPSILONS = {
    "absolute": "epsilon, absolute (norm of a row's change)",
    "relative": "epsilon, relative (mean row norms, canonical gauge)",
}
RADII = ("least_robust_users", "most_robust_users", "least_robust_items", "most_robust_items")

_element = markup.element


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        heading: Its title.
        how: How to read it.
        empty: What stands there when nothing was measured.
        body: A report -> the elements; none where nothing was measured.
    """

    heading: str
    how: str
    empty: str
    body: Callable[[Mapping[str, Any]], list[ET.Element]]


def _curves(report: Mapping[str, Any]) -> list[ET.Element]:
    """The charts side by side, with their numbers folded away below."""
    styles = charts.styles(report["curves"])
    figures = [_curve(curve, styles) for curve in report["curves"]]
    return [_element("div", {"class": "pair"}, *figures)] if figures else []


def _curve(curve: Mapping[str, Any], styles: Mapping[str, Style]) -> ET.Element:
    """A chart of one metric over one unit of epsilon."""
    metric = markup.metric_name(curve["metric"], curve["k"])
    caption = f"{metric} against {curve['unit']} epsilon"
    rows = [
        (series["name"], epsilon, value, (low, high))
        for series in curve["series"]
        for epsilon, value, low, high in charts.points_of(series)
    ]
    columns: Columns = {
        "series": markup.text,
        "epsilon": markup.plain,
        metric: markup.number,
        "95 % interval": markup.interval_cell,
    }
    return _element(
        "figure",
        {},
        _element("figcaption", {}, caption, _element("small", {}, f" (clean {markup.number(curve['clean'])})")),
        charts.lines(curve, styles, x_title=EPSILONS[curve["unit"]], y_title=metric),
        markup.folded("The numbers of this chart", markup.table(caption, columns, rows)),
    )


def _threat(report: Mapping[str, Any]) -> list[ET.Element]:
    return [_element("p", {}, report["threat"])] if report["threat"] else []


def _flags(report: Mapping[str, Any]) -> list[ET.Element]:
    """The checks, those that tripped first."""
    flags = sorted(report["flags"], key=lambda flag: not flag["tripped"])
    if not flags:
        return []
    rows = [(flag["name"], flag["tripped"], flag["evidence"]) for flag in flags]
    return [
        markup.table(
            "Checks of the measurement", {"check": markup.text, "result": _result, "evidence": markup.text}, rows
        )
    ]


def _result(tripped: bool | None) -> ET.Element:
    kind, word = {True: ("warn", "⚠ tripped"), False: ("good", "✓ passed"), None: ("none", "not made")}[tripped]
    return _element("span", {"class": kind}, word)


def _clean(report: Mapping[str, Any]) -> list[ET.Element]:
    columns: Columns = {"metric": markup.text, "value": markup.number, "95 % interval": markup.interval_cell}
    rows = [
        (markup.metric_name(entry["metric"], entry["k"]), entry["value"], entry["interval"])
        for entry in report["clean"]
    ]
    return [markup.table("Scores with nothing perturbed", columns, rows)] if rows else []


def _shifts(report: Mapping[str, Any]) -> list[ET.Element]:
    """A table for each unit."""
    columns: Columns = {
        "attack": markup.text,
        "epsilon": markup.plain,
        "prediction shift": lambda value: markup.number(value, "+.3f"),
        "rank shift": lambda value: markup.number(value, "+,.1f"),
        "attack success": lambda value: markup.number(value, ".3f"),
        "Jaccard": lambda value: markup.number(value, ".3f"),
        "RBO": lambda value: markup.number(value, ".3f"),
    }
    fields = ("attack", "epsilon", "prediction_shift", "rank_shift", "attack_success", "jaccard", "rbo")
    units = dict.fromkeys(entry["unit"] for entry in report["shifts"])
    return [
        markup.table(
            f"What moved, by attack and {unit} epsilon",
            columns,
            [[entry[field] for field in fields] for entry in report["shifts"] if entry["unit"] == unit],
        )
        for unit in units
    ]


def _groups(report: Mapping[str, Any]) -> list[ET.Element]:
    """A chart for each grouping and attack, side by side."""
    columns: Columns = {
        "group": markup.text,
        "users": markup.plain,
        "clean": markup.number,
        "attacked": markup.number,
        "95 % interval": markup.interval_cell,
        "change": markup.text,
    }
    figures = []
    for entry in report["groups"]:
        metric = markup.metric_name(entry["metric"])
        at = f"{entry['attack']}, {entry['unit']} epsilon {markup.plain(entry['epsilon'])}"
        caption = f"By {markup.words(entry['by'])}: {at}"
        rows = [
            (
                group["name"],
                group["users"],
                group["clean"],
                group["attacked"],
                (group["low"], group["high"]),
                markup.change(group["clean"], group["attacked"]),
            )
            for group in entry["groups"]
        ]
        figures.append(
            _element(
                "figure",
                {},
                _element("figcaption", {}, caption),
                charts.dumbbells(entry["groups"], x_title=metric),
                markup.folded("The numbers of this chart", markup.table(f"{metric}. {caption}", columns, rows)),
            )
        )
    return [_element("div", {"class": "pair"}, *figures)] if figures else []


def _radii(report: Mapping[str, Any]) -> list[ET.Element]:
    """Four tables: least and most robust, users and items."""
    radius = lambda value: markup.number(value, "#.3g")
    users: Columns = {
        "user": markup.text,
        "interactions": markup.plain,
        "held-out item": markup.text,
        "radius": radius,
        "unit": markup.text,
    }
    items: Columns = {"item": markup.text, "interactions": markup.plain, "radius": radius, "unit": markup.text}
    tables = []
    for key in RADII:
        columns, fields = (
            (users, ("user", "activity", "item", "radius", "unit"))
            if key.endswith("users")
            else (items, ("item", "popularity", "radius", "unit"))
        )
        rows = [[entry[field] for field in fields] for entry in report[key]]
        if rows:
            tables.append(markup.table(markup.words(key).capitalize(), columns, rows))
    return [_element("div", {"class": "pair"}, *tables)] if tables else []


def _changed_lists(report: Mapping[str, Any]) -> list[ET.Element]:
    cards = [_changed_list(entry) for entry in report["changed_lists"]]
    return [_element("div", {"class": "pair"}, *cards)] if cards else []


def _changed_list(entry: Mapping[str, Any]) -> ET.Element:
    """One user's list before and after: what left, what entered, and from which place the others moved."""
    before, after = entry["before"], entry["after"]
    left, entered = set(before) - set(after), set(after) - set(before)
    old = [_title(item, "del", f"{MINUS} " if item in left else "") for item in before]
    new = [_title(item, "ins", "+ " if item in entered else "") for item in after]
    for place, (item, shown) in enumerate(zip(after, new, strict=True), start=1):
        if item not in entered and (was := before.index(item) + 1) != place:
            shown.append(_element("small", {}, f" was {was}"))
    lists = [
        _element("div", {}, _element("h4", {}, heading), _element("ol", {}, *items))
        for heading, items in (("Before", old), ("After", new))
    ]
    caption = f"User {entry['user']}: {entry['attack']}, {entry['unit']} epsilon {markup.plain(entry['epsilon'])}"
    note = f" ({len(left)} left, {len(entered)} entered)"
    return _element(
        "div",
        {},
        _element("h3", {}, _element("bdi", {}, caption), _element("small", {}, note)),
        _element("div", {"class": "lists"}, *lists),
    )


def _title(item: str, tag: str, sign: str) -> ET.Element:
    """An item of a list, marked with `tag` and `sign` if there is one; some scripts run from right to left."""
    name = _element("bdi", {}, item)
    return _element("li", {}, _element(tag, {}, sign, name) if sign else name)


def _notes(report: Mapping[str, Any]) -> list[ET.Element]:
    return [_element("ul", {}, *(_element("li", {}, note) for note in report["notes"]))] if report["notes"] else []


def _about(report: Mapping[str, Any]) -> list[ET.Element]:
    parts = []
    for name, value in report["about"].items():
        code = name in ("command", "fingerprint", "commit")
        shown = _element("code", {}, str(value)) if code else str(value)
        parts += [_element("dt", {}, markup.words(name)), _element("dd", {}, shown)]
    return [_element("dl", {"class": "about"}, *parts)] if parts else []


SECTIONS = {
    "curves": Section(
        "Curves",
        "Each line starts at the clean value; further right the adversary may move every row further. Certified: a "
        "floor that no attack within the certificate's threat model can pass. Held-out oracle: the adversary knows "
        "the items that are tested. Worst attack: of those tried, the one that raised the training loss most. Worst "
        "for each user: whichever attack hurts that user most; picking by test items alone lowers the line, so its "
        "control is the worst of as many draws of noise. Noise of the same size is the control of the attacks. What "
        "lies between certificate and attacks is not known. Shades are 95 % intervals; point at a mark for its "
        "numbers. Relative epsilons compare models, absolute ones compare papers.",
        "No curve was measured.",
        _curves,
    ),
    "threat": Section("Threat model", "", "No threat model was stated.", _threat),
    "flags": Section(
        "Can it be trusted?",
        "A model can look robust because the attack failed: gradients that vanish, outputs that are random, too "
        "few steps. Each check looks for one such sign. One that tripped does not say that the model is weak; it "
        "says that the numbers above may flatter it, and why.",
        "No check was made, so nothing vouches for these numbers.",
        _flags,
    ),
    "clean": Section(
        "Clean scores",
        "How the model ranks held-out items with nothing perturbed. Robustness that was bought with these is no "
        "gain, and a model that ranks badly has little to lose.",
        "No clean score was measured.",
        _clean,
    ),
    "shifts": Section(
        "What moved",
        "Means over users. Prediction shift: by how much the held-out item's score rose, in standard deviations "
        "of the scores before. Rank shift: by how many places that item fell. Attack success: among users who had "
        "it in their list, the share who lost it. Jaccard and RBO (rank-biased overlap): how alike the lists "
        "before and after are, 1 for equal, 0 for nothing in common; RBO weighs the top more.",
        "No shift was measured.",
        _shifts,
    ),
    "groups": Section(
        "Who pays?",
        "Hollow marks are clean, full ones attacked, with the 95 % interval of the attacked value; the figure "
        "between them is the change. If the percentages differ much between the groups, an average over all users "
        "hides who bears the attack.",
        "No groups were measured.",
        _groups,
    ),
    "radii": Section(
        "Least and most robust",
        "The radius is the smallest epsilon at which a perturbation could change the outcome that is certified "
        "for this user or item: near 0 anything does, and below it nothing can. A dash means that nothing was "
        "certified.",
        "No radius was computed.",
        _radii,
    ),
    "changed-lists": Section(
        "Changed lists",
        "Recommendations of single users before and under an attack. Struck out with a minus: left the list; bold "
        "with a plus: entered it; “was” tells the place that an item had before.",
        "No changed list was kept.",
        _changed_lists,
    ),
    "notes": Section("Notes", "", "Nothing to add.", _notes),
    "about": Section(
        "How it was measured",
        "What one needs to measure the same again. Numbers of two reports may be compared when protocol and "
        "fingerprint are the same.",
        "Nothing was recorded.",
        _about,
    ),
}
