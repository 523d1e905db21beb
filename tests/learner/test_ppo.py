"""PPO: each detail that good implementations agree on, and that it learns, repeats itself and resumes."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from feedback.learning_settings import PPOSettings
from learner import trained
from learner.critic import Critic
from learner.errors import CheckpointInvalid, TrainingDataInvalid, TrainingDiverged
from learner.language_model import VALUES_PER_PASS, reply_logprobs
from learner.policy import Policy
from learner.ppo import PPO, require_possible, train_ppo, training
from learner.ppo import rollout as rollout_module
from learner.preference_model import PreferenceShape, new_preference_model
from learner.prompts import PromptPool, TrainingPrompt
from learner.sampler import Samples, TorchSampler
from learner.sequences import Episodes
from learner.training_state import TrainingState
from tests.learner.conftest import END, WORDS, random_llama, word_tokenizer

LIKED = WORDS.index("w1")
SETTINGS = PPOSettings(
    steps=2,
    episodes_per_step=32,
    episodes_per_minibatch=16,
    episodes_per_forward=16,
    max_new_tokens=8,
    learning_rate=3e-3,
    matmul_precision="full",
    reward_weights={"helpful": 1.0},
    rehearsal_weight=0.0,
)
PROMPTS = [TrainingPrompt([{"role": "user", "content": f"w{number}"}], "helpful") for number in range(5, 13)]


class LikesOneWord:
    """Stands where a preference model does, with a known right answer: the share of `LIKED` among a reply's tokens."""

    def __init__(self, start):
        self.model = new_preference_model(start, PreferenceShape(("helpful",), 1, 8, False), seed=1)

    def __getattr__(self, name):
        return getattr(self.model, name)

    def eval(self):
        return self

    def score(self, episodes, *known):
        liked_B_R = episodes.unpack((episodes.reply_tokens_N == LIKED).float())
        share_B_1 = 4 * liked_B_R.sum(dim=1, keepdim=True) / episodes.reply_lengths_B[:, None]
        return share_B_1.expand(-1, len(self.model.shape.columns))


def trainer(settings=SETTINGS, *, seed=1, scorer=LikesOneWord, watch=None, prompts=PROMPTS, rehearse_on=None) -> PPO:
    """`scorer` and `watch` are made of the start."""
    start = random_llama()
    policy = Policy(copy.deepcopy(start), word_tokenizer(), (END,))
    asked = [policy.encode_chat(one.messages) for one in PROMPTS] if rehearse_on is None else rehearse_on
    return PPO(
        policy, start, scorer(start), prompts, settings,
        seed=seed, watch=watch and watch(start), rehearse_on=asked,
    )  # fmt: skip


def weights(model) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def equal(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"critic": "preference_model"},
        {"critic": "policy"},
        {"advantage": "rloo", "replies_per_prompt": 4},
        {"advantage": "grpo", "replies_per_prompt": 4},
        {"kl_controller": "adaptive", "kl_target_nats": 1.0},
    ],
)
def test_it_raises_the_reward(change):
    ppo = trainer(SETTINGS.model_copy(update={"steps": 12, **change}))
    reports = [ppo.step() for _ in range(12)]
    assert reports[-1].reward > reports[0].reward + 0.5
    assert reports[-1].kl_nats > 0.1


def test_before_the_first_update_policy_and_start_agree():
    report = trainer().step()
    assert abs(report.kl_nats) < 1e-4
    assert report.mismatch_nats < 1e-5


def test_a_strong_penalty_holds_the_policy_near_its_start():
    free, held = (
        [ppo.step() for _ in range(10)][-1]
        for ppo in (trainer(SETTINGS.model_copy(update={"kl_coefficient": c})) for c in (0.0, 2.0))
    )
    assert held.kl_nats < 0.75 * free.kl_nats


