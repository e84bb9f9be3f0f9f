import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lightning_fl.results.report.report import write_report
from tests.waiting import PATIENCE

VOID = {"meta", "br", "img", "link"}


class Checker(HTMLParser):
    """Collects headings and refuses tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    return checker


def text_of(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def test_page_has_every_section(make_run: Callable[..., Path]) -> None:
    html = text_of(make_run(dropped=True, unseen=("Espoo",)))
    assert checked(html).headings == [
        "Before and after personalisation",
        "Training",
        "Test slices",
        "Choices of each site",
        "A new hospital",
        "Costs",
        "Secure aggregation",
        "To run this again",
    ]
    assert "<h1>PerFedAvg · Unet · CyclicCKKS</h1>" in html
    assert "round 3, train: Boston: no answer in 60 s" in html
    assert "Espoo (unseen)" in html
    assert html.count("data:image/png;base64,") == 5 * 4


def test_page_refers_to_nothing_outside(make_run: Callable[..., Path]) -> None:
    html = text_of(make_run())
    pictures = r"data:image/png;base64,[\w+/=]+"  # in which "http" may stand by chance
    assert "http" not in re.sub(pictures, "", html)
    assert "<script" not in html
    addresses = re.findall(r'(?:href|src)="([^"]*)"', html) + re.findall(r"url\(([^)]*)\)", html)
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)


def test_names_are_escaped(make_run: Callable[..., Path]) -> None:
    evil = "<script>alert(1)<"
    html = text_of(make_run(sites=(evil, "$B$ & co"), dropped=True))
    checked(html)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;" in html


def test_names_of_metrics_are_escaped(make_run: Callable[..., Path]) -> None:
    run = make_run(gallery=False)
    results = run / "results.json"
    results.write_text(results.read_text().replace('"dice"', '"<script>"'))
    html = text_of(run)
    checked(html)
    assert "<script" not in html
    assert "Test &lt;script&gt; of each site" in html


def test_config_is_escaped(make_run: Callable[..., Path]) -> None:
    run = make_run(gallery=False)
    (run / "config.yaml").write_text("net: </pre><script>\n")
    html = text_of(run)
    assert "<script" not in html
    assert "net: &lt;/pre&gt;&lt;script&gt;" in html


def test_page_without_pictures_has_no_gallery(make_run: Callable[..., Path]) -> None:
    assert "Test slices" not in checked(text_of(make_run(gallery=False))).headings


def test_local_training_is_compared_with_local(make_run: Callable[..., Path]) -> None:
    run = make_run(models=("local", "local_bn", "personal"), channels=3, classes=3)
    html = text_of(run)
    assert "local → personal" in html
    assert "truth and local prediction" in html
    assert "“global”" not in html


def test_run_in_the_clear_has_no_secure_section(make_run: Callable[..., Path]) -> None:
    html = text_of(make_run(aggregator="Plain", gallery=False))
    assert "Secure aggregation" not in checked(html).headings
    assert "aggregate" in html


def test_interrupted_run_says_so_and_shows_validation(make_run: Callable[..., Path]) -> None:
    html = text_of(make_run(finished=False, gallery=False))
    assert "NOT FINISHED, as of round 10" in html
    assert "Mean validation Dice" in html
    assert "Training" in checked(html).headings


def test_many_sites_get_a_gallery_of_some(make_run: Callable[..., Path]) -> None:
    run = make_run(sites=tuple(f"hospital {number:02d}" for number in range(64)), rounds=2)
    html = text_of(run)
    assert "These are 8 of 64 sites." in html
    assert html.count("<h3>") == 8
    assert len(html) < 2_000_000


def test_command_line_writes_the_page_again(make_run: Callable[..., Path]) -> None:
    run = make_run(gallery=False)
    command = [sys.executable, "-m", "lightning_fl.results.report.__main__", str(run)]
    subprocess.run(command, check=True, timeout=PATIENCE, env=dict(os.environ))
    first = (run / "report.html").read_bytes()
    assert write_report(run).read_bytes() == first


def test_folder_of_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is the folder of a run"):
        write_report(tmp_path)


def test_the_contents_list_leads_to_every_section(make_run: Callable[..., Path]) -> None:
    html = text_of(make_run(gallery=False))
    page = checked(html)
    links = re.findall(r'<li><a href="#(section-[\w-]+)">(.*?)</a></li>', html)
    assert [text for _, text in links] == page.headings
    assert [link for link, _ in links] == [i for i in page.ids if i.startswith("section-")]


def test_what_is_wide_moves_in_a_box_without_its_caption(make_run: Callable[..., Path]) -> None:
    html = text_of(make_run(unseen=("Espoo",)))
    tables = re.findall(
        r'(<figure><div class="scroll">)?<table(?:(?!</table>).)*</table>', html, re.S
    )
    assert len(tables) > 5
    assert all(tables)
    assert "<caption" not in html
    assert html.count('<div class="scroll"><svg') == 3
