"""The robustness report as one HTML file that a person opens from disk: no network, no script, no font of its own.

`render` takes what `results.json` of a report holds. Pages are trees of elements, written out by the standard library,
so that text from users' files is escaped and elements nest by construction; a policy in the page's head forbids it to
load or run anything all the same.
"""

import importlib.resources
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxrec import charts
from jaxrec.charts import Style

MINUS = "\N{MINUS SIGN}"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
METRICS = {"ndcg": "NDCG", "hit_rate": "HR"}
EPSILONS = {
    "absolute": "epsilon, absolute (norm of a row's change)",
    "relative": "epsilon, relative (mean row norms, canonical gauge)",
}
RADII = ("least_robust_users", "most_robust_users", "least_robust_items", "most_robust_items")
KEYS = ("title", "about", "threat", "clean", "curves", "shifts", "groups", *RADII, "changed_lists", "flags", "notes")

Children = list[ET.Element | str]
Table = Mapping[str, Callable[[Any], Any]]  # heading -> how a cell is shown: `_text` if it is text, else a number

_element = charts.element


class _Section(NamedTuple):
    heading: str
    how: str  # how to read this
    empty: str  # what stands there when nothing was measured
    body: Callable[[Mapping[str, Any]], list[ET.Element]]


def render(report: Mapping[str, Any]) -> str:
    """Writes the page of a report.

    Args:
        report: JSON values alone: `title`, `about` {name: value}, `threat`, and the lists `clean`, `curves`, `shifts`,
            `groups`, `least_robust_users`, `most_robust_users`, `least_robust_items`, `most_robust_items`,
            `changed_lists`, `flags`, `notes`. The fields of their entries are those that this module reads. A list may
            be empty and a number None (or NaN): its section says so, and a dash stands in its place.

    Returns:
        A whole HTML document.

    Raises:
        ValueError: If a key is missing, or a series has fewer values than epsilons.
        TypeError: If the report holds what JSON cannot.
    """
    if missing := [key for key in KEYS if key not in report]:
        raise ValueError(f"Expected a report with the keys {', '.join(KEYS)}, got none named {', '.join(missing)}.")
    known = json.loads(json.dumps(dict(report)), parse_constant=lambda _: None)
    css = importlib.resources.files("jaxrec").joinpath("page.css").read_text(encoding="utf-8")
    page = _element(
        "html",
        {"lang": "en"},
        _element(
            "head",
            {},
            _element("meta", {"charset": "utf-8"}),
            _element("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}),
            _element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
            _element("meta", {"name": "color-scheme", "content": "light dark"}),
            _element("title", {}, known["title"]),
            _element("style", {}, css),
        ),
        _element(
            "body",
            {},
            _head(known),
            _element("main", {}, *(_section(name, section, known) for name, section in SECTIONS.items())),
        ),
    )
    ET.indent(page, space="")
    return "<!doctype html>\n" + ET.tostring(page, encoding="unicode", method="html") + "\n"


# The first screen.


def _head(report: Mapping[str, Any]) -> ET.Element:
    """Title, answer in a sentence, the same in figures, and where to find the rest."""
    links = [_element("a", {"href": f"#{name}"}, section.heading) for name, section in SECTIONS.items()]
    sentence, tiles = _answer(report["curves"])
    tripped = sum(flag["tripped"] for flag in report["flags"])
    tiles.append(
        (
            "Checks that tripped",
            f"{tripped} of {len(report['flags'])}",
            "read the numbers with care" if tripped else "none speaks against the numbers" if report["flags"] else "",
            "warn" if tripped else "good" if report["flags"] else "",
        )
    )
    shown = [
        _element(
            "div", {}, _element("dt", {}, name), _element("dd", {"class": kind}, value, _element("small", {}, note))
        )
        for name, value, note, kind in tiles
    ]
    return _element(
        "header",
        {},
        _element("h1", {}, report["title"]),
        _element("p", {"class": "answer"}, sentence),
        _element("dl", {"class": "tiles"}, *shown),
        _element("nav", {"aria-label": "Sections"}, *links),
    )


def _answer(curves: Sequence[Mapping[str, Any]]) -> tuple[str, list[tuple[str, str, str, str]]]:
    """What is left at a middle epsilon of the first relative curve (or the first curve), in a sentence and in figures.

    The strongest attack is the lowest of the attacks and their worst-of; the certificate is the lowest as well, if
    several were computed. The held-out oracle is not among the attacks: it knows what nobody can know.
    """
    curve = next((curve for curve in curves if curve["unit"] == "relative"), curves[0] if curves else None)
    attacked = [] if curve is None else _values(curve, ("attack", "worst_of"))
    epsilons = sorted({epsilon for epsilon, _, _ in attacked})
    if curve is None or not epsilons:
        return "No attack was measured, so nothing can be said about robustness.", []
    middle = epsilons[(len(epsilons) - 1) // 2]
    worst, attack = min((value, name) for epsilon, value, name in attacked if epsilon == middle)
    certified = [(value, name) for epsilon, value, name in _values(curve, ("certified",)) if epsilon == middle]
    metric, clean = _metric(curve["metric"], curve["k"]), curve["clean"]
    at = f"{'an' if curve['unit'] == 'absolute' else 'a'} {curve['unit']} epsilon of {middle:g}"
    lost = charts.change(clean, worst)
    sentence = (
        f"At {at}, the strongest attack ({attack}) takes {metric} from {charts.number(clean)} "
        f"to {charts.number(worst)} ({lost}); "
    )
    tiles = [
        (f"Clean {metric}", charts.number(clean), "nothing perturbed", ""),
        (f"Attacked {metric}", charts.number(worst), f"{attack}, {curve['unit']} epsilon {middle:g}, {lost}", ""),
    ]
    if not certified:
        return sentence + "nothing was certified at this epsilon.", tiles
    bound, name = min(certified)
    tiles.append((f"Certified {metric}", charts.number(bound), f"{name}, {charts.change(clean, bound)}", ""))
    guarantee = (
        f"against every perturbation that the certificate covers ({name}), {charts.number(bound)} is guaranteed."
    )
    return sentence + guarantee, tiles


def _values(curve: Mapping[str, Any], kinds: Sequence[str]) -> list[tuple[float, float, str]]:
    """(epsilon, value, name) of what is known of the series of some kinds, at epsilons above 0."""
    return [
        (epsilon, value, series["name"])
        for series in curve["series"]
        if series["kind"] in kinds
        for epsilon, value in zip(series["epsilons"], series["values"], strict=True)
        if epsilon > 0 and value is not None
    ]


# The sections, in the order of the page.


def _section(name: str, section: _Section, report: Mapping[str, Any]) -> ET.Element:
    """A section with its heading, a paragraph on how to read it, and what it shows, or a line that there is nothing."""
    body = section.body(report)
    how = [_element("p", {"class": "how"}, section.how)] if section.how and body else []
    shown = body or [_element("p", {"class": "empty"}, section.empty)]
    title = f"{name}-heading"
    return _element(
        "section",
        {"id": name, "aria-labelledby": title},
        _element("h2", {"id": title}, section.heading),
        *how,
        *shown,
    )


def _curves(report: Mapping[str, Any]) -> list[ET.Element]:
    """The charts side by side, with their numbers folded away below."""
    styles = charts.styles(report["curves"])
    figures = [_curve(curve, styles) for curve in report["curves"]]
    return [_element("div", {"class": "pair"}, *figures)] if figures else []


def _curve(curve: Mapping[str, Any], styles: Mapping[str, Style]) -> ET.Element:
    """A chart of one metric over one unit of epsilon."""
    metric = _metric(curve["metric"], curve["k"])
    caption = f"{metric} against {curve['unit']} epsilon"
    rows = [
        (series["name"], epsilon, value, (low, high))
        for series in curve["series"]
        for epsilon, value, low, high in charts.points_of(series)
    ]
    columns: Table = {"series": _text, "epsilon": _plain, metric: charts.number, "95 % interval": _interval}
    return _element(
        "figure",
        {},
        _element("figcaption", {}, caption, _element("small", {}, f" (clean {charts.number(curve['clean'])})")),
        charts.lines(curve, styles, x_title=EPSILONS[curve["unit"]], y_title=metric),
        _folded("The numbers of this chart", _table(caption, columns, rows)),
    )


def _threat(report: Mapping[str, Any]) -> list[ET.Element]:
    return [_element("p", {}, report["threat"])] if report["threat"] else []


def _flags(report: Mapping[str, Any]) -> list[ET.Element]:
    """The checks, those that tripped first."""
    flags = sorted(report["flags"], key=lambda flag: not flag["tripped"])
    if not flags:
        return []
    rows = [(flag["name"], flag["tripped"], flag["evidence"]) for flag in flags]
    return [_table("Checks of the measurement", {"check": _text, "result": _result, "evidence": _text}, rows)]


def _result(tripped: bool) -> ET.Element:
    kind, word = ("warn", "⚠ tripped") if tripped else ("good", "✓ passed")
    return _element("span", {"class": kind}, word)


def _clean(report: Mapping[str, Any]) -> list[ET.Element]:
    columns: Table = {"metric": _text, "value": charts.number, "95 % interval": _interval}
    rows = [(_metric(entry["metric"], entry["k"]), entry["value"], entry["interval"]) for entry in report["clean"]]
    return [_table("Scores with nothing perturbed", columns, rows)] if rows else []


def _shifts(report: Mapping[str, Any]) -> list[ET.Element]:
    """A table for each unit."""
    columns: Table = {
        "attack": _text,
        "epsilon": _plain,
        "prediction shift": lambda value: charts.number(value, "+.3f"),
        "rank shift": lambda value: charts.number(value, "+,.1f"),
        "attack success": lambda value: charts.number(value, ".3f"),
        "Jaccard": lambda value: charts.number(value, ".3f"),
        "RBO": lambda value: charts.number(value, ".3f"),
    }
    fields = ("attack", "epsilon", "prediction_shift", "rank_shift", "attack_success", "jaccard", "rbo")
    units = dict.fromkeys(entry["unit"] for entry in report["shifts"])
    return [
        _table(
            f"What moved, by attack and {unit} epsilon",
            columns,
            [[entry[field] for field in fields] for entry in report["shifts"] if entry["unit"] == unit],
        )
        for unit in units
    ]


def _groups(report: Mapping[str, Any]) -> list[ET.Element]:
    """A chart for each grouping and attack, side by side."""
    columns: Table = {
        "group": _text,
        "users": _plain,
        "clean": charts.number,
        "attacked": charts.number,
        "95 % interval": _interval,
        "change": _text,
    }
    figures = []
    for entry in report["groups"]:
        metric = _metric(entry["metric"])
        caption = f"By {_words(entry['by'])}: {entry['attack']}, {entry['unit']} epsilon {_plain(entry['epsilon'])}"
        rows = [
            (
                group["name"],
                group["users"],
                group["clean"],
                group["attacked"],
                (group["low"], group["high"]),
                charts.change(group["clean"], group["attacked"]),
            )
            for group in entry["groups"]
        ]
        figures.append(
            _element(
                "figure",
                {},
                _element("figcaption", {}, caption),
                charts.dumbbells(entry["groups"], x_title=metric),
                _folded("The numbers of this chart", _table(f"{metric}. {caption}", columns, rows)),
            )
        )
    return [_element("div", {"class": "pair"}, *figures)] if figures else []


def _radii(report: Mapping[str, Any]) -> list[ET.Element]:
    """Four tables: least and most robust, users and items."""
    radius = lambda value: charts.number(value, "#.3g")
    users: Table = {"user": _text, "interactions": _plain, "held-out item": _text, "radius": radius, "unit": _text}
    items: Table = {"item": _text, "interactions": _plain, "radius": radius, "unit": _text}
    tables = []
    for key in RADII:
        columns, fields = (
            (users, ("user", "activity", "item", "radius", "unit"))
            if key.endswith("users")
            else (items, ("item", "popularity", "radius", "unit"))
        )
        rows = [[entry[field] for field in fields] for entry in report[key]]
        if rows:
            tables.append(_table(_words(key).capitalize(), columns, rows))
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
    caption = f"User {entry['user']}: {entry['attack']}, {entry['unit']} epsilon {_plain(entry['epsilon'])}"
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
        parts += [_element("dt", {}, _words(name)), _element("dd", {}, shown)]
    return [_element("dl", {"class": "about"}, *parts)] if parts else []


# Tables and words.


def _table(caption: str, columns: Table, rows: Sequence[Sequence[Any]]) -> ET.Element:
    """A table that scrolls in its own box where it is wide; columns of numbers stand to the right."""
    kinds = {name: {} if show in (_text, _result) else {"class": "number"} for name, show in columns.items()}
    heads = [_element("th", {"scope": "col"} | kinds[name], name) for name in columns]
    body = []
    for row in rows:
        cells = [
            _element("td", kinds[name], show(cell)) for (name, show), cell in zip(columns.items(), row, strict=True)
        ]
        cells[0].tag = "th"
        cells[0].set("scope", "row")
        body.append(_element("tr", {}, *cells))
    table = _element(
        "table",
        {},
        _element("caption", {}, caption),
        _element("thead", {}, _element("tr", {}, *heads)),
        _element("tbody", {}, *body),
    )
    return _element("div", {"class": "scroll", "role": "region", "aria-label": caption, "tabindex": 0}, table)


def _folded(summary: str, *children: ET.Element) -> ET.Element:
    return _element("details", {}, _element("summary", {}, summary), *children)


def _text(value: str) -> ET.Element:
    return _element("bdi", {}, str(value))


def _plain(value: float | None) -> str:
    """An epsilon or a count: no more digits than it has."""
    return charts.number(value, "," if isinstance(value, int) else ",g")


def _interval(value: Sequence[float | None] | None) -> str:
    return charts.interval(*(value or (None, None))) or charts.number(None)


def _metric(name: str, k: int | None = None) -> str:
    """`ndcg@10`, or `ndcg` and 10, as NDCG@10."""
    name, at, cutoff = name.partition("@")
    cutoff = cutoff if at or k is None else str(k)
    return METRICS.get(name, _words(name)) + (f"@{cutoff}" if cutoff else "")


def _words(name: str) -> str:
    return name.replace("_", " ")


SECTIONS = {
    "curves": _Section(
        "Curves",
        "Each line starts at the clean value; further right the adversary may move every row further. Certified: a "
        "floor that no attack within the certificate's threat model can pass. Held-out oracle: the adversary knows "
        "the items that are tested. Worst-of: the strongest of the attacks tried. Noise of the same size is the "
        "control. What lies between certificate and attacks is not known. Shades are 95 % intervals; point at a mark "
        "for its numbers. Relative epsilons compare models, absolute ones compare papers.",
        "No curve was measured.",
        _curves,
    ),
    "threat": _Section("Threat model", "", "No threat model was stated.", _threat),
    "flags": _Section(
        "Can it be trusted?",
        "A model can look robust because the attack failed: gradients that vanish, outputs that are random, too "
        "few steps. Each check looks for one such sign. One that tripped does not say that the model is weak; it "
        "says that the numbers above may flatter it, and why.",
        "No check was made, so nothing vouches for these numbers.",
        _flags,
    ),
    "clean": _Section(
        "Clean scores",
        "How the model ranks held-out items with nothing perturbed. Robustness that was bought with these is no "
        "gain, and a model that ranks badly has little to lose.",
        "No clean score was measured.",
        _clean,
    ),
    "shifts": _Section(
        "What moved",
        "Means over users. Prediction shift: by how much the held-out item's score rose, in standard deviations "
        "of the scores before. Rank shift: by how many places that item fell. Attack success: among users who had "
        "it in their list, the share who lost it. Jaccard and RBO (rank-biased overlap): how alike the lists "
        "before and after are, 1 for equal, 0 for nothing in common; RBO weighs the top more.",
        "No shift was measured.",
        _shifts,
    ),
    "groups": _Section(
        "Who pays?",
        "Hollow marks are clean, full ones attacked, with the 95 % interval of the attacked value; the figure "
        "between them is the change. If the percentages differ much between the groups, an average over all users "
        "hides who bears the attack.",
        "No groups were measured.",
        _groups,
    ),
    "radii": _Section(
        "Least and most robust",
        "The radius is the smallest epsilon at which a perturbation could change the outcome that is certified "
        "for this user or item: near 0 anything does, and below it nothing can. A dash means that nothing was "
        "certified.",
        "No radius was computed.",
        _radii,
    ),
    "changed-lists": _Section(
        "Changed lists",
        "Recommendations of single users before and under an attack. Struck out with a minus: left the list; bold "
        "with a plus: entered it; “was” tells the place that an item had before.",
        "No changed list was kept.",
        _changed_lists,
    ),
    "notes": _Section("Notes", "", "Nothing to add.", _notes),
    "about": _Section(
        "How it was measured",
        "What one needs to measure the same again. Numbers of two reports may be compared when protocol and "
        "fingerprint are the same.",
        "Nothing was recorded.",
        _about,
    ),
}
