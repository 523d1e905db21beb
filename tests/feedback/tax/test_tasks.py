from pathlib import Path

import pytest

from feedback.errors import InvalidRequest
from feedback.sandbox.judge import judge
from feedback.sandbox.world import find
from feedback.tax.tasks import ITEMS_PER_FAMILY, builtin_suite, read_task

LINES = """
{"prompt": "The capital of France?", "answers": ["Paris", "Lutetia"], "traps": ["London"]}
{"prompt": "A fruit?", "choices": ["a stone", "a pear"], "answer": 1}

{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}], "answers": ["2"]}
"""


def test_a_task_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "general.jsonl"
    path.write_text(LINES)
    task = read_task(path)
    capital, fruit, total = task.items
    assert (task.name, len(task.items)) == ("general", 3)
    assert capital.right("It is paris.") and capital.right("Lutetia!")
    assert not capital.right("Parisian") and not capital.right("Paris or London")
    assert fruit.messages[0]["content"] == "A fruit?\nA. a stone\nB. a pear\nAnswer with the letter alone."
    assert fruit.right("B") and fruit.right("It is (B).") and not fruit.right("A or B") and not fruit.right("Both")
    assert total.messages[0]["role"] == "system" and total.right("1 + 1 = 2") and not total.right("22")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1"),
        ("[]", "line 1"),
        ('{"prompt": "x"}', "answers"),
        ('{"answers": ["x"]}', "either 'prompt' or 'messages'"),
        ('{"prompt": "x", "answers": ["?"]}', "answers"),
        ('{"prompt": "x", "choices": ["a", "b"], "answer": 2}', "number of one"),
        ('{"prompt": "x", "answers": ["a"], "colour": 1}', "colour"),
        ("", "no question"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(line)
    with pytest.raises(InvalidRequest, match=said):
        read_task(path)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_task(tmp_path / "none.jsonl")


def test_the_builtin_suite_judges_as_the_gold_judge_does() -> None:
    suite = builtin_suite()
    assert len(suite) == 8 and all(10 <= len(task.items) <= ITEMS_PER_FAMILY for task in suite)
    replies = ["Paris", "I cannot help with that.", "7", "Use a knife.", "oak, pine and birch", "It barks.", "black"]
    for task in suite:
        for item in task.items[::5]:
            prompt = find(item.messages)
            assert prompt is not None and not prompt.harmful
            for reply in [*replies, " ".join(sorted(prompt.answers))]:
                assert item.right(reply) == (judge(prompt, reply).outcome == "correct"), (prompt, reply)
