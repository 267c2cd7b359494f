"""Records shed from a consumer's hands are lost if it reads again, and only those."""

import pytest

from pipeline.engine.log.positions import Position


@pytest.mark.parametrize(
    ("confirmed", "num_shed", "settled"), [(2, 5, 2), (3, 4, 3), (4, 3, 4), (5, 2, 7)]
)
def test_shed_records_count_as_lost_unless_they_are_confirmed(confirmed, num_shed, settled):
    position = Position(done=2)
    position.hand(5)
    position.shed(1, 7, num_unhanded=2)  # a segment with records of before
    position.pass_over(7)
    assert (position.settled, position.num_shed) == (2, 2)
    position.confirm(confirmed)
    assert position.settled == settled
    position.read_again()
    assert (position.settled, position.num_shed) == (7, num_shed)


def test_records_shed_one_by_one_count_once():
    position = Position(done=0)
    position.hand(2)
    for seq in (1, 2, 3):
        position.shed(seq, seq, num_unhanded=int(seq > position.unhanded_after))
        position.pass_over(seq)
    position.read_again()
    position.read_again()
    assert position.num_shed == 3


def test_what_is_shed_behind_its_hands_leaves_them_alone():
    position = Position(done=0)
    position.hand(2)
    position.shed(5, 6, num_unhanded=2)
    position.read_again()
    assert (position.done, position.num_shed) == (0, 2)
