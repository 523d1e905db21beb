"""Policies on disk: untied, safetensors only, complete, finite, and with a probe that tells the truth."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import normalizers

from feedback import manifest
from feedback.errors import PickledWeightsRefused, PolicyInvalid
from learner.errors import CodeRefused
from learner.policy import Policy, _tell_of_turns, load_policy, probe, save_policy
from tests.learner.conftest import END, random_llama, word_tokenizer

HELLO = [{"role": "user", "content": "w1 w2"}]


@pytest.fixture
def folder(policy, tmp_path):
    save_policy(policy, tmp_path / "v1")
    return tmp_path / "v1"


def test_saved_and_loaded_it_is_the_same(policy, folder):
    loaded = load_policy(folder, device="cpu")
    assert loaded.end_ids == (END,)
    assert loaded.encode_chat(HELLO) == policy.encode_chat(HELLO)
    for name, tensor in policy.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name])


def test_of_what_is_cut_afterwards_no_index_errors_are_foretold(folder):
    loaded = load_policy(folder, device="cpu")
    loaded.tokenizer.model_max_length = 1
    assert len(loaded.encode_chat(HELLO)) > 1 and len(loaded.encode_reply("w1 w2")) > 1
    # Where the library keeps what it has warned of.
    assert not loaded.tokenizer.deprecation_warnings


def test_a_chat_is_encoded_in_the_template(policy):
    words = policy.tokenizer.convert_ids_to_tokens(policy.encode_chat(HELLO))
    assert words == ["<user>", "w1", "w2", "<assistant>"]
    assert policy.encode_reply("w3 w4")[-1] == END
    assert policy.decode(policy.encode_reply("w3 w4")) == "w3 w4"
    assert policy.tokenizer.convert_ids_to_tokens(policy.encode_reply("w3", ended=False)) == ["w3"]


def test_a_reply_cut_off_before_its_first_token_is_its_end(policy):
    policy.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    assert policy.encode_reply("", ended=False) == policy.encode_reply("\u200b", ended=False) == [END]


def test_parts_of_text_are_said_as_one_text(policy):
    parts = [{"type": "text", "text": "w1"}, {"type": "text", "text": "w2"}]
    assert policy.encode_chat([{"role": "user", "content": parts}]) == policy.encode_chat(HELLO)
    nothing = [*HELLO, {"role": "assistant", "content": None}]
    assert policy.encode_chat(nothing) == policy.encode_chat([*HELLO, {"role": "assistant", "content": ""}])


def test_what_a_template_refuses_is_said_in_turns(policy, caplog):
    """One that knows no system message and wants turns to alternate, as Gemma's. The log says so once."""
    _tell_of_turns.cache_clear()
    plain = policy.tokenizer.chat_template
    policy.tokenizer.chat_template = (
        "{%- for message in messages -%}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
        "{{- raise_exception('no') -}}{%- endif -%}{%- endfor -%}" + plain
    )
    told = [("system", "w1"), ("user", "w2"), ("assistant", "w3"), ("assistant", "w4"), ("user", "w5")]
    turns = [("user", "w1\n\nw2"), ("assistant", "w3\n\nw4"), ("user", "w5")]
    refused, taken = ([{"role": role, "content": text} for role, text in said] for said in (told, turns))
    assert policy.encode_chat(refused) == policy.encode_chat(taken)
    assert policy.encode_chat([{"role": "assistant", "content": "w9"}, *taken]) == policy.encode_chat(taken)
    assert [record.levelno for record in caplog.records if record.name == "learner.policy"] == [logging.WARNING]
    nobody_asks, asked = ([{"role": role, "content": "w9"}] for role in ("assistant", "user"))
    assert policy.encode_chat(nobody_asks) == policy.encode_chat(asked)
    policy.tokenizer.chat_template = "{{- raise_exception('never') -}}"
    with pytest.raises(PolicyInvalid, match="never"):
        policy.encode_chat(taken)


