"""The layout of episodes and of comparisons."""

import torch

from learner.comparisons import ComparisonBatch, EncodedComparison
from learner.sequences import Episodes


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
