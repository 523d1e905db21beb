"""An evaluation says what the gate asks of it, of the candidate and of the reference."""

import re
from dataclasses import replace

import orjson
import pytest
import torch

from feedback.figures import figures_of, figures_of_reference
from feedback.learning_settings import EvaluationSettings
from learner import conduct
from learner.errors import TrainingDataInvalid
from learner.evaluation import (
    HeldOutPrompt,
    Replies,
    Serving,
    _against,
    _conduct,
    _kl,
    _reply,
    evaluate,
    sample_replies,
)
from learner.policy import Policy
from learner.preference_model import PreferenceShape, new_preference_model
from learner.sampler import Samples
from tests.learner.conftest import END, random_llama, word_tokenizer

SETTINGS = EvaluationSettings(prompts=12, max_new_tokens=8, samples=3, matmul_precision="full")
PROMPTS = [
    HeldOutPrompt([{"role": "user", "content": f"w{number} w{number + 1}"}], number % 2 == 0, f"vote_{number}")
    for number in range(20)
]


def policy(seed: int) -> Policy:
    return Policy(random_llama(seed), word_tokenizer(), (END,))


def judged(
    candidate: Policy,
    reference: Policy,
    watch: bool = False,
    serving: Policy | None = None,
    settings=SETTINGS,
    prompts=PROMPTS,
    max_prompt_tokens: int = 64,
) -> dict:
    objectives = PreferenceShape(("helpful", "harmless"), 1, 8, False)
    model = new_preference_model(reference.model, objectives, seed=1)
    return evaluate(
        candidate, reference, model, prompts, settings, reward_weights={"overall": 1.0},
        max_prompt_tokens=max_prompt_tokens, seed=3,
        watch=new_preference_model(reference.model, objectives, seed=2) if watch else None,
        serving=None if serving is None else Serving("v1", serving),
    )  # fmt: skip


def test_the_gate_finds_its_figures():
    evidence = {"evaluation": judged(policy(1), policy(2), watch=True)}
    assert orjson.loads(orjson.dumps(evidence)) == evidence
    assert evidence["evaluation"]["watch"]["score"] != evidence["evaluation"]["score"]
    own, reference = figures_of(evidence), figures_of_reference(evidence)
    conduct = ("harm", "harm_refused", "refusals", "flattery")
    for name in ("win_rate", "win_rate_length_controlled", "watch_win_rate", *conduct):
        assert own[name].value is not None and own[name].interval is not None, name
    for name in conduct:
        assert reference[name].value is not None, name
    assert own["evaluation.diversity.distinct_2"].value > 0
    assert "evaluation.diversity.entropy_nats" in reference
    of_both = evidence["evaluation"]["length_tokens"], evidence["evaluation"]["reference_length_tokens"]
    assert own["length_ratio"].value == pytest.approx(of_both[0] / of_both[1])
    kl = own["kl_nats"]
    assert kl.interval is not None and kl.value == pytest.approx(sum(kl.interval) / 2, rel=1e-5)
    assert 0 < own["finished_share"].value <= 1


def test_scores_are_in_their_own_deviations_and_anchored_ones_in_the_anchors():
    model = new_preference_model(policy(2).model, PreferenceShape(("helpful", "harmless"), 1, 8, False), seed=1)
    anchor = {name: {"mean": 1.0, "deviation": 4.0} for name in model.shape.columns}
    scores = []
    for scale in (1.0, 2.0):
        model.scale_O.fill_(scale)
        found = evaluate(
            policy(1), policy(2), model, PROMPTS, SETTINGS, reward_weights={"overall": 1.0}, max_prompt_tokens=64,
            seed=3, anchored_to=anchor,
        )  # fmt: skip
        scores.append(found["objectives"]["harmless"]["score"]["value"])
        said = found["anchored"]["harmless"]["score"]["value"]
        assert said == pytest.approx((scale * scores[-1] - 1.0) / 4.0, rel=1e-4)
    assert scores[0] == pytest.approx(2 * scores[1], rel=1e-4)


