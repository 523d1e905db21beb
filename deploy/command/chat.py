"""`tandem chat`: a conversation in the terminal; some turns show two replies, and a key press votes."""

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import ApiKey, Home, Json, Url, check_objective
from feedback.errors import InvalidRequest, TandemError

if TYPE_CHECKING:
    from deploy.command.api import Api

PAIRS_AT_A_TERMINAL = 0.3
NEW_CONVERSATION = "/new"


def chat(
    pairs: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Share of the turns that show two replies to choose from (0.3)."
        ),
    ] = None,
    objective: Annotated[str, typer.Option(metavar="helpful|harmless", help="What to judge pairs by.")] = "helpful",
    model: Annotated[str, typer.Option(metavar="MODEL", help="`tandem`, or a version such as `tandem@v1`.")] = "tandem",
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Chat in the terminal. A turn that shows two replies asks which is better, and goes on with that one.

    Where stdin is not a terminal each of its lines is a prompt of one conversation, and stdout gets the replies.
    """
    from deploy.command.api import open_api

    check_objective(objective)
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty() and not json
    if pairs and not at_terminal:
        raise InvalidRequest("--pairs needs a terminal to show them and to vote at", param="pairs")
    with open_api(home, url, key) as api:
        conversation = Conversation(api, model, objective)
        if at_terminal:
            talk(conversation, PAIRS_AT_A_TERMINAL if pairs is None else pairs)
        else:
            answer_lines(conversation, json)


@dataclass
class Conversation:
    """What was said so far, and with whom. `messages` holds finished turns only."""

    api: "Api"
    model: str
    objective: str
    messages: list[dict[str, str]] = field(default_factory=list)

    def chunks(self, prompt: str, n: int) -> Iterator[dict[str, Any]]:
        """The streamed answer to `prompt` as the next turn. Raises ApiRefused."""
        from deploy.command.api import ApiRefused

        body = {"model": self.model, "messages": [*self.messages, user(prompt)], "n": n, "stream": True}
        for event in self.api.events("POST", "/v1/chat/completions", json=body):
            if "error" in event.data:
                raise ApiRefused(event.data["error"]["message"], status=500)
            yield event.data

    def reply(self, prompt: str, show: Callable[[str], None] = lambda _piece: None) -> tuple[str, str | None]:
        """One reply as the next turn, of which `show` is told as it is written; and the version that wrote it."""
        text, version = "", None
        for chunk in self.chunks(prompt, 1):
            version = chunk.get("system_fingerprint") or version
            for choice in chunk["choices"]:
                piece = choice["delta"].get("content") or ""
                text += piece
                show(piece)
        self.finish_turn(prompt, text)
        return text, version

    def finish_turn(self, prompt: str, reply: str) -> None:
        self.messages += [user(prompt), {"role": "assistant", "content": reply}]


def user(prompt: str) -> dict[str, str]:
    return {"role": "user", "content": prompt}


def talk(conversation: Conversation, pair_share: float) -> None:
    """A conversation with a person, until the input ends."""
    from contextlib import suppress

    from deploy.command.api import NotRunning
    from deploy.command.output import say

    with suppress(ImportError):  # a Python that was built without it
        import readline  # noqa: F401  (gives `input` its editing and history)
    say(f"Ctrl-D ends, Ctrl-C stops a reply, {NEW_CONVERSATION} begins a new conversation.")
    while True:
        try:
            prompt = input("\nyou: ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if prompt == NEW_CONVERSATION:
            conversation.messages.clear()
        elif prompt:
            try:
                if random.random() < pair_share:
                    take_pair_turn(conversation, prompt)
                else:
                    take_turn(conversation, prompt)
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                say("\nstopped; this turn is forgotten")
            except NotRunning:
                raise
            except TandemError as error:
                say(error.message)


def take_turn(conversation: Conversation, prompt: str) -> None:
    """One reply, shown as it is written."""
    from deploy.command.output import clean, say

    _, version = conversation.reply(prompt, lambda piece: print(clean(piece), end="", flush=True))
    print()
    say(f"[{version}]")


def take_pair_turn(conversation: Conversation, prompt: str) -> None:
    """Two replies side by side, a vote, and the better one as the turn's reply."""
    from deploy.command.output import say
    from deploy.command.pairs import ask_for_vote, show_pair

    pair = show_pair(conversation.chunks(prompt, 2))
    ballot = ask_for_vote()
    if ballot is not None and pair.comparison_id is not None:
        body = {"objective": conversation.objective, "preferred": ballot.preferred, "strength": ballot.strength}
        vote = conversation.api.call("PUT", f"/v1/comparisons/{pair.comparison_id}/vote", json=body)
        say(f"vote {vote['status']}: {ballot}")
    chosen = ballot.preferred if ballot is not None and isinstance(ballot.preferred, int) else 0
    if ballot is None or not isinstance(ballot.preferred, int):
        say("going on with the left reply")
    conversation.finish_turn(prompt, pair.replies[chosen])


def answer_lines(conversation: Conversation, as_json: bool) -> None:
    """A conversation whose prompts are the lines of stdin."""
    from deploy.command.output import print_json

    for line in sys.stdin:
        prompt = line.strip()
        if not prompt:
            continue
        text, version = conversation.reply(prompt)
        if as_json:
            print_json({"prompt": prompt, "reply": text, "version": version})
        else:
            print(text)
        sys.stdout.flush()
