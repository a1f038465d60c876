"""When ranks no longer come together, and when they may."""

from concurrent.futures import ThreadPoolExecutor

from dsrl.parallel.standstill import Place, Standstill

VERIFIES, WAITS = Place("iteration 3, verify", "dsrl/a.py:1"), Place("iteration 3, between", "dsrl/b.py:2")


def test_stages_that_differ_and_do_not_change_are_the_verdict():
    watched = Standstill(timeout=10.0)
    assert watched.verdict([VERIFIES, VERIFIES], 0.0) is None
    assert watched.verdict([WAITS, VERIFIES], 100.0) is None  # the second is slower: its time begins here
    assert watched.verdict([WAITS, VERIFIES], 110.0) is None
    assert watched.verdict([WAITS, VERIFIES], 110.1) == (
        "the ranks have not come together for 10 s. rank 0: iteration 3, between (dsrl/b.py:2); "
        "rank 1: iteration 3, verify (dsrl/a.py:1)"
    )


def test_a_stage_that_all_share_may_last():
    watched = Standstill(timeout=10.0)
    assert [watched.verdict([VERIFIES, VERIFIES], 100.0 * step) for step in range(5)] == [None] * 5


def test_that_no_rank_gets_on_is_said_once():
    watched = Standstill(timeout=10.0)
    said = [watched.notice([VERIFIES, VERIFIES], now) for now in (0.0, 10.0, 11.0, 12.0)]
    assert [bool(text) for text in said] == [False, False, True, False]
    assert watched.notice([WAITS, VERIFIES], 13.0) is None
    assert "rank 0: iteration 3, between" in watched.notice([WAITS, VERIFIES], 24.0)


def test_the_place_of_this_process_is_the_line_of_dsrl_that_its_main_thread_runs():
    with ThreadPoolExecutor() as watching:
        place = watching.submit(Place.of_main_thread, "iteration 0, update").result()
        assert place == Place("iteration 0, update", "")  # the main thread waits here, in no line of dsrl
        found = []
        reports = Standstill(Reporting(lambda: found.append(watching.submit(Place.of_main_thread, "").result())))
        reports.verdict([VERIFIES], 1.0)
    assert found[0].line.startswith("dsrl/parallel/standstill.py:")


class Reporting(float):
    """A number that is compared while someone looks."""

    def __new__(cls, report):
        return super().__new__(cls)

    def __init__(self, report):
        self.report = report

    def __lt__(self, other):
        self.report()
        return False
