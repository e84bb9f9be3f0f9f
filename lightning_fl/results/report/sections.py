"""The sections of the report, each from a RunFolder to HTML; "" where there is nothing to say."""

from collections.abc import Mapping, Sequence
from html import escape

from lightning_fl.results.formats import (
    LOWER_IS_BETTER,
    MISSING,
    bytes_text,
    gain_text,
    gain_unit,
    heading,
    in_unit,
    metric_name,
    score_text,
    seconds_text,
    unit,
)
from lightning_fl.results.report import page
from lightning_fl.results.report.page import Cell
from lightning_fl.results.report.plots import bars_svg, curves_svg
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.results.scores import ScoreRow, ScoreTable, metrics_of, score_table

DEFINITIONS = {
    "dice": "Dice is twice the area that prediction and truth share, divided by the sum of both"
    " areas, over all pixels of the site's split taken together; 100 % is a perfect match.",
    "iou": "IoU is the area that prediction and truth share, divided by the area of both together.",
    "precision": "Precision is the share of the predicted area that is right.",
    "recall": "Recall is the share of the true area that was found.",
    "accuracy": "Accuracy is the share of right answers.",
    "balanced_accuracy": "Balanced accuracy is the mean over classes of the share of their cases"
    " that is recognised.",
    "f1": "F1 is the harmonic mean of precision and sensitivity.",
    "sensitivity": "Sensitivity is the share of diseased cases, or of true lesion, that is found.",
    "specificity": "Specificity is the share of healthy cases that is recognised as such.",
    "ece": "Calibration error is how far confidence is from the share of right answers, on average;"
    " lower is better.",
    "hd95": "HD95 is the 95th percentile of the distances between the surfaces of prediction and"
    " truth; lower is better.",
    "volume_error": "Volume error is how far the predicted volume is from the true one; lower is"
    " better.",
    "auroc": "AUROC is the chance that a diseased case is scored above a healthy one.",
    "loss": "Loss is what training minimises; lower is better.",
}
MODEL_WORDS = {
    "global": "“global” is the shared model as it came out of the federation, with the layers that"
    " the method leaves at the site",
    "global_bn": "“global_bn” is the same with its BatchNorm statistics taken anew from the site's"
    " training images",
    "local": "“local” is the model that the site trained alone",
    "local_bn": "“local_bn” is the same with its BatchNorm statistics taken anew from the site's"
    " training images",
    "finetuned": "“finetuned” is the model after plain fine-tuning of all its weights, whatever"
    " validation says of it",
    "personal": "“personal” is the model that the site's validation data chose",
}


def header(run: RunFolder) -> str:
    """Say what was run: algorithm, network, aggregator, sites, date, folder."""
    choices = [run.chosen(key) for key in ("algorithm", "net", "aggregator")]
    title = " · ".join(choice for choice in choices if choice)
    count = f"{len(run.trained)} training sites"
    if run.results["unseen"]:
        count += f" and {len(run.results['unseen'])} unseen"
    state = "finished" if run.finished else f"NOT FINISHED, as of round {run.results['rounds']}"
    when = f"{count}, {state} on {run.written:%-d %B %Y at %H:%M}, run {run.path.resolve().name}"
    return f"<h1>{escape(title)}</h1>\n" + page.paragraph(when, "soft")