def test_refusals_are_counted_by_what_was_asked():
    found = judged(
        policy(1), policy(2), prompts=[replace(one, asked_harmful=at < 3) for at, one in enumerate(PROMPTS[:12])]
    )
    assert [found[name]["count"] for name in ("harm", "harm_refused", "refusals")] == [3, 3, 9]


def test_of_a_long_prompt_the_last_tokens_are_asked():
    """Its last word and what opens the reply."""
    asked = [[HeldOutPrompt([{"role": "user", "content": f"{w} w5"}], False, "vote_1")] for w in ("w1", "w2 w3")]
    one, other = (judged(policy(1), policy(2), prompts=prompts, max_prompt_tokens=2) for prompts in asked)
    assert one["kl_nats"] == other["kl_nats"] != judged(policy(1), policy(2), prompts=asked[0])["kl_nats"]


def test_without_a_prompt_it_says_what_is_missing():
    with pytest.raises(TrainingDataInvalid, match="no held-out prompt is left"):
        judged(policy(1), policy(2), prompts=[])


def test_a_policy_against_itself_is_neither_better_nor_worse():
    found = judged(policy(1), policy(1), watch=True)
    assert found["win_rate"]["value"] == found["watch"]["win_rate"]["value"] == 0.5
    assert found["win_rate_length_controlled"]["value"] == pytest.approx(0.5)
    assert found["kl_nats"] == 0
    for name in ("harm", "harm_refused", "refusals", "flattery", "agreement", "length_tokens"):
        assert found[name] == found[f"reference_{name}"], name
    assert found["diversity"]["distinct_2"] == found["diversity"]["reference_distinct_2"]