@pytest.mark.parametrize(
    "broken", ["{{ messages[0].said.text }}", "{% if %}", "{{ nothing_of_that_name() }}", "{{ 1 + 'w' }}"]
)
def test_a_broken_template_refuses_nothing(policy, broken):
    """Nor is it passed over for conversations that some branch of it takes."""
    takes_turns = "{%- if messages[0]['role'] == 'user' -%}" + policy.tokenizer.chat_template + "{%- else -%}"
    policy.tokenizer.chat_template = takes_turns + broken + "{%- endif -%}"
    with pytest.raises(PolicyInvalid, match="broken"):
        policy.encode_chat([{"role": "system", "content": "w1"}, *HELLO])


def test_a_template_reaches_no_commands(policy, tmp_path):
    made = tmp_path / "made"
    policy.tokenizer.chat_template = "{{ cycler.__init__.__globals__.os.popen('touch " + str(made) + "').read() }}"
    with pytest.raises(PolicyInvalid, match="SecurityError"):
        policy.encode_chat(HELLO)
    assert not made.exists()


CALLS = (
    "{%- for message in messages -%}{{- '<' + {'user': 'user', 'assistant': 'assistant'}[message.role] + '> ' -}}"
    "{{- message.content + ' ' -}}{%- for call in message.tool_calls or [] -%}{{- call.function.name + ' ' -}}"
    "{%- for name, value in call.function.arguments | items -%}{{- name + ' ' + value + ' ' -}}{%- endfor -%}"
    "{%- endfor -%}{%- endfor -%}"
)


def test_arguments_of_a_call_reach_the_template_as_an_engine_gives_them(policy):
    """Read: clients send the text of an object."""
    policy.tokenizer.chat_template = CALLS

    def words(arguments):
        call = {"type": "function", "id": "c", "function": {"name": "w3", "arguments": arguments}}
        said = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}, *HELLO]
        return policy.tokenizer.convert_ids_to_tokens(policy.encode_chat(said))

    called = ["<user>", "w1", "w2", "<assistant>", "w3"]
    assert words('{"w4": "w5"}') == words({"w4": "w5"}) == [*called, "w4", "w5", *called[:3]]
    for nothing in ('{"w4": ', "[1]", "", None, "[" * 100_000, 7):
        assert words(nothing) == [*called, *called[:3]]


def test_what_clients_send_as_null_is_not_there(policy):
    """As engines have it: templates ask by `in` whether there are calls, and break on calls that are none."""
    policy.tokenizer.chat_template = (
        "{%- for message in messages -%}{{- '<' + message.role + '> ' + message.content + ' ' -}}"
        "{%- if 'tool_calls' in message -%}{{- message.tool_calls[0].function.name + ' ' -}}{%- endif -%}{%- endfor -%}"
    )
    call = {"type": "function", "id": "c", "function": {"name": "w3", "arguments": "{}"}}
    nulls = dict.fromkeys(("name", "tool_calls", "function_call", "refusal"))
    called = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    said = policy.encode_chat([*HELLO, called, {"role": "assistant", "content": "w4", **nulls}])
    assert policy.tokenizer.convert_ids_to_tokens(said)[3:] == ["<assistant>", "w3", "<assistant>", "w4"]


def test_what_engines_leave_out_of_a_message_the_template_does_not_see(policy):
    """Of reasoning they know one name, and give it by two."""
    policy.tokenizer.chat_template = (
        "{%- for message in messages -%}{%- for name, value in message | items -%}{%- if name != 'role' -%}"
        "{{- value + ' ' -}}{%- endif -%}{%- endfor -%}{%- endfor -%}"
    )

    def seen(**fields):
        said = policy.encode_chat([*HELLO, {"role": "assistant", "content": "w3", **fields}])
        return sorted(policy.tokenizer.convert_ids_to_tokens(said))

    assert seen(reasoning_content="w4", thinking="w5", prefix="w6") == seen()
    assert seen(reasoning="w4", name="w5") == sorted([*seen(), "w4", "w4", "w5"])