def test_the_same_seed_gives_the_same_run():
    runs = []
    for seed in (1, 1, 2):
        ppo = trainer(seed=seed)
        reports = [ppo.step(), ppo.step()]
        runs.append((reports, ppo.prompts.draw(0, 8), weights(ppo.model)))
    (reports, prompts, ends), again, other = runs
    assert (reports, prompts) == again[:2]
    assert equal(ends, again[2])
    assert prompts != other[1]
    assert not equal(ends, other[2])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"critic": "preference_model"},
        {"critic": "policy"},
        {"kl_controller": "adaptive"},
        {"rehearsal_weight": 1.0},
    ],
)
def test_a_run_cut_short_and_resumed_ends_where_the_whole_one_does(tmp_path, change):
    settings = SETTINGS.model_copy(update={"steps": 4, **change})
    whole = trainer(settings)
    reports = [whole.step() for _ in range(4)]
    cut = trainer(settings)
    cut.step()
    cut.step()
    cut.state().save(tmp_path / "state")
    resumed = trainer(settings)
    resumed.restore(TrainingState.load(tmp_path / "state"))
    assert resumed.steps_done == 2
    assert [resumed.step(), resumed.step()] == reports[2:]
    assert equal(weights(whole.model), weights(resumed.model))
    with pytest.raises(CheckpointInvalid, match="another seed"):
        trainer(settings, seed=9).restore(TrainingState.load(tmp_path / "state"))


def test_a_run_is_not_gone_on_with_on_other_prompts_or_by_other_settings():
    """Some prompts were erased since, say: what was drawn of them is in the weights."""
    state = trainer().state()
    trainer().restore(state)
    others = {"prompts": PROMPTS[1:]}, {"rehearse_on": [[6, 7]]}, {"settings": SETTINGS.model_copy(update={"steps": 3})}
    for other in (trainer(**changed) for changed in others):
        with pytest.raises(CheckpointInvalid, match="other prompts, other settings"):
            other.restore(state)


def test_train_ppo_runs_to_the_last_step_rehearses_and_hands_out_states():
    start = random_llama()
    policy = Policy(copy.deepcopy(start), word_tokenizer(), (END,))
    settings = SETTINGS.model_copy(update={"rehearsal_weight": 1.0, "rehearsal_replies": 4, "rehearsal_episodes": 2})
    seen = []
    train_ppo(
        policy, start, LikesOneWord(start), PROMPTS, settings, seed=1, rehearse_on=[[5, 6]],
        on_step=lambda report, state: seen.append((report.step, state().step, report.rehearsal_kl_nats is not None)),
    )  # fmt: skip
    assert seen == [(1, 1, True), (2, 2, True)]
    assert not equal(weights(policy.model), weights(start))


AT_ONCE = SETTINGS.model_copy(update={"epochs": 1, "episodes_per_minibatch": 32, "episodes_per_forward": 32})


def gradients(ppo: PPO) -> list[torch.Tensor]:
    """What the first optimiser step would apply, before it is scaled down."""
    kept = []
    ppo.updater.apply_gradients = lambda: kept.extend(p.grad.clone() for p in ppo.model.parameters()) or torch.zeros(())
    ppo.step()
    return kept


