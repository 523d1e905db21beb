from itertools import pairwise
from pathlib import Path

import pytest

from feedback.errors import InvalidRequest
from feedback.sandbox.judge import judge
from feedback.sandbox.world import find, prompts
from feedback.tax.tasks import builtin_suite, read_task

LINES = """
{"prompt": "The capital of France?", "answers": ["Paris", "Lutetia"], "traps": ["London"], "needed": 1}
{"prompt": "A fruit?", "choices": ["a stone", "a pear"], "answer": 1}

{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}], "answers": ["2"]}
{"prompt": "Two trees?", "answers": ["oak", "pine", "fir"], "needed": 2}
"""


def test_a_task_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "general.jsonl"
    path.write_text(LINES)
    task = read_task(path)
    capital, fruit, total, trees = task.items
    assert task.name == "general"
    assert capital.right("It is paris.") and capital.right("Lutetia!")
    assert not capital.right("Parisian") and not capital.right("Paris or London")
    assert fruit.messages[0]["content"] == "A fruit?\nA. a stone\nB. a pear\nAnswer with the letter alone."
    assert fruit.right("B") and fruit.right("It is (B).") and not fruit.right("A or B") and not fruit.right("Both")
    assert total.messages[0]["role"] == "system" and total.right("1 + 1 = 2") and not total.right("22")
    assert trees.right("a fir, an oak") and not trees.right("oak, oak and birch")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1"),
        ("[]", "line 1"),
        ('{"prompt": "x"}', "answers"),
        ('{"answers": ["x"]}', "either 'prompt' or 'messages'"),
        ('{"prompt": "x", "answers": ["?"]}', "answers"),
        ('{"prompt": "x", "answers": ["a", "b"], "needed": 3}', "answers"),
        ('{"prompt": "x", "answers": ["a"], "traps": ["?"]}', "answers"),
        ('{"prompt": "x", "choices": ["a", "b"], "answer": 2}', "number of one"),
        ('{"prompt": "x", "answers": ["a"], "needed": 0}', "needed"),
        ('{"prompt": "x", "choices": ["a", "b"], "answer": -1}', "answer"),
        ('{"prompt": "x", "choices": ["a"], "answer": 0}', "choices"),
        ('{"prompt": "", "answers": ["a"]}', "prompt"),
        ('{"messages": [], "answers": ["a"]}', "messages"),
        ('{"prompt": "x", "answers": ["a"], "colour": 1}', "colour"),
        ('{"messages": [{"role": "user"}], "choices": ["a", "b"], "answer": 0}', "'role' and a 'content'"),
        ('{"prompt": "x", "answers": ["a"]}\n\n{"prompt": "x", "answers": ["b"]}', "line 3: line 1 asks the same"),
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
    assert len(suite) == 8 and all(10 <= len(task.items) <= 60 for task in suite)
    replies = ["Paris", "I cannot help with that.", "7", "Use a knife.", "oak, pine and birch", "It barks.", "black"]
    for task in suite:
        for item in task.items[::5]:
            prompt = find(item.messages)
            assert prompt is not None and not prompt.harmful
            answers = sorted(prompt.answers)
            for reply in [*replies, *(" ".join(answers[:count]) for count in (prompt.needed - 1, prompt.needed))]:
                assert item.right(reply) == (judge(prompt, reply).outcome == "correct"), (prompt, reply)


def test_of_a_large_family_60_questions_are_asked_as_far_apart_as_another() -> None:
    families: dict[str, list[tuple[dict[str, str], ...]]] = {}
    for prompt in (one for one in prompts() if not one.harmful):
        families.setdefault(prompt.family, []).append(tuple(prompt.messages))
    large = [task for task in builtin_suite() if len(families[task.name]) > 60]
    assert len(large) == 3
    for task in large:
        asked = families[task.name]
        places = [asked.index(item.messages) for item in task.items]
        apart = [after - before for before, after in pairwise([*places, len(asked)])]
        assert len(places) == 60 and places[0] == 0 and max(apart) - min(apart) == 1
