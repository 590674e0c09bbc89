"""Files that are whole or absent, and how a program ends."""

import pytest

from alexbench.files import InputError, run_program


def test_a_program_ends_with_its_status():
    with pytest.raises(SystemExit) as ended:
        run_program(lambda: 1)
    assert ended.value.code == 1


def test_a_mistake_of_the_user_is_told_in_one_line():
    def main() -> int:
        raise InputError("config: unknown variant 'alexnett'; choose from alexnet_mod, alexnet")

    with pytest.raises(SystemExit) as ended:
        run_program(main)
    # Python prints a text that a program exits with, and makes the status 1.
    assert ended.value.code == "config: unknown variant 'alexnett'; choose from alexnet_mod, alexnet"


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_program(lambda: 1 // 0)
