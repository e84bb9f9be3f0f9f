"""A single class on the command line for a setting that is a list: `--callbacks Timer`."""

from collections.abc import Sequence

LISTS = ("--callbacks", "--loggers", "--personalisation.candidates")


def in_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line on which the settings of `LISTS` have lists as their values."""
    lists: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        if before in LISTS:
            lists.append(_in_text(argument))
        elif equals and option in LISTS:
            lists.append(f"{option}={_in_text(value)}")
        else:
            lists.append(argument)
    return lists


def _in_text(text: str) -> str:
    """Put a class into a list; leave a list, null and an option to the parser."""
    return text if text == "null" or text.startswith(("[", "--")) else f"[{text}]"
