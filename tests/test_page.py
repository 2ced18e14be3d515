"""Laws of the report's page: it is whole, safe to open, complete, and a browser shows it without a complaint."""

import copy
import html
import html.parser
import itertools
import json
import math
import pathlib
import re
import shutil
import subprocess
import tomllib

import pytest

from jaxrec import audit, page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"br", "hr", "img", "input", "link", "meta"}
FRAMES = """<!doctype html>
<meta charset="utf-8"><meta name="color-scheme" content="{scheme}"><title></title>
<style>iframe {{ border: 0 }}</style>
<script>
  const measure = frame => [frame.innerWidth, frame.document.documentElement.scrollWidth,
                            frame.getComputedStyle(frame.document.body).backgroundColor];
  onload = () => {{ document.title = JSON.stringify(Array.from(frames, measure)); }};
</script>
{frames}
"""
PHRASES = {"p", "h1", "h2", "h3", "h4", "dt", "span", "bdi", "small", "caption", "summary", "title", "a", "code"}
BLOCKS = {"p", "div", "table", "section", "figure", "ul", "ol", "dl", "h1", "h2", "h3", "h4", "details", "header"}
CHILDREN = {
    "html": {"head", "body"},
    "ol": {"li"},
    "ul": {"li"},
    "dl": {"div", "dt", "dd"},
    "table": {"caption", "thead", "tbody"},
    "thead": {"tr"},
    "tbody": {"tr"},
    "tr": {"th", "td"},
}


def curve(unit="relative", metric="ndcg", scale=1.0):
    def series(name, kind, values, ends=True):
        return {
            "name": name,
            "kind": kind,
            "epsilons": [0.1, 0.2, 0.4],
            "values": [scale * value for value in values],
            "low": [scale * value * 0.9 for value in values] if ends else None,
            "high": [scale * value * 1.1 for value in values] if ends else None,
        }

    return {
        "unit": unit,
        "metric": metric,
        "k": 10,
        "clean": 0.0447 * scale,
        "series": [
            series("noise", "noise", [0.0441, 0.0418, 0.0356]),
            series("FGSM", "attack", [0.0382, 0.029, 0.009]),
            series("PGD-10", "attack", [0.0375, 0.0278, 0.0078]),
            series("worst-of", "worst_of", [0.0371, 0.0271, 0.007]),
            series("held-out oracle", "held_out", [0.02, 0.006, 0.0001]),
            series("certified", "certified", [0.019, 0.0055, 0.0], ends=False),
        ],
    }


REPORT = {
    "title": "Is BPR-MF robust?",
    "about": {"protocol": "leave-one-out", "fingerprint": "3fa9" * 16, "command": "python -m report --run runs/a"},
    "threat": "The adversary moves every row of both tables, which no real user can.",
    "clean": [
        {"metric": "ndcg", "k": 10, "value": 0.0447, "interval": [0.0407, 0.0488]},
        {"metric": "auc", "k": None, "value": 0.9, "interval": [None, None]},
    ],
    "curves": [curve("absolute"), curve(), curve(metric="hit_rate", scale=2)],
    "shifts": [
        {
            "attack": "PGD-10",
            "unit": "relative",
            "epsilon": 0.2,
            "prediction_shift": -0.31,
            "rank_shift": 1234.5,
            "attack_success": 0.456,
            "jaccard": 0.123,
            "rbo": 0.234,
        }
    ],
    "groups": [
        {
            "by": "popularity",
            "attack": "PGD-10",
            "unit": "relative",
            "epsilon": 0.2,
            "metric": "ndcg@10",
            "groups": [
                {"name": "head", "users": 4800, "clean": 0.056, "attacked": 0.042, "low": 0.04, "high": 0.044},
                {"name": "tail", "users": 1240, "clean": 0.01, "attacked": 0.001, "low": -0.001, "high": 0.003},
            ],
        }
    ],
    "least_robust_users": [
        {"user": "17", "activity": 1234, "item": "Fargo (1996)", "radius": 1.3e-5, "unit": "relative"}
    ],
    "most_robust_users": [{"user": "41", "activity": 20, "item": "Alien (1979)", "radius": 0.3, "unit": "relative"}],
    "least_robust_items": [{"item": "Heat (1995)", "popularity": 3, "radius": 0.00026, "unit": "relative"}],
    "most_robust_items": [{"item": "Brazil (1985)", "popularity": 777, "radius": None, "unit": "relative"}],
    "changed_lists": [
        {
            "user": "17",
            "attack": "PGD-10",
            "unit": "relative",
            "epsilon": 0.2,
            "before": ["Fargo (1996)", "Alien (1979)", "Heat (1995)"],
            "after": ["Alien (1979)", "Fargo (1996)", "Brazil (1985)"],
        }
    ],
    "flags": [
        {"name": "zero gradients", "tripped": False, "evidence": "0.1 % of rows"},
        {"name": "noise like an attack", "tripped": True, "evidence": "noise 1.2 %, FGSM 1.4 %"},
    ],
    "notes": ["One seed: intervals are over users."],
}
EMPTY = {key: type(value)() for key, value in REPORT.items()}


