"""How `POST /v1/chat/completions` is described in the openapi document. The route itself reads no such description:
it passes on what vLLM understands.
"""

from typing import Any

from serve.chat.request import ANSWER_FIELDS, IGNORED_FIELDS, ROLES, SAMPLING_FIELDS

MESSAGE: dict[str, Any] = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"type": "string", "enum": ROLES},
        "content": {
            "anyOf": [
                {"type": "string"},
                {"type": "null"},
                {"type": "array", "items": {"type": "object", "required": ["type"]}},
            ]
        },
    },
}
REQUEST: dict[str, Any] = {
    "type": "object",
    "required": ["model", "messages"],
    "additionalProperties": False,
    "properties": {
        "model": {"type": "string", "description": "`tandem` for whatever serves, `tandem@vN` for one version."},
        "messages": {"type": "array", "minItems": 1, "items": MESSAGE},
        "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 2, "description": "2 makes a comparison."},
        "best_of": {
            "type": ["integer", "null"],
            "minimum": 1,
            "description": "Have so many replies written for each choice and get the one that the preference model "
            "likes best; at most `serve.max_best_of`.",
        },
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {
                "include_usage": {"type": ["boolean", "null"]},
                "include_obfuscation": {"description": "OpenAI's. Without effect here."},
            },
        },
        "seed": {"type": ["integer", "null"]},
        "user": {"type": ["string", "null"], "maxLength": 200},
        "safety_identifier": {"type": ["string", "null"], "maxLength": 200},
        "logprobs": {"type": ["boolean", "null"]},
        "top_logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
        "return_token_ids": {"type": ["boolean", "null"]},
        **{
            name: {"description": "As in OpenAI's or vLLM's chat completions."}
            for name in sorted(SAMPLING_FIELDS | ANSWER_FIELDS)
        },
        **{name: {"description": "OpenAI's. Without effect here."} for name in sorted(IGNORED_FIELDS)},
        "modalities": {"type": ["array", "null"], "items": {"const": "text"}, "minItems": 1, "maxItems": 1},
    },
}
CHOICE: dict[str, Any] = {
    "type": "object",
    "required": ["index", "message", "finish_reason"],
    "properties": {
        "index": {"type": "integer"},
        "message": {"type": "object"},
        "logprobs": {"type": ["object", "null"]},
        "finish_reason": {"type": "string"},
    },
}
ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "chat.completion"},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "system_fingerprint": {"type": "string", "description": "The policy version. Not there in a comparison."},
        "comparison_id": {"type": "string", "description": "There in a comparison (`n: 2`): vote on it."},
        "choices": {"type": "array", "items": CHOICE},
        "usage": {"type": "object"},
    },
}
CHAT_COMPLETIONS: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": REQUEST}}},
    "responses": {
        "200": {
            "description": "A chat completion; with `stream`, its chunks as server-sent events.",
            "content": {"application/json": {"schema": ANSWER}, "text/event-stream": {"schema": {"type": "string"}}},
        },
    },
}
