"""What is asked of the answers to every chapter's exercises: a chapter says `TestAnswers = answers(…)`."""

from collections.abc import Callable, Mapping, Sequence

from minidiff.course.diagnosis import judge, try_out
from minidiff.course.exercise import find, load_chapter, load_experiments


def kind(id: str, answer: Callable, seeds: Sequence[int] = (0, 1, 2)) -> str:
    """The verdict on an answer to exercise `id`: "passed", or what is wrong."""
    return judge(find(id), try_out(find(id), answer, list(seeds))).kind


class Answers:
    """Four short tasks, a build and an open experiment.

    wrong   {id: {what is wrong: answer}} of the short tasks;  right: {id: answer}, made the same way but for the fault
    slips   {what is wrong: (old, new)}, changes of the master's solution of the build, which the fixture `built` makes
    """

    chapter: str
    build: str
    experiment: str
    wrong: Mapping[str, Mapping[str, Callable]]
    right: Mapping[str, Callable]
    slips: Mapping[str, tuple[str, str]]

    def pytest_generate_tests(self, metafunc) -> None:
        tables = {
            "refused": {f"{id}-{name}": (id, answer) for id, few in self.wrong.items() for name, answer in few.items()},
            "accepted": {id: (id, answer) for id, answer in self.right.items()},
            "slip": self.slips,
        }
        for name, rows in tables.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, rows.values(), ids=rows.keys())

    def test_plausible_wrong_answers_are_refused(self, refused):
        assert kind(*refused) != "passed"

    def test_right_answers_beside_them_pass(self, accepted):
        assert kind(*accepted) == "passed"

    def test_a_build_with_one_thing_wrong_is_refused(self, built, slip):
        assert kind(self.build, built(slip), [0]) != "passed"

    def test_the_build_of_the_master_passes(self, built):
        assert kind(self.build, built()) == "passed"

    def test_the_chapter_has_four_short_tasks_one_build_and_one_open_experiment(self):
        short = [exercise.id for exercise in load_chapter(self.chapter) if exercise.id != self.build]
        assert len(short) == 4
        assert set(short) == set(self.wrong) == set(self.right)
        assert find(self.build).chapter == self.chapter[:2]
        assert [task.id for task in load_experiments(self.chapter)] == [self.experiment]


def answers(**told) -> type[Answers]:
    """The tests of one chapter, for pytest to find under the name TestAnswers."""
    return type("TestAnswers", (Answers,), told)