class Reader(html.parser.HTMLParser):
    """Reads a page, checks on the way how its elements nest, and keeps its elements, texts and tables."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self.tables = [], [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        parent = self.open[-1] if self.open else None
        assert tag in CHILDREN.get(parent, {tag}), f"<{tag}> in <{parent}>"
        assert not (tag in BLOCKS and PHRASES & set(self.open)), f"<{tag}> in {self.open}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "caption":
            self.rows = self.tables.setdefault(len(self.tables), [])
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and "style" not in self.open:
            self.texts.append(data)
            if {"th", "td"} & set(self.open):
                self.rows[-1][-1] += data.strip()
            elif "caption" in self.open:
                self.tables[data] = self.tables.pop(len(self.tables) - 1)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def read():
    return Reader(page.render(REPORT))


def minus(text):
    return text.replace("-", "\N{MINUS SIGN}")


# A page that is whole.


@pytest.mark.parametrize("report", [REPORT, EMPTY], ids=["full", "empty"])
def test_elements_are_closed_and_stand_where_html_allows_them(report):
    text = page.render(report)
    assert text.startswith('<!doctype html>\n<html lang="en">')
    read = Reader(text)
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"][1:] for attributes in read.of("a")} <= set(ids)
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_pictures_and_tables_have_names(read):
    assert len(read.of("svg")) == 4
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in read.of("svg"))
    assert len(read.of("caption")) == len(read.of("table")) == 11


def test_a_page_is_the_same_when_it_is_made_again():
    assert page.render(REPORT) == page.render(copy.deepcopy(REPORT))


def test_the_style_sheet_is_shipped():
    project = tomllib.loads((pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert "page.css" in project["tool"]["setuptools"]["package-data"]["jaxrec"]


# A page that is safe to open.


def strings(value, path=()):
    """The paths of all texts of a report that a user's file may have had a hand in."""
    if isinstance(value, dict):
        return [found for key, part in value.items() for found in strings(part, (*path, key))]
    if isinstance(value, list):
        return [found for place, part in enumerate(value) for found in strings(part, (*path, place))]
    return [path] if isinstance(value, str) and path[-1] not in ("unit", "kind") else []


@pytest.mark.parametrize(
    "hostile",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style></svg><b onclick='x'>&lt;", "]]>--><a>"],
)
def test_text_is_text_wherever_it_stands(hostile):
    before = Reader(page.render(REPORT))
    report = copy.deepcopy(REPORT)
    for place, path in enumerate(strings(report)):
        target = report
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = f"{place}{hostile}"
    report["about"] = {f"0{hostile}": f"1{hostile}", **report["about"]}
    after = Reader(page.render(report))
    assert {tag for tag, _ in after.elements} <= {tag for tag, _ in before.elements}
    assert not any(name.startswith("on") for _, attributes in after.elements for name in attributes)
    shown = after.text
    assert all(f"{place}{hostile}" in shown for place, _ in enumerate(strings(REPORT)))


