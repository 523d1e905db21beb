"""The layout of episodes and of comparisons."""

import torch

from learner.comparisons import ComparisonBatch, EncodedComparison
from learner.sequences import Episodes, Room


def test_episodes_lay_prompt_and_reply_next_to_each_other():
    episodes = Episodes.pad([[1, 2], [3, 4, 5]], [[6, 7, 8], [9]])
    assert episodes.tokens_B_T.tolist() == [[1, 2, 6, 7, 8], [3, 4, 5, 9, 0]]
    assert episodes.reply_tokens_N.tolist() == [6, 7, 8, 9]
    assert episodes.reply_mask_B_R.tolist() == [[True, True, True], [True, False, False]]
    columns = torch.arange(5).expand(2, 5)
    assert columns[episodes.ends_reply_B_T].tolist() == [4, 3]
    assert columns[episodes.predicts_reply_B_T].tolist() == [1, 2, 3, 2]
    assert columns[episodes.is_reply_B_T].tolist() == [2, 3, 4, 3]
    assert episodes.present_B_T.tolist() == [[True] * 5, [True] * 4 + [False]]
    assert episodes.unpack(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist() == [[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]]


def test_taking_rows_trims_padding():
    episodes = Episodes.pad([[1, 2], [3, 4, 5]], [[6, 7, 8], [9]])
    assert episodes.take(torch.tensor([1])).tokens_B_T.tolist() == [[3, 4, 5, 9]]


def test_a_pass_has_room_for_so_many_rows_and_tokens_and_for_any_one_row():
    assert Room(rows=2, tokens=12).sizes([1, 2, 3, 4, 5, 7, 30, 31]) == [2, 2, 1, 1, 1, 1]
    assert Room(rows=9, tokens=12).sizes([1, 2, 3, 4, 5, 7, 30]) == [3, 2, 1, 1]


def test_each_process_has_room_for_its_share_of_a_batch():
    lengths = [1, 2, 3, 4, 5, 6, 6, 6, 20, 21]
    room, sizes = Room(rows=3, tokens=12), Room(rows=3, tokens=12).sizes(lengths, processes=2)
    assert (sum(sizes), {size % 2 for size in sizes}) == (10, {0})
    first = 0
    for size in sizes:
        batch = lengths[first : first + size]
        for share in (batch[0::2], batch[1::2]):
            assert len(share) == 1 or (len(share) <= room.rows and len(share) * max(share) <= room.tokens)
        first += size


def test_rows_go_through_by_length_where_some_are_too_long_for_a_whole_batch():
    episodes = Episodes.pad([[1] * 9, [1], [1] * 3, [1, 2]], [[3]] * 4)
    assert [rows_B.tolist() for rows_B in episodes.by_length(Room(rows=2, tokens=9))] == [[1, 3], [2], [0]]
    chosen_B = torch.tensor([0, 2, 1])
    assert [rows_B.tolist() for rows_B in episodes.by_length(Room(2, 99), chosen_B)] == [[1, 2], [0]]


def test_a_comparison_row_holds_the_prompt_once():
    batch = ComparisonBatch.pad(
        [EncodedComparison([1, 2], ([3, 4], [5]), 0, 1.0, 1.0), EncodedComparison([1], ([2], [3, 4, 5]), 1, 0.5, 2.0)]
    )
    assert batch.tokens_C_T.tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]
    columns = torch.arange(5).expand(2, 5)
    assert batch.positions_C_T.tolist() == [[0, 1, 2, 3, 2], [0, 1, 1, 2, 3]]
    assert columns[batch.ends_reply_C_T].tolist() == [3, 4, 1, 4]
    assert batch.visible_C_T_T[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert batch.predicting(columns[batch.predicts_reply_C_T]).tolist() == [1, 2, 1, 0, 0, 2, 3]
    assert batch.reply_tokens_N.tolist() == [3, 4, 5, 2, 3, 4, 5]
    unpacked = batch.unpack(torch.arange(1.0, 8.0))
    assert unpacked.tolist() == [[[1, 2, 0], [3, 0, 0]], [[4, 0, 0], [5, 6, 7]]]