@pytest.mark.parametrize("broken_on_text", [False, True])
def test_a_template_that_goes_through_parts_is_given_them(policy, broken_on_text):
    """As engines do. It would be silent of what a text says, a letter of which has no text."""
    plain = policy.encode_chat(HELLO)
    words = "{{- part.text + ' ' -}}" if broken_on_text else "{{- (part.text or '') + ' ' -}}"
    policy.tokenizer.chat_template = (
        "{%- for message in messages -%}{{- '<' + message.role + '> ' -}}{%- for part in message.content -%}"
        + words
        + "{%- endfor -%}{%- endfor -%}{%- if add_generation_prompt -%}{{- '<assistant>' -}}{%- endif -%}"
    )
    assert policy.encode_chat(HELLO) == plain


def test_of_several_templates_a_chat_is_encoded_in_the_default_one(policy):
    plain = policy.encode_chat(HELLO)
    policy.tokenizer.chat_template = {"tool_use": "another", "default": policy.tokenizer.chat_template}
    assert policy.encode_chat(HELLO) == plain
    del policy.tokenizer.chat_template["default"]
    with pytest.raises(PolicyInvalid, match="multiple chat templates"):
        policy.encode_chat(HELLO)


@pytest.mark.parametrize(
    "odd",
    [{"tool_calls": calls} for calls in (5, [5], "w3", {"w3": 1}, [{"function": {"name": 3, "arguments": "{}"}}])]
    + [{"role": "narrator"}],
)
def test_what_else_a_message_holds_breaks_no_template(policy, odd):
    """Else a single imported record would end every iteration."""
    policy.tokenizer.chat_template = CALLS
    role = "user" if "role" in odd else "assistant"
    said, plain = ([*HELLO, {"role": role, "content": "w3", **more}, *HELLO] for more in (odd, {}))
    assert policy.encode_chat(said) == policy.encode_chat(plain)


@pytest.mark.parametrize(("turn_ends_with", "first"), [("<pad>", 0), ("<end>", END), ("", END)])
def test_the_end_of_a_written_reply_is_the_chat_templates(policy, tmp_path, turn_ends_with, first):
    """As where a turn ends with one token and a document with another, and the tokenizer names the latter."""
    policy.tokenizer.chat_template = (
        "{%- for message in messages -%}{{- '<' + message['role'] + '> ' + message['content'] + ' "
        + turn_ends_with
        + " ' -}}{%- endfor -%}{{- '<assistant>' if add_generation_prompt else '<end>' -}}"
    )
    policy.model.generation_config.eos_token_id = [END, 0]
    save_policy(policy, tmp_path)
    loaded = load_policy(tmp_path, "cpu")
    assert loaded.encode_reply("w1")[-1] == first
    assert set(loaded.end_ids) == {END, 0}


def test_an_end_that_the_model_has_no_word_for_ends_nothing(policy, tmp_path):
    """A written reply that is given it could not be read."""
    policy.model.generation_config.eos_token_id = [999, END, -1]
    save_policy(policy, tmp_path)
    assert load_policy(tmp_path, "cpu").end_ids == (END,)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token": None}))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 999}')
    with pytest.raises(PolicyInvalid, match="names an end token of the model"):
        load_policy(tmp_path, "cpu")


