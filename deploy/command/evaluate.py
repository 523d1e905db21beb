"""`tandem evaluate`: measure a version again, and what it can still do, and show everything that is known of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import ApiKey, Home, Json, Url
from deploy.command.policies import LOAD_TIMEOUT_S, Version, print_gate
from feedback.errors import Conflict, InvalidRequest

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from deploy.command.api import Api
    from feedback.tax.harness import Asked, Target
    from feedback.tax.tasks import Task

Against = Annotated[
    str | None, typer.Option(metavar="VERSION", help="Before: by default the version it was trained from.")
]
Tasks = Annotated[
    list[Path] | None,
    typer.Option("--task", metavar="FILE", help="A task from a JSON Lines file; again for more (docs/gate.md)."),
]
Builtin = Annotated[
    bool | None,
    typer.Option("--builtin/--no-builtin", help="The built-in suite; by default for the built-in policy alone."),
]
Harness = Annotated[
    list[str] | None,
    typer.Option(
        "--harness",
        metavar="TASK",
        help="A task of EleutherAI's lm-eval by name, if that is installed; again for more.",
    ),
]
Include = Annotated[
    Path | None, typer.Option("--harness-include", metavar="DIR", help="Further lm-eval tasks as YAML files.")
]
Python = Annotated[
    Path | None,
    typer.Option(
        "--harness-python", metavar="PATH", help="The Python of the environment that has lm-eval; or this one."
    ),
]
Limit = Annotated[
    int | None, typer.Option("--harness-limit", min=1, metavar="N", help="Only so many questions of each lm-eval task.")
]

Replies = Annotated[
    bool | None,
    typer.Option(
        "--replies/--no-replies",
        help="Replies to held-out prompts, from the weights in the home; by default where it has all that takes.",
    ),
]
Weights = Annotated[
    bool,
    typer.Option(
        "--harness-weights", help="Have lm-eval read the weights in the home: for tasks that weigh given answers."
    ),
]


def evaluate(
    version: Version,
    replies: Replies = None,
    against: Against = None,
    task: Tasks = None,
    builtin: Builtin = None,
    harness: Harness = None,
    harness_include: Include = None,
    harness_python: Python = None,
    harness_limit: Limit = None,
    harness_weights: Weights = False,
    concurrency: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="How many questions at a time.")] = 8,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Measure a version again, keep that with its evidence, and show all of it.

    Its replies to held-out prompts are compared with the starting policy's and with those of what serves by now, as at
    the end of its iteration. Its alignment tax is asked of the running engines: before and after get the same
    questions, greedily, each loaded into an engine in turn; chats go on meanwhile.
    """
    from deploy.command.api import home_of, open_api, route
    from deploy.command.output import print_json, say
    from feedback.tax.harness import Asked

    with open_api(home, url, key) as api:
        policy = api.get(route("policies", version))
        before = against or policy["parent"]
        if before is None or before == version:
            raise InvalidRequest(f"{version} came from no other version; name one to measure it --against")
        suite = chosen(api, task or [], builtin, bool(harness))
        again = measure_replies(home_of(home), policy, replies)
        weights = home_of(home) / "policies" if harness_weights else None
        measured = Measuring(api, before, version, concurrency, weights)
        asked = None
        if harness:
            of = {} if harness_python is None else {"python": harness_python}
            asked = Asked(tuple(harness), harness_include, harness_limit, **of)
        try:
            found = measured.all_of(suite, asked)
        finally:
            measured.leave()
        for name, figures in found.items():
            api.call("PUT", route("policies", version, "evidence", name), json=figures)
        policy = api.get(route("policies", version))
    if json:
        print_json(policy)
        return
    for name, figures in found.items():
        print_tax(name, figures)
    print_figures(policy)
    print_gate(policy["gate"])
    if not found and not again:
        say(
            "nothing was measured anew: name a --task or a --harness task (the built-in suite is the built-in policy's)"
        )


def measure_replies(home: Path, policy: dict[str, Any], wanted: bool | None) -> bool:
    """Evaluate the replies of `policy` again in this home. Returns whether that was done.

    Raises Conflict where it is `wanted` but the home lacks what it takes; where None is said, it is then left.
    """
    if wanted is False or not (wanted or (home / "policies" / policy["version"]).exists()):
        return False
    from deploy.command.output import say
    from deploy.command.record import open_record
    from feedback.schema import version_number
    from feedback.store import audit, policies
    from learner.measure_again import measure_again

    number = version_number(policy["version"])
    with open_record(home, must_exist=True) as (store, settings):
        try:
            evaluation = measure_again(store, settings, number)
        except Conflict as error:
            if wanted:
                raise
            say(error.message)
            return False
        store.write(policies.evaluated_again, number, evaluation, actor=audit.AT_THE_MACHINE)
    return True


