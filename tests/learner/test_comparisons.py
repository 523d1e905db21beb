"""Comparisons as token ids, and cut into what one pass can hold."""

import math

import pytest

from learner.comparisons import EncodedComparison, VotedComparison, encode_comparison, pieces, thinned
from learner.errors import TrainingDataInvalid
from learner.policy import Policy

ASKED = [{"role": "user", "content": "w1 w2 w3"}]
OBJECTIVES = ("helpful", "harmless")


def test_of_a_long_prompt_the_end_is_kept_and_of_a_long_reply_the_beginning(policy: Policy) -> None:
    one = VotedComparison(ASKED, ("w4 w5 w6", [7, 8, 9, 10]), "harmless", 0.7, weight=0.3)
    encoded = encode_comparison(one, policy, OBJECTIVES, 64, 64)
    words = policy.tokenizer.convert_ids_to_tokens
    assert words(encoded.prompt) == ["<user>", "w1", "w2", "w3", "<assistant>"]
    assert words(encoded.replies[0]) == ["w4", "w5", "w6", "<end>"]
    assert encoded.replies[1] == [7, 8, 9, 10]
    assert (encoded.objective, encoded.label, encoded.weight) == (1, 0.7, 0.3)
    short = encode_comparison(one, policy, OBJECTIVES, 2, 3)
    assert (words(short.prompt), words(short.replies[0]), short.replies[1]) == (
        ["w3", "<assistant>"], ["w4", "w5", "w6"], [7, 8, 9],
    )  # fmt: skip


@pytest.mark.parametrize("replies", [([], [5]), ([5], [])])
def test_a_reply_without_a_token_is_refused(policy: Policy, replies: tuple[list[int], list[int]]) -> None:
    with pytest.raises(TrainingDataInvalid, match="no tokens"):
        encode_comparison(VotedComparison(ASKED, replies, "helpful", 0.5), policy, OBJECTIVES, 64, 64)


def test_a_vote_may_be_certain_and_weigh_nothing_but_not_less() -> None:
    for label in (0.0, 1.0):
        VotedComparison(ASKED, ("a", "b"), "helpful", label, weight=0.0)
    for label in (-0.1, 1.1, math.nan):
        with pytest.raises(TrainingDataInvalid, match="label"):
            VotedComparison(ASKED, ("a", "b"), "helpful", label)
    for weight in (-0.1, math.inf, math.nan):
        with pytest.raises(TrainingDataInvalid, match="weight"):
            VotedComparison(ASKED, ("a", "b"), "helpful", 0.5, weight)


def test_of_votes_of_next_to_no_weight_some_are_drawn_that_weigh_as_much() -> None:
    """By what the weightiest under their objective weighs."""
    weigh = {"helpful": [2.0, 0.3, 0.0] + [0.01] * 4000, "harmless": [0.01, 0.002]}
    votes = [VotedComparison(ASKED, ("a", "b"), name, 0.9, one) for name, of in weigh.items() for one in of]
    found = thinned(votes, seed=1)
    assert found == thinned(votes, seed=1) != thinned(votes, seed=2)
    assert [one for one in found if one in votes] == [*votes[:2], *votes[-2:]]
    drawn = [one for one in found if one not in votes]
    assert drawn == [VotedComparison(ASKED, ("a", "b"), "helpful", 0.9, 0.1 * 2.0)] * len(drawn)
    # 4,000 in twenty, give or take five deviations.
    assert abs(len(drawn) - 200) < 5 * (4000 * 0.05 * 0.95) ** 0.5
    assert thinned([], seed=1) == []


def test_pieces_hold_64_short_comparisons_or_as_many_as_attention_has_room_for() -> None:
    def of_length(tokens: int) -> EncodedComparison:
        return EncodedComparison([0] * (tokens - 3), ([1], [2, 3]), 0, 0.5, 1.0)

    # 64 rows of 256 tokens take 2^22, and so do four of which one is of 1024; one that alone takes more stands alone.
    mixed = [of_length(1024), *[of_length(256)] * 130, of_length(4096), of_length(1024), of_length(1024)]
    cut = pieces(mixed)
    assert [[len(mixed[place].prompt) + 3 for place in piece] for piece in cut] == [
        [256] * 64, [256] * 64, [256] * 2 + [1024] * 2, [1024], [4096],
    ]  # fmt: skip
    assert sorted(place for piece in cut for place in piece) == list(range(len(mixed)))
    assert pieces([of_length(10)] * 65) == [list(range(64)), [64]]
