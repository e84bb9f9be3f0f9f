"""The pages name files, tests, modules and classes that exist."""

import pkgutil
import re
from pathlib import Path

import pytest

from tests.folders import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = "tests|configs|docs|benchmarks|examples|study|lightning_fl|datamodules|models|callbacks"
PATH = re.compile(rf"(?<![\w/.<>-])(?:{ROOMS})/[\w./-]*\w")
DOTTED = re.compile(rf"(?<![\w/.-])(?:{ROOMS})(?:\.\w+)+\b(?!/)")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
TEST_FILE = re.compile(r"(?:[\w/]+/)?test_\w+\.py")
TEST = re.compile(r"\btest_\w+\b(?!\.py)")
FILES = (".md", ".py", ".yaml", ".json", ".csv", ".safetensors")
NOT_IN_THE_REPOSITORY = {"models/global.safetensors"}
"""Files of a run."""
NO_TESTS = {"test_candidates", "test_step"}
"""A setting and a hook of Lightning whose names look like a test's."""


def exists(name: str) -> bool:
    """Say whether a dotted name is a module, or an attribute of one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.fixture(scope="module")
def code_files() -> list[Path]:
    return list((ROOT / "tests").rglob("test_*.py"))


@pytest.fixture(scope="module")
def functions(code_files: list[Path]) -> set[str]:
    """Functions and modules."""
    code = "\n".join(file.read_text() for file in code_files)
    return {*re.findall(r"^def (test_\w+)", code, re.M), *(file.stem for file in code_files)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_exists(page: Path, code_files: list[Path], functions: set[str]) -> None:
    text = page.read_text()
    paths = set(PATH.findall(text)) - NOT_IN_THE_REPOSITORY
    dotted = {name for name in DOTTED.findall(text) if not name.endswith(FILES)}
    named_files = set(TEST_FILE.findall(text))
    missing = [
        *(path for path in paths if not (ROOT / path).exists()),
        *(link for link in LINK.findall(text) if not (page.parent / link).exists()),
        *(name for name in dotted if not exists(name)),
        *(n for n in named_files if not any(str(f).endswith(f"/{n}") for f in code_files)),
        *(set(TEST.findall(text)) - functions - NO_TESTS),
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_test_is_named_with_the_file_that_it_is_in(page: Path, code_files: list[Path]) -> None:
    for name, test in re.findall(r"((?:[\w/]+/)?test_\w+\.py)::(test_\w+)", page.read_text()):
        [file] = [file for file in code_files if str(file).endswith(f"/{name}")]
        assert f"def {test}(" in file.read_text()
