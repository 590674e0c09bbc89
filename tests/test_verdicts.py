"""Nothing is called better or faster without reason, and a sentence says what the verdict is, in both languages."""

import pytest

from alexbench.analysis import verdicts
from alexbench.analysis.stats import Interval
from alexbench.analysis.verdicts import Verdict
from alexbench.writing.article import Comparison, Side, leaders
from alexbench.writing.language import Language

NAN = float("nan")


@pytest.mark.parametrize(
    ("difference", "verdict", "says"),
    [
        (Interval(0.02, 0.01, 0.03), Verdict.BETTER, "a is more accurate than b: the difference is +0.0200 (+0.0100 to +0.0300) (n = 3)."),
        (Interval(-0.02, -0.03, -0.01), Verdict.WORSE, "a is less accurate than b"),
        (Interval(0.02, -0.01, 0.05), Verdict.NO_DIFFERENCE, "No difference in accuracy was found between a and b"),
        (Interval(0.5), Verdict.NO_INTERVAL, "minus that of b is +0.5000, but without an interval there is no verdict (n = 3)."),
    ],
)
def test_accuracies(difference, verdict, says):
    assert verdicts.of_accuracy(difference) == verdict and says in verdicts.on_accuracy("a", "b", difference, "n = 3")


@pytest.mark.parametrize(
    ("ratio", "unlike", "verdict", "says"),
    [
        (Interval(0.8, 0.7, 0.9), "", Verdict.FASTER, "a takes 0.80 (0.70 to 0.90) times as long as b to train (n = 3): a is faster."),
        (Interval(1.2, 1.1, 1.3), "", Verdict.SLOWER, "(n = 3): b is faster."),
        (Interval(0.8, 0.7, 1.1), "", Verdict.NO_DIFFERENCE, "(n = 3), but the interval includes 1: no difference was found."),
        (Interval(0.8), "", Verdict.NO_INTERVAL, "0.80 times as long as b to train (n = 3), but without an interval there is no verdict."),
        (Interval(NAN), "threads", Verdict.NOT_COMPARED, "are not compared because their runs differ in threads."),
    ],
)
def test_times(ratio, unlike, verdict, says):
    assert verdicts.of_time(ratio, unlike) == verdict and says in verdicts.on_time("a", "b", ratio, "n = 3", unlike=unlike)


def test_a_sentence_in_spanish():
    said = verdicts.on_time("a", "b", Interval(0.8, 0.7, 0.9), "n = 3", Language("es"))
    assert said == "a tarda 0,80 (0,70 a 0,90) veces lo que b en entrenar (n = 3): a es más rápido."


def pair(network: str, first: str, second: str, ratio: Interval) -> Comparison:
    sides = (Side(f"{name}, {network}", name, network, 3, NAN) for name in (first, second))
    return Comparison("framework", *sides, Interval(NAN), ratio, "", NAN)


def test_the_fastest_of_three_is_ahead_of_both_others():
    slower, alike = Interval(2, 1.5, 3), Interval(1.1, 0.9, 1.3)
    clear = [pair("small", "b", "a", slower), pair("small", "c", "a", slower), pair("small", "c", "b", alike)]
    shared = [pair("large", "b", "a", alike), pair("large", "c", "a", slower), pair("large", "c", "b", slower)]
    assert leaders(clear + shared, "faster") == ({"a": ["small"]}, ["large"])