@pytest.mark.parametrize(("bound", "at_most"), [("episodes_per_forward", 5), ("tokens_per_forward", 40)])
def test_cutting_a_minibatch_into_pieces_leaves_the_gradient(bound, at_most, monkeypatch):
    passes = []
    look = trained.Trained.reply_pass
    monkeypatch.setattr(
        trained.Trained, "reply_pass", lambda self, piece, *a: passes.append(piece) or look(self, piece, *a)
    )
    whole = gradients(trainer(AT_ONCE))
    once = len(passes)
    pieces = gradients(trainer(AT_ONCE.model_copy(update={bound: at_most})))
    assert len(passes) > 4 * once
    held = [len(piece) if bound == "episodes_per_forward" else piece.tokens_B_T.numel() for piece in passes[once:]]
    assert max(held) <= at_most
    for first, second in zip(whole, pieces, strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("critic", ["policy", "preference_model"])
def test_what_values_weigh_concerns_only_a_critic_that_shares_the_policy(critic):
    settings = SETTINGS.model_copy(update={"critic": critic, "critic_learning_rate": 1e-2})
    light, heavy = (trainer(settings.model_copy(update={"value_coefficient": weight})) for weight in (0.1, 10.0))
    same = equal(*([ppo.step(), weights(ppo.critic)][1] for ppo in (light, heavy)))
    assert same == (critic == "preference_model")


def test_the_loss_is_a_mean_over_tokens_not_over_replies(monkeypatch):
    """With every advantage 1 and the old policy, the gradient is that of minus the mean log-probability of tokens."""
    ppo = trainer(AT_ONCE)
    samples = ppo.rollouts.sampler.sample(
        ppo.prompts.draw(0, 32), max_new_tokens=8, temperature=1.0, seed=ppo.step_seed()
    )
    assert samples.episodes.reply_lengths_B.unique().numel() > 1
    expected = torch.autograd.grad(-reply_logprobs(ppo.model, samples.episodes).mean(), ppo.model.parameters())
    monkeypatch.setattr(
        training, "estimate_advantages", lambda rollout, *_: (torch.ones_like(rollout.logprobs_N), rollout.values_N)
    )
    for ours, theirs in zip(gradients(ppo), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


def rollout_of(ppo: PPO):
    prompts = ppo.prompts.draw(0, 32)
    samples = ppo.rollouts.sampler.sample(prompts, max_new_tokens=8, temperature=ppo.settings.temperature, seed=5)
    return ppo.rollouts.evaluate(samples)


def test_replies_without_an_end_are_penalised():
    plain, penalised = (
        rollout_of(trainer(SETTINGS.model_copy(update={"missing_end_penalty": penalty}))) for penalty in (0.0, 3.0)
    )
    lost_B = plain.reward_B - penalised.reward_B
    unfinished_B = ~plain.samples.finished_B
    assert 0 < int(unfinished_B.sum()) < 32
    torch.testing.assert_close(lost_B, 3.0 * unfinished_B)


def test_replies_are_drawn_by_the_sampler_that_is_given():
    class Asked(Exception):
        pass

    class Sampler:
        def sample(self, prompts, **arguments):
            raise Asked

    start = random_llama()
    policy = Policy(copy.deepcopy(start), word_tokenizer(), (END,))
    with pytest.raises(Asked):
        train_ppo(policy, start, LikesOneWord(start), PROMPTS, SETTINGS, seed=1, sampler=Sampler())


def test_old_logprobs_are_the_trainers_whatever_the_sampler_says():
    """A sampler that reports shifted log-probabilities changes the importance weights and nothing else."""

    class Shifted:
        def __init__(self, inner, shift):
            self.inner, self.shift = inner, shift

        def sample(self, prompts, **arguments):
            samples = self.inner.sample(prompts, **arguments)
            return Samples(samples.episodes, samples.logprobs_B_R - self.shift, samples.finished_B)

    honest = trainer()
    shifted = trainer(SETTINGS.model_copy(update={"importance_weight_cap": 1.02}))
    shifted.rollouts = replace(shifted.rollouts, sampler=Shifted(TorchSampler(shifted.model, (END,)), 0.05))
    first, second = rollout_of(honest), rollout_of(shifted)
    torch.testing.assert_close(first.logprobs_N, second.logprobs_N)
    torch.testing.assert_close(first.importance_weights_N, torch.ones_like(first.logprobs_N), atol=1e-4, rtol=0)
    torch.testing.assert_close(second.importance_weights_N, torch.full_like(first.logprobs_N, 1.02))
    shifted.rollouts = replace(shifted.rollouts, sampler=Shifted(shifted.rollouts.sampler, 0.5))
    with pytest.raises(TrainingDiverged, match="nats a token"):
        shifted.step()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_what_the_sampler_computed_is_what_would_be_computed_again(temperature):
    """So too once the policy has moved; only what is checked is computed twice."""
    settings = SETTINGS.model_copy(update={"temperature": temperature, "checked_replies": 4})
    ppo = trainer(settings)
    ppo.step()
    taken = rollout_of(ppo)
    all_again = replace(ppo.rollouts, settings=settings.model_copy(update={"checked_replies": 32}))
    again = all_again.evaluate(taken.samples)
    assert torch.equal(taken.logprobs_N, taken.samples.logprobs_B_R[taken.episodes.reply_mask_B_R])
    assert not torch.equal(again.logprobs_N, taken.logprobs_N)
    for name in ("logprobs_N", "entropies_N", "importance_weights_N", "values_N", "reward_B"):
        torch.testing.assert_close(getattr(taken, name), getattr(again, name), atol=1e-4, rtol=0)
    assert 0 < taken.mismatch_nats < 1e-5
    assert 0 < again.mismatch_nats < 1e-5


@pytest.mark.parametrize("critic", ["preference_states", "preference_model", "policy"])
def test_passes_without_gradients_take_more_rows_where_there_is_room_and_say_the_same(monkeypatch, critic):
    bounds = {"episodes_per_forward": 3, "tokens_per_forward": 99, "checked_replies": 32}
    ppo = trainer(SETTINGS.model_copy(update={"critic": critic, **bounds}))
    samples = rollout_of(ppo).samples
    passes = []
    monkeypatch.setattr(rollout_module, "reply_logprobs", lambda *given: passes.append(given) or reply_logprobs(*given))
    pieces = ppo.rollouts.evaluate(samples)
    assert len(passes) == 11
    width = samples.episodes.tokens_B_T.shape[1]
    for tokens, most_passes in ((16 * width, 2), (32 * width, 1)):
        passes.clear()
        monkeypatch.setitem(VALUES_PER_PASS, "cpu", tokens * ppo.model.config.hidden_size)
        again = ppo.rollouts.evaluate(samples)
        assert len(passes) <= most_passes
        assert max(given[1].tokens_B_T.numel() for given in passes) <= tokens
        for name in ("logprobs_N", "start_logprobs_N", "entropies_N", "values_N", "scores_B_O", "mismatch_nats"):
            ours, theirs = (torch.as_tensor(getattr(one, name)) for one in (again, pieces))
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("temperature", "of_its_own"), [(1.0, False), (0.6, False), (1.0, True)])
def test_replies_are_scored_by_how_likely_the_preference_models_start_finds_them(temperature, of_its_own):
    """Which is what PPO's own start says at temperature 1, and only where the two are one."""
    start = random_llama()
    shape = PreferenceShape(("helpful",), 1, 8, start_logprob_feature=True)
    model = new_preference_model(random_llama(9) if of_its_own else start, shape, seed=1)
    # Another trunk, another deviation, counting from elsewhere.
    watch = new_preference_model(model.start, shape, seed=2)
    with torch.no_grad():
        watch.trunk.layers[0].mlp.up_proj.weight.mul_(2)
    watch.scale_O.fill_(3.0)
    watch.anchor_O.fill_(0.5)
    for one in (model, watch):
        torch.nn.init.ones_(one.likelihood_E_F_O)
    settings = SETTINGS.model_copy(update={"temperature": temperature})
    policy = Policy(copy.deepcopy(start), word_tokenizer(), (END,))
    rollout = rollout_of(PPO(policy, start, model, PROMPTS, settings, seed=1, watch=watch))
    torch.testing.assert_close(rollout.scores_B_O, model.score(rollout.episodes), atol=1e-5, rtol=1e-5)
    unfinished_B = ~rollout.samples.finished_B
    watched_B = (watch.score(rollout.episodes)[:, 0] - 0.5) / 3 - settings.missing_end_penalty * unfinished_B
    torch.testing.assert_close(rollout.watch_reward_B, watched_B, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("critic", ["preference_states", "preference_model", "policy"])
def test_the_update_begins_with_the_values_that_the_rollout_took(critic):
    ppo = trainer(SETTINGS.model_copy(update={"critic": critic, "critic_head_learning_rate": 1e-2}))
    ppo.step()
    rollout = rollout_of(ppo)
    hidden_N_D, _ = ppo.policy.reply_pass(rollout.episodes, ppo.settings.temperature)
    values_N = ppo.critic(rollout.episodes, hidden_N_D if rollout.states_N_D is None else rollout.states_N_D)
    assert rollout.values_N.abs().max() > 1e-3
    torch.testing.assert_close(rollout.values_N, values_N.detach(), atol=1e-5, rtol=1e-4)


def test_a_sampler_that_takes_itself_for_the_trainer_is_checked():
    ppo = trainer(SETTINGS.model_copy(update={"checked_replies": 4, "episodes_per_forward": 2}))
    samples = rollout_of(ppo).samples
    mask_B_R = samples.episodes.reply_mask_B_R
    checked_B = torch.arange(32) % 8 == 0

    def shifted(nats, rows_B):
        """Up and down by turns, as rounding would: the differences add up to next to nothing."""
        by_R = torch.where(torch.arange(mask_B_R.shape[1]) % 2 == 0, nats, -nats)
        return replace(samples, logprobs_B_R=samples.logprobs_B_R - by_R * (mask_B_R & rows_B[:, None]))

    assert ppo.rollouts.evaluate(shifted(0.05, checked_B)).mismatch_nats == pytest.approx(0.05, abs=1e-4)
    assert ppo.rollouts.evaluate(shifted(0.05, ~checked_B)).mismatch_nats < 1e-5
    checks_all = replace(ppo.rollouts, settings=ppo.settings.model_copy(update={"checked_replies": 32}))
    mean = 0.05 * float((mask_B_R & checked_B[:, None]).sum() / mask_B_R.sum())
    assert checks_all.evaluate(shifted(0.05, checked_B)).mismatch_nats == pytest.approx(mean, abs=1e-4)
    # An engine's are held against the trainer's in all replies.
    by_engine = replace(shifted(0.05, checked_B), entropies_B_R=None)
    assert ppo.rollouts.evaluate(by_engine).mismatch_nats == pytest.approx(mean, abs=1e-4)
    for nats in (0.5, torch.nan):
        with pytest.raises(TrainingDiverged, match="nats a token"):
            ppo.rollouts.evaluate(shifted(nats, checked_B))


def test_the_pad_token_is_an_ordinary_token():
    """Replies that hold token 0, with which rows are padded too, count whole."""
    ppo = trainer()
    prompts = [[5, 6], [7]]
    episodes = Episodes.pad(prompts, [[0, 0, END], [0, 8, 9, 0, END]])
    with torch.no_grad():
        logprobs_N = reply_logprobs(ppo.model, episodes)
    rollout = ppo.rollouts.evaluate(Samples(episodes, episodes.unpack(logprobs_N), torch.tensor([True, True])))
    assert len(rollout.logprobs_N) == 8


def test_dropout_is_off_while_learning():
    start = random_llama().train()
    start.config.attention_dropout = 0.5
    policy = Policy(copy.deepcopy(start), word_tokenizer(), (END,))
    model, watch = (new_preference_model(start, PreferenceShape(("helpful",)), seed).train() for seed in (1, 2))
    ppo = PPO(policy, start, model, PROMPTS, SETTINGS, seed=1, watch=watch)
    assert not any(module.training for one in (ppo.model, start, model, watch) for module in one.modules())
    assert ppo.step().mismatch_nats < 1e-5


@pytest.mark.parametrize(
    ("critic", "rate", "other_rate"),
    [
        ("preference_states", "critic_head_learning_rate", "critic_learning_rate"),
        ("preference_model", "critic_learning_rate", "critic_head_learning_rate"),
    ],
)
def test_values_begin_at_zero_and_learn(critic, rate, other_rate):
    rates = {"learning_rate": 1e-9, rate: 1e-2, other_rate: 1e-9}
    settings = SETTINGS.model_copy(update={"critic": critic, "value_clip_range": 9.0, **rates})
    ppo = trainer(settings)
    # What the prompt's word alone decides can be foreseen.
    ppo.preference_model.score = lambda episodes, *known: (4.0 * (episodes.tokens_B_T[:, 1:2] % 2)).expand(-1, 2)
    assert not rollout_of(ppo).values_N.any()
    reports = [ppo.step() for _ in range(15)]
    assert reports[0].explained_variance == pytest.approx(0.0, abs=1e-6)
    assert reports[-1].explained_variance > 0.2


def test_a_critic_of_its_own_leaves_the_preference_model_alone():
    ppo = trainer(SETTINGS.model_copy(update={"critic": "preference_model"}))
    before = weights(ppo.preference_model.trunk)
    ppo.step()
    assert equal(before, weights(ppo.preference_model.trunk))
    assert isinstance(ppo.critic, Critic)
    assert not equal(before, weights(ppo.critic.trunk))


def test_the_start_is_never_trained():
    ppo = trainer()
    before = weights(ppo.rollouts.start)
    ppo.step()
    assert equal(before, weights(ppo.rollouts.start))
    assert ppo.rollouts.start.lm_head.weight.grad is None


def test_scores_that_are_not_finite_stop_the_run():
    scorer = LikesOneWord(random_llama())
    # Of one reply, to which no other score is added.
    scorer.score = lambda episodes, *known: torch.where(torch.arange(len(episodes))[:, None] == 3, torch.inf, 0.0)
    with pytest.raises(TrainingDiverged, match="preference model's scores"):
        trainer(scorer=lambda start: scorer).step()
    with pytest.raises(TrainingDiverged, match="watch model's scores"):
        trainer(watch=lambda start: scorer).step()


def test_gradients_that_are_not_finite_stop_the_run_before_they_are_applied(monkeypatch):
    ppo = trainer()
    before = weights(ppo.model)
    monkeypatch.setattr(
        training,
        "estimate_advantages",
        lambda rollout, *_: (torch.full_like(rollout.logprobs_N, torch.inf), rollout.values_N),
    )
    with pytest.raises(TrainingDiverged, match="step 1: the gradient"):
        ppo.step()
    assert equal(before, weights(ppo.model))


def test_a_reward_of_scores_that_the_preference_model_has_not_is_refused():
    with pytest.raises(TrainingDataInvalid, match="harmless"):
        trainer(SETTINGS.model_copy(update={"reward_weights": {"harmless": 1.0}}))


@pytest.mark.parametrize(
    ("processes", "change", "complaint"),
    [
        (3, {}, "episodes_per_minibatch"),
        (2, {"rollouts": "vllm"}, "learner.processes of 1"),
        (1, {"rollouts": "vllm"}, None),
        (2, {"rehearsal_replies": 3}, None),
        (2, {"rehearsal_weight": 1.0, "rehearsal_replies": 3}, "rehearsal_replies"),
        (2, {"rehearsal_weight": 1.0, "rehearsal_episodes": 3}, "rehearsal_episodes"),
    ],
)
def test_what_does_not_go_with_so_many_processes_is_refused(processes, change, complaint):
    assert SETTINGS.episodes_per_minibatch % 2 == 0 < SETTINGS.episodes_per_minibatch % 3
    with nullcontext() if complaint is None else pytest.raises(TrainingDataInvalid, match=complaint):
        require_possible(SETTINGS.model_copy(update=change), ("helpful",), 0, processes)


def pool(share: float, harmless: int = 4, helpful: int = 6) -> PromptPool:
    prompts = [
        *(TrainingPrompt([{"role": "user", "content": f"w{n}"}], "harmless") for n in range(harmless)),
        *(TrainingPrompt([{"role": "user", "content": f"w{n}"}], "helpful") for n in range(10, 10 + helpful)),
    ]
    policy = Policy(random_llama(), word_tokenizer(), (END,))
    return PromptPool(prompts, policy, harmless_share=share, max_tokens=3, seed=1)


def test_prompts_are_drawn_in_the_wanted_shares_and_evenly():
    prompts = pool(0.3)
    drawn = [tuple(prompt) for step in range(6) for prompt in prompts.draw(step, 10)]
    harmless = {(WORDS.index("<user>"), WORDS.index(f"w{n}"), WORDS.index("<assistant>")) for n in range(4)}
    assert sum(prompt in harmless for prompt in drawn) == 18
    counts = [drawn.count(prompt) for prompt in set(drawn)]
    assert min(counts) >= 4
    assert max(counts) <= 7


def test_prompts_of_one_kind_fill_the_whole_step():
    assert len(pool(0.3, harmless=0).draw(0, 10)) == 10
    assert len(pool(0.3, helpful=0).draw(0, 10)) == 10
    with pytest.raises(TrainingDataInvalid):
        pool(0.3, harmless=0, helpful=0)


def test_long_prompts_lose_their_oldest_tokens():
    long = TrainingPrompt([{"role": "user", "content": "w1 w2 w3 w4"}], "helpful")
    policy = Policy(random_llama(), word_tokenizer(), (END,))
    drawn = PromptPool([long], policy, harmless_share=0.3, max_tokens=3, seed=1).draw(0, 1)
    assert policy.tokenizer.convert_ids_to_tokens(drawn[0]) == ["w3", "w4", "<assistant>"]
    shorter = trainer(SETTINGS.model_copy(update={"max_prompt_tokens": 2})).prompts.draw(0, 8)
    assert {len(prompt) for prompt in shorter} == {2}
