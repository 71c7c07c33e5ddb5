"""Malformed inputs: each outcome is one clear line, and no file is new, gone or changed."""

import pytest
from malformed_cases import COMMANDS, cases, good_cases
from malformed_run import Runner

pytestmark = pytest.mark.tensorflow

ALL = list(cases())
GROUPS = list(dict.fromkeys(case.group for case in ALL))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Runner(tmp_path_factory.mktemp("plain"), plain=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Runner(tmp_path_factory.mktemp("whole"))


def faults(runner, chosen):
    found = {str(case): runner.faults(case) for case in chosen}
    return {case: told for case, told in found.items() if told}


@pytest.mark.parametrize("group", GROUPS)
def test_those_without_a_model_are_told_clearly(plain, group):
    chosen = [case for case in ALL if case.group == group and case.is_plain]
    assert not faults(plain, chosen[::3])


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_all_are_told_clearly(whole, group):
    assert not faults(whole, [case for case in ALL if case.group == group])


@pytest.mark.slow
@pytest.mark.parametrize("case", good_cases(), ids=str)
def test_with_good_files_the_commands_do_their_work(whole, case):
    assert whole.faults(case)[0] == "accepted"


def test_there_are_cases_of_every_command_and_no_two_alike():
    assert len(ALL) == len(set(ALL)) > 400
    assert set(COMMANDS) < set(GROUPS)
