"""Verdicts: which of two cells or frameworks is ahead, and the words for it, the same in all tables, texts and pages.

One is called better or faster only where the 95 % interval excludes equality. Sentences go through `_`, which is `ENGLISH`, or a `Language`
to translate them.
"""

from enum import StrEnum

import numpy as np

from alexbench.analysis.stats import CONFIDENCE, Interval

SIGNIFICANT = 1 - CONFIDENCE


class Verdict(StrEnum):
    """What is said of the first of two."""

    BETTER = "better"
    WORSE = "worse"
    FASTER = "faster"
    SLOWER = "slower"
    NO_DIFFERENCE = "no difference found"
    NO_INTERVAL = "no interval, no verdict"
    NOT_COMPARED = "not compared"


class English:
    """The part of `Language` that sentences need, for texts in English only."""

    def __call__(self, message: str, **values: object) -> str:
        return message % values

    def number(self, value: float, digits: int = 0, sign: bool = False) -> str:
        return f"{value:{'+' if sign else ''},.{digits}f}"


ENGLISH = English()


def of_accuracy(difference: Interval) -> Verdict:
    """The verdict on the accuracy of the first minus that of the second."""
    return _verdict(difference, 0, Verdict.BETTER, Verdict.WORSE)


def of_time(ratio: Interval, unlike: str = "") -> Verdict:
    """The verdict on the time of the first divided by that of the second.

    `unlike`: in what their runs differ, so that times are not compared; "" if they are.
    """
    return Verdict.NOT_COMPARED if unlike else _verdict(ratio, 1, Verdict.SLOWER, Verdict.FASTER)


def _verdict(found: Interval, equal: float, above: Verdict, below: Verdict) -> Verdict:
    if np.isnan(found.low):
        return Verdict.NO_INTERVAL
    if not found.excludes(equal):
        return Verdict.NO_DIFFERENCE
    return above if found.value > equal else below


def on_accuracy(first: str, second: str, difference: Interval, counts: str, _: English = ENGLISH) -> str:
    """A sentence on the accuracies of two cells; `counts`: how many runs they have."""
    told = {"first": first, "second": second, "difference": between(difference, 4, _, sign=True), "counts": counts}
    match of_accuracy(difference):
        case Verdict.BETTER:
            return _("%(first)s is more accurate than %(second)s: the difference is %(difference)s (%(counts)s).", **told)
        case Verdict.WORSE:
            return _("%(first)s is less accurate than %(second)s: the difference is %(difference)s (%(counts)s).", **told)
        case Verdict.NO_DIFFERENCE:
            return _(
                "No difference in accuracy was found between %(first)s and %(second)s: the estimate is %(difference)s, "
                "and its interval includes zero (%(counts)s).",
                **told,
            )
    return _(
        "The accuracy of %(first)s minus that of %(second)s is %(difference)s, but without an interval there is no verdict (%(counts)s).",
        **told,
    )


def on_time(first: str, second: str, ratio: Interval, counts: str, _: English = ENGLISH, unlike: str = "") -> str:
    """A sentence on the training times of two cells or frameworks; `counts`: how many runs or rounds they have."""
    told = {"first": first, "second": second, "ratio": between(ratio, 2, _), "counts": counts, "what": unlike}
    match of_time(ratio, unlike):
        case Verdict.SLOWER:
            return _("%(first)s takes %(ratio)s times as long as %(second)s to train (%(counts)s): %(second)s is faster.", **told)
        case Verdict.FASTER:
            return _("%(first)s takes %(ratio)s times as long as %(second)s to train (%(counts)s): %(first)s is faster.", **told)
        case Verdict.NO_DIFFERENCE:
            return _(
                "%(first)s takes %(ratio)s times as long as %(second)s to train (%(counts)s), but the interval includes 1: "
                "no difference was found.",
                **told,
            )
        case Verdict.NOT_COMPARED:
            return _("The training times of %(first)s and %(second)s are not compared because their runs differ in %(what)s.", **told)
    return _(
        "%(first)s takes %(ratio)s times as long as %(second)s to train (%(counts)s), but without an interval there is no verdict.", **told
    )


def on_two_networks(p: float, _: English = ENGLISH) -> str:
    """A sentence on two trained networks, by the p of McNemar's test."""
    if p < SIGNIFICANT:
        return _(
            "McNemar’s exact test finds a difference between the two trained networks on these test images (p = %(p)s). It compares these "
            "two networks, not the two ways of training them.",
            p=_.number(p, 3),
        )
    return _(
        "McNemar’s exact test finds no difference between the two trained networks on these test images (p = %(p)s).", p=_.number(p, 3)
    )


def between(found: Interval, digits: int, _: English = ENGLISH, sign: bool = False) -> str:
    """An estimate with its interval, if it has one: "0.84 (0.80 to 0.88)"."""
    value, low, high = (_.number(number, digits, sign) for number in found)
    return value if np.isnan(found.low) else f"{value} ({low} {_('to')} {high})"
