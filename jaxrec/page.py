"""The robustness report as one HTML file that a person opens from disk: no network, no script, no font of its own.

`render` takes what `results.json` of a report holds. Pages are trees of elements, written out by the standard library,
so that text from users' files is escaped and elements nest by construction; a policy in the page's head forbids it to
load or run anything all the same.
"""

import importlib.resources
import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrec import markup, sections

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
KEYS = (
    "title",
    "about",
    "threat",
    "clean",
    "curves",
    "shifts",
    "groups",
    *sections.RADII,
    "changed_lists",
    "flags",
    "notes",
)

_element = markup.element


def render(report: Mapping[str, Any]) -> str:
    """Writes the page of a report.

    Args:
        report: JSON values alone: `title`, `about` {name: value}, `threat`, and the lists `clean`, `curves`, `shifts`,
            `groups`, `least_robust_users`, `most_robust_users`, `least_robust_items`, `most_robust_items`,
            `changed_lists`, `flags`, `notes`. The fields of their entries are those that `sections` reads. A list may
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
            _element("main", {}, *(_section(name, section, known) for name, section in sections.SECTIONS.items())),
        ),
    )
    ET.indent(page, space="")
    return "<!doctype html>\n" + ET.tostring(page, encoding="unicode", method="html") + "\n"


def _head(report: Mapping[str, Any]) -> ET.Element:
    """Title, answer in a sentence, the same in figures, and where to find the rest."""
    links = [_element("a", {"href": f"#{name}"}, section.heading) for name, section in sections.SECTIONS.items()]
    sentence, tiles = _answer(report["curves"])
    made = [flag["tripped"] for flag in report["flags"] if flag["tripped"] is not None]
    tripped = sum(made)
    tiles.append(
        (
            "Checks that tripped",
            f"{tripped} of {len(made)}",
            "read the numbers with care" if tripped else "none speaks against the numbers" if made else "",
            "warn" if tripped else "good" if made else "",
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
    middle = epsilons[len(epsilons) // 2]  # that of `audit.middle`
    worst, attack = min((value, name) for epsilon, value, name in attacked if epsilon == middle)
    certified = [(value, name) for epsilon, value, name in _values(curve, ("certified",)) if epsilon == middle]
    metric, clean = markup.metric_name(curve["metric"], curve["k"]), curve["clean"]
    at = f"{'an' if curve['unit'] == 'absolute' else 'a'} {curve['unit']} epsilon of {middle:g}"
    lost = markup.change(clean, worst)
    sentence = (
        f"At {at}, the strongest attack ({attack}) takes {metric} from {markup.number(clean)} "
        f"to {markup.number(worst)} ({lost}); "
    )
    tiles = [
        (f"Clean {metric}", markup.number(clean), "nothing perturbed", ""),
        (f"Attacked {metric}", markup.number(worst), f"{attack}, {curve['unit']} epsilon {middle:g}, {lost}", ""),
    ]
    if not certified:
        return sentence + "nothing was certified at this epsilon.", tiles
    bound, name = min(certified)
    tiles.append((f"Certified {metric}", markup.number(bound), f"{name}, {markup.change(clean, bound)}", ""))
    guarantee = (
        f"against every perturbation that the certificate covers ({name}), {markup.number(bound)} is guaranteed."
    )
    half = [
        epsilon for epsilon, value, series in _values(curve, ("certified",)) if series == name and value >= clean / 2
    ]
    if half and max(half) < middle:
        guarantee += f" Half of the clean value is guaranteed up to {max(half):g}."
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


def _section(name: str, section: sections.Section, report: Mapping[str, Any]) -> ET.Element:
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