def test_a_page_loads_and_runs_nothing(read):
    text = page.render(REPORT)
    assert not re.search(r"https?:|//|url\(|@import|<script|<link|<iframe|<img|\bsrc=|xlink", text)
    assert all(attributes["href"].startswith("#") for attributes in read.of("a"))
    policies = [attributes["content"] for attributes in read.of("meta") if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


# A page that is complete.


def test_tables_hold_every_value(read):
    assert read.tables["Scores with nothing perturbed"] == [
        ["metric", "value", "95 % interval"],
        ["NDCG@10", "0.0447", "[0.0407, 0.0488]"],
        ["auc", "0.9000", "–"],  # noqa: RUF001
    ]
    assert read.tables["What moved, by attack and relative epsilon"][1:] == [
        ["PGD-10", "0.2", minus("-0.310"), "+1,234.5", "0.456", "0.123", "0.234"]
    ]
    assert read.tables["NDCG@10. By popularity: PGD-10, relative epsilon 0.2"][1:] == [
        ["head", "4,800", "0.0560", "0.0420", "[0.0400, 0.0440]", minus("-25%")],
        ["tail", "1,240", "0.0100", "0.0010", minus("[-0.0010, 0.0030]"), minus("-90%")],
    ]
    assert read.tables["Least robust users"][1:] == [["17", "1,234", "Fargo (1996)", minus("1.30e-05"), "relative"]]
    assert read.tables["Most robust users"][1:] == [["41", "20", "Alien (1979)", "0.300", "relative"]]
    assert read.tables["Least robust items"][1:] == [["Heat (1995)", "3", "0.000260", "relative"]]
    assert read.tables["Most robust items"][1:] == [["Brazil (1985)", "777", "–", "relative"]]  # noqa: RUF001
    assert read.tables["Checks of the measurement"][1:] == [
        ["noise like an attack", "⚠ tripped", "noise 1.2 %, FGSM 1.4 %"],
        ["zero gradients", "✓ passed", "0.1 % of rows"],
    ]
    for text in (REPORT["threat"], *REPORT["notes"], *REPORT["about"], *REPORT["about"].values()):
        assert text in read.text


@pytest.mark.parametrize("place", range(3))
def test_the_numbers_of_a_chart_stand_below_it(read, place):
    drawn = REPORT["curves"][place]
    name = {"ndcg": "NDCG@10", "hit_rate": "HR@10"}[drawn["metric"]]
    rows = read.tables[f"{name} against {drawn['unit']} epsilon"][1:]
    expected = []
    for series in drawn["series"]:
        for point, (epsilon, value) in enumerate(zip(series["epsilons"], series["values"], strict=True)):
            ends = f"[{series['low'][point]:.4f}, {series['high'][point]:.4f}]" if series["low"] else "–"  # noqa: RUF001
            expected.append([series["name"], str(epsilon), f"{value:.4f}", ends])
    assert rows == expected


def test_the_answer_is_of_the_middle_relative_epsilon(read):
    assert (
        "At a relative epsilon of 0.2, the strongest attack (worst-of) takes NDCG@10 from 0.0447 to 0.0271 "
        + minus("(-39%)")
        + "; against every perturbation that the certificate covers (certified), 0.0055 is guaranteed."
    ) in read.text
    assert "1 of 2" in read.text


def test_the_answer_says_what_was_not_measured():
    def answer(series):
        return Reader(page.render(REPORT | {"curves": [curve("absolute") | {"series": series}]})).text

    all_series = curve()["series"]
    assert "nothing was certified" in answer(all_series[:4])
    assert "At an absolute epsilon of 0.2, the strongest attack (PGD-10)" in answer(all_series[:3])
    for series in ([], all_series[:1]):  # noise alone is no attack
        assert "No attack was measured" in answer(series)


def test_the_answer_says_how_far_half_of_the_clean_value_is_certain():
    drawn = curve()
    drawn["series"][-1] |= {"epsilons": [0.01, 0.02, 0.2], "values": [0.03, 0.0224, 0.0]}
    shown = lambda: Reader(page.render(REPORT | {"curves": [drawn]})).text
    assert "0.0000 is guaranteed. Half of the clean value is guaranteed up to 0.02." in shown()
    drawn["series"][-1]["values"][1] = 0.0223
    assert "Half of the clean value is guaranteed up to 0.01." in shown()


def test_the_answer_is_at_the_epsilon_of_the_details():
    drawn = curve()
    for series in drawn["series"]:
        series |= {name: [*series[name], 0.0] for name in ("values", "low", "high") if series[name]}
        series["epsilons"] = [0.05, 0.1, 0.2, 0.4]
    _, epsilon = audit.middle({"relative": [0.05, 0.1, 0.2, 0.4]})
    assert f"At a relative epsilon of {epsilon}, the" in Reader(page.render(REPORT | {"curves": [drawn]})).text


def test_a_check_that_could_not_be_made_neither_passed_nor_tripped():
    flags = [*REPORT["flags"], {"name": "transfer", "tripped": None, "evidence": "Not tested."}]
    read = Reader(page.render(REPORT | {"flags": flags}))
    assert "1 of 2" in read.text
    assert ["transfer", "not made", "Not tested."] in read.tables["Checks of the measurement"]
    read = Reader(page.render(REPORT | {"flags": flags[2:]}))
    assert "0 of 0" in read.text
    assert "none speaks against" not in read.text


def test_a_changed_list_shows_what_left_what_entered_and_what_moved():
    text = page.render(REPORT).replace("\n", "")
    assert re.findall(r"<del>(.*?)</del>", text) == [f"{minus('-')} <bdi>Heat (1995)</bdi>"]
    assert re.findall(r"<ins>(.*?)</ins>", text) == ["+ <bdi>Brazil (1985)</bdi>"]
    assert re.findall(r"<bdi>([^<]*)</bdi><small> was (\d)</small>", text) == [
        ("Alien (1979)", "2"),
        ("Fargo (1996)", "1"),
    ]
    assert "(1 left, 1 entered)" in text


def test_an_empty_part_says_so_in_a_line():
    read = Reader(page.render(EMPTY))
    assert len([1 for _, attributes in read.elements if attributes.get("class") == "empty"]) == len(read.of("section"))
    assert not read.of("table")
    assert not read.of("svg")
    assert "0 of 0" in read.text


def test_what_is_unknown_is_a_dash_and_nan_is_unknown():
    def without(value, unknown):
        if isinstance(value, dict):
            keep = ("epsilon", "epsilons", "users", "activity", "popularity", "k", "tripped")
            return {key: part if key in keep else without(part, unknown) for key, part in value.items()}
        if isinstance(value, list):
            return [without(part, unknown) for part in value]
        return unknown if isinstance(value, float) else value

    text = page.render(without(REPORT, None))
    assert text == page.render(without(REPORT, math.nan))
    assert not re.search(r"\bnan\b|\bNone\b|NaN", text)
    assert Reader(text).tables["What moved, by attack and relative epsilon"][1][2:] == ["–"] * 5  # noqa: RUF001


# Errors.


@pytest.mark.parametrize("key", REPORT)
def test_a_missing_key_is_named(key):
    with pytest.raises(ValueError, match=f"got none named {key}"):
        page.render({name: value for name, value in REPORT.items() if name != key})


def test_a_series_has_as_many_values_as_epsilons():
    report = copy.deepcopy(REPORT)
    report["curves"][0]["series"][0]["values"].pop()
    with pytest.raises(ValueError, match="shorter"):
        page.render(report)


# In a browser.


@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")
@pytest.mark.parametrize(("scheme", "background"), [("light", "rgb(253, 253, 252)"), ("dark", "rgb(20, 23, 26)")])
def test_a_browser_shows_it_in_both_schemes_and_widths(tmp_path, scheme, background):
    report = copy.deepcopy(REPORT)
    report["least_robust_items"][0]["item"] = report["title"] = "Unbreakable" * 20
    widths = (320, 390, 1280)
    frame = f'srcdoc="{html.escape(page.render(report))}"'
    frames = "".join(f'<iframe width="{width}" height="800" {frame}></iframe>' for width in widths)
    (tmp_path / "frames.html").write_text(FRAMES.format(scheme=scheme, frames=frames))
    done = subprocess.run(
        [
            BROWSER,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"),
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
            "--dump-dom",
            (tmp_path / "frames.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    measured = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    assert measured == [[width, width, background] for width in widths]
