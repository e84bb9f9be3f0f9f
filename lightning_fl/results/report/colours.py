"""Colours of the report, told apart by colour-blind readers too (Okabe and Ito's palette)."""

TRUTH = "#f0e442"
MODEL_COLOURS = {
    "global": "#56b4e9",
    "global_bn": "#0072b2",
    "local": "#009e73",
    "local_bn": "#00664a",
    "finetuned": "#e69f00",
    "personal": "#d55e00",
}
SITE_COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#9a8f00",
    "#7f7f7f",
)
