"""Imports point one way: what experiments are made of stands on the rest, and nothing stands on it."""

import ast
import pathlib

import jaxrec

ROOT = pathlib.Path(jaxrec.__file__).parent


def test_nothing_but_studies_imports_studies():
    found = {
        file.relative_to(ROOT).as_posix()
        for file in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxrec.studies")
    }
    assert found, "studies import each other"
    assert {name.split("/")[0] for name in found} == {"studies"}


def test_one_module_alone_chooses_how_matplotlib_draws():
    """Another that imported it before would draw on whatever screen there is, or fail where there is none."""
    found = {
        file.relative_to(ROOT).as_posix() for file in ROOT.rglob("*.py") if "import matplotlib" in file.read_text()
    }
    assert found == {"pictures/canvas.py"}
