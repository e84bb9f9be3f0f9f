import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fl.audit.membership.inference import inference
from lightning_fl.audit.membership.model_inference import ModelInference
from lightning_fl.results.report.audit_section import model_name
from lightning_fl.results.report.rendering import render
from lightning_fl.results.report.report import write_report
from tests.lightning_fl.results.page_text import text_of


def record(site: str, members: int, others: int, *, detected: bool) -> dict[str, Any]:
    inside = [float(n + others if detected else n) for n in range(members)]
    outcome = inference(inside, [float(n) for n in range(others)], resamples=50)
    kind = "personal" if site else "global"
    return ModelInference(kind, site, "loss threshold", outcome).record()


GLOBAL = record("", 120, 110, detected=False)
LOUD = record("A", 9, 8, detected=True)


def section(*attacks: dict[str, Any]) -> str:
    named = [attack | {"name": model_name(attack)} for attack in attacks]
    return render("membership_inference.html", audit={"membership": named})


def test_the_headline_names_the_models_that_give_patients_away() -> None:
    loud = "1 of 2 models give away whom they were trained on: personal model of A. "
    assert loud in text_of(section(GLOBAL, LOUD))
    assert "Of 1 models none was seen to give away" in text_of(section(GLOBAL))


def test_the_table_has_intervals_and_one_per_cent_only_with_enough_patients() -> None:
    html = section(GLOBAL, LOUD)
    assert html.count("<tr>") == 3
    assert "120 and 110" in html
    assert "1.00 (1.00 to 1.00)" in html
    assert "Gives training patients away." in html
    assert html.count("<td>–</td>") == 1  # noqa: RUF001  an en dash
    assert "<th>found at 1 %</th>" in html
    assert "<th>found at 1 %</th>" not in section(LOUD)


def test_few_patients_are_warned_of() -> None:
    assert "patients of one kind" not in section(GLOBAL)
    text = text_of(section(GLOBAL, LOUD))
    assert "only 8 patients of one kind" in text
    assert "reaches up to 0.78" in text


def test_the_report_has_a_section_of_it(make_run: Callable[..., Path]) -> None:
    run = make_run()
    content = {"settings": {}, "views": [], "distinguishing": [], "membership": [GLOBAL, LOUD]}
    (run / "audit.json").write_text(json.dumps(content))
    html = write_report(run).read_text()
    assert "<h2>Membership inference</h2>" in html
    assert "Privacy audit" not in html