def test_the_same_reply_is_a_tie_though_it_was_scored_in_another_batch():
    """By either judge, each by its own scores."""
    model = new_preference_model(policy(1).model, PreferenceShape(("helpful", "harmless"), 1, 8, False), seed=1)
    first = Samples.pad([[2, 5]] * 3, [[7, END], [8, END], [9]], [[0.0, 0.0], [0.0, 0.0], [0.0]], [END], "cpu")
    second = Samples.pad([[2, 5]] * 3, [[7, END], [8, END], [6, 6]], [[0.0, 0.0], [0.0, 0.0], [0.0] * 2], [END], "cpu")
    scores_B_O = torch.tensor([[1.0] * 3, [2.0] * 3, [3.0] * 3])
    own, other = (
        Replies(samples, [""] * 3, scores_B_O - rounding, scores_B_O + sign * scores_B_O)
        for samples, rounding, sign in ((first, 0.0, -1), (second, 1e-6, 1))
    )
    found = _against(own, other, model, model, {"overall": 1.0}, 0.95)
    assert found["win_rate"]["value"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert found["objectives"]["helpful"]["win_rate"]["value"] == pytest.approx(2 / 3)
    assert found["watch"]["win_rate"]["value"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    # The third is the shorter one.
    assert found["win_rate_shorter"]["count"] == 3


def test_conduct_is_counted_of_each_policys_own_replies(monkeypatch):
    """By words that are taken to refuse and to agree; every second prompt asks for harm."""
    monkeypatch.setattr(conduct, "REFUSES", re.compile(r"^w1"))
    monkeypatch.setattr(conduct, "AGREES", re.compile(r"w1?[0-4]\b"))
    monkeypatch.setattr(conduct, "claims", lambda: [(f"w{n} w5 w6", f"w{n}") for n in range(20)])
    both = {"": policy(1), "reference_": policy(2)}
    model = new_preference_model(both[""].model, PreferenceShape(("helpful", "harmless"), 1, 8, False), seed=1)
    asked = [both[""].encode_chat(one.messages) for one in PROMPTS]
    replied = [_reply(one, asked, model, None, SETTINGS, 3) for one in both.values()]
    found = {
        name: figure["value"]
        for name, figure in _conduct(*both.values(), model, PROMPTS, *replied, SETTINGS, 3).items()
    }
    expected = {}
    for (prefix, one), replies in zip(both.items(), replied, strict=True):
        refused = [text.startswith("w1") for text in replies.texts]
        harmless = replies.scores_B_O[:, 1].tolist()
        complied = [score < 0 and not said for score, said in zip(harmless, refused, strict=True)]
        expected |= {
            f"{prefix}harm": sum(complied[::2]) / 10,
            f"{prefix}harm_refused": sum(refused[::2]) / 10,
            f"{prefix}refusals": sum(refused[1::2]) / 10,
        }
        for name, side in (("flattery", 0), ("agreement", 1)):
            claims = [one.encode_chat([{"role": "user", "content": claim[side]}]) for claim in conduct.claims()]
            said = [one.decode(reply) for reply in sample_replies(one, claims, SETTINGS, 3).replies()]
            expected[prefix + name] = sum(bool(conduct.AGREES.search(text)) for text in said) / 20
    assert found == pytest.approx(expected)


def test_the_kl_is_that_of_what_is_sampled():
    """At a temperature far above one both policies are all but uniform, and all but equal."""
    warm, cool = (SETTINGS.model_copy(update={"temperature": temperature}) for temperature in (1e4, 1.0))
    assert abs(judged(policy(1), policy(2), settings=warm)["kl_nats"]) < 0.01
    assert judged(policy(1), policy(2), settings=cool)["kl_nats"] > 1


@torch.no_grad()
def test_the_kl_of_each_reply_by_hand():
    one, other = policy(1), policy(2)
    prompts, replies = [[2, 5], [2, 6, 7]], [[7, END], [8, 9, 6]]
    samples = Samples.pad(prompts, replies, [[0.0] * 2, [0.0] * 3], [END], "cpu")
    expected = []
    for prompt, reply in zip(prompts, replies, strict=True):
        total = 0.0
        for sign, which in ((1, one), (-1, other)):
            logits = which.model(input_ids=torch.tensor([prompt + reply])).logits[0] / 0.7
            for place, token in enumerate(reply, len(prompt) - 1):
                total += sign * float(logits[place, token] - logits[place].logsumexp(dim=0))
        expected.append(total)
    assert _kl(one, other, samples, 0.7).tolist() == pytest.approx(expected, abs=1e-4)


def test_what_serves_is_a_second_rival():
    found = judged(policy(1), policy(2), watch=True, serving=policy(2))
    against_start = {name: found[name] for name in found["serving"] if name != "version"}
    assert found["serving"] == {"version": "v1"} | against_start
    assert {"win_rate", "win_rate_length_controlled", "objectives", "watch"} <= against_start.keys()
    assert judged(policy(1), policy(2), serving=policy(1))["serving"]["win_rate"]["value"] == 0.5


def test_what_is_said_of_a_policy_is_the_same_whoever_it_is_held_against():
    found, own, other = (judged(policy(one), policy(rival)) for one, rival in ((1, 2), (1, 1), (2, 2)))
    assert (found["finished_share"], found["length_tokens"]) == (own["finished_share"], own["length_tokens"])
    assert found["reference_length_tokens"] == other["length_tokens"] != own["length_tokens"]
    of_other = {f"reference_{name}": figure for name, figure in other["diversity"].items() if "reference" not in name}
    assert found["diversity"] == own["diversity"] | of_other
    # Some replies are kept to be read.
    assert [sample["vote"] for sample in found["samples"]] == ["vote_0", "vote_6", "vote_13"]
    assert found["samples"][1]["messages"] == PROMPTS[6].messages
    texts = [[sample["candidate"] for sample in one["samples"]] for one in (own, other)]
    assert [[sample[side] for sample in found["samples"]] for side in ("candidate", "reference")] == texts
    assert texts[0] != texts[1]
    assert "watch" not in found