def test_a_tied_policy_is_written_untied_and_stays_tied_in_memory(tmp_path):
    tied = Policy(random_llama(tied=True), word_tokenizer(), (END,))
    save_policy(tied, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert torch.equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"])
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is False
    assert tied.model.config.tie_word_embeddings
    inputs = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(tied.model(inputs).logits, load_policy(tmp_path, "cpu").model(inputs).logits)


def test_the_probe_holds_the_greedy_continuation_and_its_logprobs(policy, folder):
    written = json.loads((folder / "probe.json").read_text())
    assert written == json.loads(json.dumps(probe(policy.model, policy.tokenizer)))
    assert written["dtype"] == "float32"
    for item in written["items"]:
        start, tokens = item["prompt_length"], torch.tensor([item["tokens"]])
        logprobs = torch.log_softmax(policy.model(tokens).logits[0, start - 1 : -1], dim=-1)
        assert logprobs.argmax(dim=-1).tolist() == item["tokens"][start:]
        assert logprobs.amax(dim=-1).tolist() == pytest.approx(item["logprobs"], abs=1e-5)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(PickledWeightsRefused, match="convert"):
        load_policy(folder, "cpu")


@pytest.mark.parametrize("needed", [False, True])
def test_code_that_comes_with_a_model_is_never_run(folder, tmp_path, monkeypatch, needed):
    """Not even where somebody says yes to all that is asked; who does not need it may name it, as many on a hub do."""
    ran, answered = tmp_path / "ran", []
    monkeypatch.setattr("builtins.input", lambda *_: answered.append("y") or "y")
    (folder / "own.py").write_text(
        f"open({str(ran)!r}, 'w')\n"
        "from transformers import LlamaConfig as OwnConfig, LlamaForCausalLM as OwnModel\n"
        "from transformers import PreTrainedTokenizerFast as OwnTokenizer\n"
    )
    for name, kinds in (
        ("config.json", {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}),
        ("tokenizer_config.json", {"AutoTokenizer": [None, "own.OwnTokenizer"]}),
    ):
        said = json.loads((folder / name).read_text()) | {"auto_map": kinds}
        (folder / name).write_text(json.dumps(said | ({"model_type": "own"} if needed else {})))
    if needed:
        with pytest.raises(CodeRefused, match="never run"):
            load_policy(folder, "cpu")
    else:
        published = tmp_path / "v2"
        save_policy(load_policy(folder, "cpu"), published)
        manifest.write(published)
        assert load_policy(published, "cpu").encode_chat(HELLO) == load_policy(folder, "cpu").encode_chat(HELLO)
    assert not ran.exists() and answered == []


@pytest.mark.parametrize(
    "damage", ["missing tensor", "other shape", "cut file", "no tokenizer", "no config", "no folder"]
)
def test_a_damaged_folder_is_refused(folder, damage):
    weights_file = folder / "model.safetensors"
    weights = load_file(weights_file)
    if damage == "missing tensor":
        del weights["model.layers.1.mlp.up_proj.weight"]
        save_file(weights, weights_file, metadata={"format": "pt"})
    elif damage == "other shape":
        weights["model.norm.weight"] = torch.ones(7)
        save_file(weights, weights_file, metadata={"format": "pt"})
    elif damage == "cut file":
        weights_file.write_bytes(weights_file.read_bytes()[:1000])
    elif damage == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif damage == "no config":
        (folder / "config.json").unlink()
    else:
        folder = folder / "elsewhere"
    with pytest.raises(PolicyInvalid):
        load_policy(folder, "cpu")


@pytest.mark.parametrize(
    "said",
    ["[]", '{"num_attention_heads": 0}', '{"hidden_size": "big"}', '{"dtype": "nope"}',
     '{"quantization_config": {"quant_method": "gptq"}}'],
)  # fmt: skip
def test_a_configuration_that_is_none_is_refused(folder, said):
    config = json.loads((folder / "config.json").read_text())
    more = json.loads(said)
    (folder / "config.json").write_text(json.dumps(config | more if more else more))
    with pytest.raises(PolicyInvalid, match="cannot be loaded"):
        load_policy(folder, "cpu")


def test_weights_that_are_not_finite_are_not_written(policy, tmp_path):
    with torch.no_grad():
        policy.model.model.norm.weight[3] = torch.nan
    with pytest.raises(PolicyInvalid, match=r"model\.norm\.weight"):
        save_policy(policy, tmp_path / "v1")
    assert not (tmp_path / "v1").exists()


def test_a_tokenizer_without_chat_template_is_refused_by_name(policy):
    policy.tokenizer.chat_template = None
    with pytest.raises(PolicyInvalid, match="chat template"):
        policy.encode_chat(HELLO)
