import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fl.audit.membership.inference import inference
from lightning_fl.audit.membership.model_inference import ModelInference
from lightning_fl.results.report.membership import headline, membership_table, small_numbers
from lightning_fl.results.report.report import write_report


def record(site: str, members: int, others: int, *, told: bool) -> dict[str, Any]:
    inside = [float(n + others if told else n) for n in range(members)]
    found = inference(inside, [float(n) for n in range(others)], resamples=50)
    kind = "personal" if site else "global"
    return ModelInference(kind, site, "loss threshold", found).record()


GLOBAL = record("", 120, 110, told=False)
LOUD = record("A", 9, 8, told=True)


def test_the_headline_names_the_models_that_give_patients_away() -> None:
    assert headline([GLOBAL, LOUD]).startswith(
        "1 of 2 models give away whom they were trained on: personal model of A. "
    )
    assert headline([GLOBAL]).startswith("Of 1 models none was seen to give away")


def test_the_table_has_intervals_and_one_per_cent_only_with_enough_patients() -> None:
    html = membership_table([GLOBAL, LOUD])
    assert html.count("<tr>") == 3
    assert "120 and 110" in html
    assert "1.00 (1.00 to 1.00)" in html
    assert "Gives training patients away." in html
    assert html.count("<td>–</td>") == 1  # noqa: RUF001  an en dash
    assert "<th>found at 1 %</th>" in html
    assert "<th>found at 1 %</th>" not in membership_table([LOUD])


def test_few_patients_are_warned_of() -> None:
    assert small_numbers([GLOBAL]) == ""
    said = small_numbers([GLOBAL, LOUD])
    assert "only 8 patients of one kind" in said
    assert "up to 0.78" in said


def test_the_report_has_a_section_of_it(make_run: Callable[..., Path]) -> None:
    run = make_run()
    content = {"settings": {}, "views": [], "distinguishing": [], "membership": [GLOBAL, LOUD]}
    (run / "audit.json").write_text(json.dumps(content))
    html = write_report(run).read_text()
    assert "<h2>Membership inference</h2>" in html
    assert "Privacy audit" not in html


def test_an_audit_of_an_older_version_has_no_such_section(make_run: Callable[..., Path]) -> None:
    run = make_run()
    content: dict[str, Any] = {"settings": {}, "views": [], "distinguishing": []}
    (run / "audit.json").write_text(json.dumps(content))
    assert "Membership inference" not in write_report(run).read_text()