def chosen(api: "Api", files: list[Path], builtin: bool | None, harness: bool) -> list["Task"]:
    """The built-in suite where it makes sense or was asked for, and the files'. Raises InvalidRequest."""
    from feedback.tax.tasks import builtin_suite, read_task

    if builtin is None:
        builtin = not files and not harness and api.get("/v1/policies/v0")["settings"].get("policy") == "builtin"
    suite = [*(builtin_suite() if builtin else []), *map(read_task, files)]
    names = [task.name for task in suite]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InvalidRequest(f"two tasks have the name {', '.join(sorted(twice))}: rename one file")
    return suite


class Measuring:
    """Asks `before` and then `after`, each held by an engine while it is asked."""

    def __init__(self, api: "Api", before: str, after: str, concurrency: int, weights: Path | None) -> None:
        self.api, self.before, self.after, self.concurrency = api, before, after, concurrency
        self.weights = weights
        self.shares_before: dict[str, Any] | None = None

    def all_of(self, suite: list["Task"], asked: "Asked | None") -> dict[str, Any]:
        """What is to be kept as evidence, by name."""
        found = {"tax": self.suite(suite)} if suite else {}
        return found | ({"tax_harness": self.harness(asked)} if asked is not None else {})

    def suite(self, tasks: list["Task"]) -> dict[str, Any]:
        """The tax on these tasks, with what was asked of whom and when."""
        import asyncio

        from deploy.command.output import progress_bar
        from feedback.tax import measuring

        answers = []
        for version in (self.before, self.after):
            self.load(version)
            with progress_bar() as bar:
                row = bar.add_task(f"asking {version}", total=sum(len(task.items) for task in tasks))

                def show(done: int, _of: int, bar: "Progress" = bar, row: "TaskID" = row) -> None:
                    bar.update(row, completed=done)

                model, many = f"tandem@{version}", self.concurrency
                asking = measuring.ask(self.api.url, self.api.key, model, tasks, concurrency=many, on_progress=show)
                answers.append(asyncio.run(asking))
        return self.said(measuring.compare(*answers)) | {"questions_digest": measuring.digest_of(tasks)}

    def harness(self, asked: "Asked") -> dict[str, Any]:
        """The tax on tasks of lm-eval."""
        from feedback.tax import harness

        results = []
        for version in (self.before, self.after):
            if self.weights is None:
                self.load(version)
            results.append(harness.run(asked, self.target(version)))
        return self.said(harness.compare(*results))

    def target(self, version: str) -> "Target":
        from feedback.tax.harness import Target

        weights = None if self.weights is None else self.weights / version
        return Target(f"tandem@{version}", self.api.url, self.api.key, weights, self.concurrency)

    def said(self, found: dict[str, Any]) -> dict[str, Any]:
        import time

        return {"before": self.before, "after": self.after, "measured_at": time.time(), **found}

    def load(self, version: str) -> None:
        """Have an engine hold `version`, as a challenger without a share. Raises Conflict where another one has one."""
        from deploy.command.api import route

        if self.api.get(route("policies", version))["loaded"]:
            return
        shares = self.api.get("/v1/traffic")
        if shares["challenger"] not in (None, version) and (shares["chat_share"] or shares["comparison_share"]):
            raise Conflict(
                f"{version} is not loaded, and the other engine is for the challenger {shares['challenger']}; "
                "end its shares first"
            )
        self.shares_before = self.shares_before or shares
        body = {"challenger": version, "chat_share": 0.0, "comparison_share": 0.0}
        self.api.call("PUT", "/v1/traffic", json=body, timeout=LOAD_TIMEOUT_S)

    def leave(self) -> None:
        """Leave the shares as they were found; the other engine goes back to what it holds by them."""
        if self.shares_before is not None:
            self.api.call("PUT", "/v1/traffic", json=self.shares_before, timeout=LOAD_TIMEOUT_S)


def print_tax(name: str, figures: dict[str, Any]) -> None:
    """Each task before and after, and the drop with its interval."""
    from deploy.command.output import print_table

    rows: list[tuple[object, ...]] = [
        (task, one["questions"], share(one["before"]), share(one["after"]), drop(one["drop"]))
        for task, one in figures["tasks"].items()
    ]
    rows.append(("mean", None, None, None, drop(figures["drop"])))
    print_table((name.upper().replace("_", " "), "QUESTIONS", figures["before"], figures["after"], "DROP"), rows)
    print()


def print_figures(policy: dict[str, Any]) -> None:
    """Every figure of the evidence that has a name."""
    from deploy.command.output import print_table
    from feedback.figures import NAMES, figures_of

    figures = figures_of(policy["evidence"])
    known = {name: figures[name] for name in NAMES if name in figures}
    rows = [
        (name, None if found.value is None else f"{found.value:.3g}", ends(found.interval))
        for name, found in known.items()
    ]
    if rows:
        print_table(("FIGURE", "VALUE", "INTERVAL"), rows)


def share(measured: dict[str, float]) -> str:
    return f"{measured['value']:.3f} ± {measured['stderr']:.3f}"


def drop(measured: dict[str, Any]) -> str:
    return f"{measured['value']:+.3f} ({ends(measured['interval'])})"


def ends(interval: Any) -> str | None:
    return None if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