def headline(run: RunFolder) -> str:
    """The five numbers to remember."""
    split, word = ("test", "test") if run.finished else ("val", "validation")
    scores = score_table(run.results, run.metric, split)
    mean, worst = scores.summary
    name = f"{word} {metric_name(run.metric)}"
    best_round = run.results["best_round"]
    costs = run.results["costs"]
    gain = f", {gain_text(mean.gain, run.metric)}{gain_unit(run.metric)}" if scores.has_gain else ""
    before_after = f"{scores.before} → personal" if scores.has_gain else scores.before
    tiles = [
        page.tile(f"Mean {name}", _change(scores, mean), f"{before_after}{gain}"),
        page.tile(f"Worst site's {name}", _change(scores, worst), before_after),
        page.tile(
            "Rounds",
            str(run.results["rounds"]),
            "each site kept its best"
            if best_round is None
            else f"best on validation: {best_round}",
        ),
        page.tile("Moved", bytes_text(costs["bytes"]), "in and out of all sites"),
        page.tile("Site time", seconds_text(sum(costs["seconds"].values())), "all sites added up"),
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>'


def losses(run: RunFolder) -> str:
    """Say plainly which sites dropped out of which rounds."""
    dropped = run.results["dropped"]
    if not dropped:
        return ""
    items = "".join(f"<li>{escape(_loss(entry))}</li>" for entry in dropped)
    text = "Not every site took part in every round. The rounds below went on without these sites:"
    return f'<div class="warn">{page.paragraph(text)}<ul>{items}</ul></div>'


def scores(run: RunFolder) -> str:
    """Test scores of every site and model, as a diagram and as a table."""
    table = score_table(run.results, run.metric)
    if not table.models:
        return ""
    words = "; ".join(MODEL_WORDS[model] for model in table.models)
    definition = DEFINITIONS.get(run.metric, "")
    name = metric_name(run.metric)
    intro = f"Measured on each site's test split, which nothing was chosen on: {words}."
    rows = [_score_cells(table, row) for row in table.sites]
    totals = [_score_cells(table, row) for row in table.summary]
    worst = "highest" if run.metric in LOWER_IS_BETTER else "lowest"
    caption = (
        f"Test {name}{in_unit(run.metric)}; the best of each row in bold. Mean and worst are over"
        f" the training sites; worst is the {worst} value in each column, so it need not be the"
        " same site."
    )
    if table.has_gain:
        caption += f" Gain is personal minus {table.before}."
    return page.section(
        "Before and after personalisation" if table.has_gain else "Test scores",
        page.paragraph(intro),
        page.figure(bars_svg(table), f"Test {name} of each site, by model. {definition}"),
        page.table(
            ["site", *table.models, *(["gain"] if table.has_gain else [])], rows, caption, totals
        ),
        _other_metrics(run, table.models),
    )


def training(run: RunFolder) -> str:
    """Validation scores over the rounds."""
    curves = run.validation()
    if not curves:
        return ""
    best_round = run.results["best_round"]
    metric = run.deciding_metric
    name = metric_name(metric)
    caption = (
        f"Validation {name} of the model under training after each round, a thin line for each"
        " site, their mean in bold."
    )
    if best_round is not None:
        caption += (
            f" The dashed line marks round {best_round}, the best on this data; the final models"
            " start from it."
        )
    return page.section(
        "Training",
        page.figure(curves_svg(curves, metric=metric, best_round=best_round), caption),
    )


def reproduction(run: RunFolder) -> str:
    """The configuration, the aggregator and the versions: what it takes to run this again."""
    versions = run.results["versions"]
    aggregator = run.results["aggregator"]  # with what came of it, "rounds"
    settings = "\n".join(f"{key}: {value}" for key, value in aggregator.items() if key != "rounds")
    packages = "\n".join(f"{name} {version}" for name, version in versions.items())
    return page.section(
        "To run this again",
        page.paragraph(
            "The same configuration and versions give the same numbers on the same kind of machine,"
            " but for what rests on keys and masks, which are new in every run: the bytes of"
            " encrypted messages and, in an audit, the rows of views that are hidden."
        ),
        page.folded("config.yaml", run.config_text),
        page.folded("Aggregator", settings) if settings else "",
        page.folded("Versions", packages),
    )


def _other_metrics(run: RunFolder, models: Sequence[str]) -> str:
    """The means of the other test metrics."""
    others = metrics_of(run.results)[1:]
    if not others:
        return ""
    rows = []
    for metric in others:
        table = score_table(run.results, metric)
        mean = table.summary[0]
        values = [score_text(table.value(mean, model), metric) for model in models]
        rows.append([heading(metric), *values])
    words = " ".join(DEFINITIONS.get(metric, "") for metric in others)
    caption = f"The other test metrics, mean over the training sites. {words}"
    return page.table(["metric", *models], rows, caption)


def _score_cells(table: ScoreTable, row: ScoreRow) -> list[Cell]:
    """The cells of one row, the best score in bold."""
    best = score_text(table.best(row), table.metric)
    texts = [score_text(value, table.metric) for value in row.values]
    cells = [Cell(f"{row.name} (unseen)" if row.unseen else row.name)]
    cells += [Cell(text, text == best and text != MISSING) for text in texts]
    return [*cells, Cell(gain_text(row.gain, table.metric))] if table.has_gain else cells


def _change(table: ScoreTable, row: ScoreRow) -> str:
    """E.g. "57.8 → 71.3 %"."""
    models = [table.before, "personal"] if table.has_gain else [table.before]
    texts = [score_text(table.value(row, model), table.metric) for model in models]
    return " → ".join(texts) + unit(table.metric)


def _loss(entry: Mapping[str, object]) -> str:
    """E.g. "round 3, train: B: no answer in 60 s"."""
    site, reason = str(entry.get("site")), str(entry.get("reason"))
    where = f"round {entry.get('round')}"
    if entry.get("operation"):
        where += f", {entry['operation']}"
    return f"{where}: {reason}" if reason.startswith(f"{site}: ") else f"{where}: {site}: {reason}"
