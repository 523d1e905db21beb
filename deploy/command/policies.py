"""`tandem policies`: what has been trained, what serves, and changing it."""

from typing import Annotated, Any

import typer

from deploy.command.options import MOST, ApiKey, Home, Json, Limit, Url

app = typer.Typer(help="List policy versions, promote one, roll back.", no_args_is_help=True)

Version = Annotated[str, typer.Argument(metavar="VERSION", help="A policy version, such as v1.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the promotion.")]
Force = Annotated[bool, typer.Option("--force", help="Do it even where the evidence speaks against it.")]
InsteadOf = Annotated[
    str | None,
    typer.Option(
        metavar="VERSION",
        help="Only while this version serves: what somebody else has changed meanwhile is left alone.",
    ),
]

# Every engine in turn loads, verifies and probes the version.
PROMOTION_TIMEOUT_S = LOAD_TIMEOUT_S = 1800.0
DIGEST_SHOWN = 12


@app.command("list")
def list_policies(json: Json = False, home: Home = None, url: Url = None, key: ApiKey = None) -> None:
    """List every policy version, the newest first."""
    from deploy.command.api import open_api
    from deploy.command.output import print_json, print_table, when

    with open_api(home, url, key) as api:
        policies = list(api.pages("/v1/policies"))
    if json:
        print_json(policies)
        return
    rows = [
        (
            policy["version"],
            policy["state"],
            "yes" if policy["loaded"] else "no",
            policy["parent"],
            when(policy["created"]),
            policy["digest"][:DIGEST_SHOWN],
        )
        for policy in policies
    ]
    print_table(("VERSION", "STATE", "LOADED", "PARENT", "CREATED", "DIGEST"), rows)


@app.command("show")
def show(
    version: Version,
    everything: Annotated[bool, typer.Option("--all", help="All evidence and settings, too.")] = False,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Show where a version comes from, what the gate says of it, and what can be done with it."""
    from deploy.command.api import open_api, route
    from deploy.command.output import print_json, say

    with open_api(home, url, key) as api:
        policy = api.get(route("policies", version))
    if json:
        print_json(policy)
        return
    long = {name: policy.pop(name) for name in ("evidence", "settings")}
    gate = policy.pop("gate")
    print("\n".join(outline(policy | (long if everything else {}))))
    print_gate(gate)
    for line in next_steps(policy, gate):
        say(line)


def print_gate(gate: dict[str, Any]) -> None:
    """Each rule with its figure; what stops nothing is called advice."""
    from deploy.command.output import print_table

    rows = []
    for rule in gate["rules"]:
        interval = " to ".join(f"{end:.3f}" for end in rule["interval"]) if rule["interval"] else None
        figures = (None if rule[name] is None else f"{rule[name]:.3f}" for name in ("value", "bound"))
        verdict = rule["verdict"].replace("_", " ")
        rows.append(
            (rule["rule"], verdict if rule["blocks"] else f"{verdict} (advice)", *figures, interval, rule["note"])
        )
    if rows:
        print()
        print_table(("GATE", "VERDICT", "FIGURE", "BOUND", "INTERVAL", "NOTE"), rows)


def next_steps(policy: dict[str, Any], gate: dict[str, Any]) -> list[str]:
    """What an operator may do with a version now."""
    version, rules = policy["version"], gate["rules"]
    lines = []
    if policy["state"] == "serving":
        if policy["rollback_to"]:
            back = f'`tandem policies rollback --instead-of {version} --reason "..."`'
            lines.append(f"It serves; {back} goes back to {policy['rollback_to']}.")
        else:
            lines.append("It serves; there is no earlier version to roll back to.")
    elif gate["passes"]:
        lines.append(f'It may be promoted: `tandem policies promote {version} --reason "..."`.')
    else:
        found = [rule["rule"] for rule in rules if rule["blocks"] and rule["verdict"] == "fail"]
        lines.append(
            f"The gate refuses it: {', '.join(found) or 'not enough was measured'}. More votes and another iteration"
            f' may do better; `tandem policies promote {version} --force --reason "..."` overrules it, which is kept.'
        )
    if policy["state"] != "serving" and any(rule["verdict"] == "not_measured" for rule in rules):
        lines.append(
            f"`tandem evaluate {version}` measures what it can; live votes come in when it is the challenger (the page"
            " Operate, or PUT /v1/traffic)."
        )
    if rules:
        lines.append(f"`--all` prints all evidence; `tandem report {version}` draws it.")
    return lines


@app.command("votes")
def list_votes(
    version: Version,
    limit: Limit = MOST,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """List the votes that a version was made of, the newest first, and what each was used for."""
    from itertools import islice

    from deploy.command.api import open_api, route
    from deploy.command.output import VOTE_COLUMNS, print_json, print_table, vote_cells

    with open_api(home, url, key) as api:
        votes = list(islice(api.pages(route("policies", version, "votes")), limit))
    if json:
        print_json(votes)
        return
    rows = [(*vote_cells(vote), vote["split"], f"{vote['used_revision']} of {vote['revision']}") for vote in votes]
    print_table((*VOTE_COLUMNS, "SPLIT", "REVISION"), rows)


@app.command("promote")
def promote(
    version: Version,
    reason: Reason = "",
    force: Force = False,
    instead_of: InsteadOf = None,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Have a version serve, without dropping a request; returns when every engine serves it.

    It has to pass the gate (`gate.rules` in the settings), or be forced with a reason. If it cannot be loaded, the one
    that served goes on serving.
    """
    change_serving((version, "promote"), reason, force, instead_of, json, home, url, key)


@app.command("rollback")
def rollback(
    reason: Reason = "",
    force: Force = False,
    instead_of: InsteadOf = None,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Go back to the version that served before."""
    change_serving(("rollback",), reason, force, instead_of, json, home, url, key)


@app.command("upload")
def upload(json: Json = False, home: Home = None) -> None:
    """Put the weights that are in the home into the object storage of `policies_url`, checked; for a home that had none
    before. What is there already is left as it is, and what the learner publishes goes there by itself.
    """
    from deploy.command.output import print_json, say, talk
    from deploy.command.record import open_record
    from feedback import policy_weights

    with open_record(home, must_exist=True) as (store, settings), talk().status("putting weights into the storage"):
        versions = policy_weights.upload(store, settings)
    if json:
        print_json({"versions": versions})
    else:
        say(f"in the object storage: {', '.join(versions) or 'nothing'}")


def change_serving(
    decision: tuple[str, ...],
    reason: str,
    force: bool,
    instead_of: str | None,
    json: bool,
    home: Home,
    url: Url,
    key: ApiKey,
) -> None:
    """Ask for another version to serve, and say which one does."""
    from deploy.command.api import open_api, route
    from deploy.command.output import print_json, talk

    with open_api(home, url, key) as api, talk().status("changing what serves"):
        body = {"reason": reason, "force": force, "instead_of": instead_of}
        change = api.call("POST", route("policies", *decision), json=body, timeout=PROMOTION_TIMEOUT_S)
    if json:
        print_json(change)
    elif change["changed"]:
        print(f"{change['version']} serves, in place of {change['previous']}")
        if change["behind"]:
            print(f"not yet on {', '.join(change['behind'])}, which serves nothing until it does")
    else:
        print(f"{change['version']} serves already")


def outline(value: dict[str, Any], indent: str = "") -> list[str]:
    """An object as indented lines, for reading."""
    from deploy.command.output import clean, when

    lines = []
    for name, part in value.items():
        if name == "created":
            lines.append(f"{indent}{name}: {when(part)}")
        elif isinstance(part, dict) and part:
            lines += [f"{indent}{name}:", *outline(part, f"{indent}  ")]
        elif isinstance(part, list) and part and all(isinstance(each, dict) for each in part):
            lines.append(f"{indent}{name}:")
            for each in part:
                first, *rest = outline(each, f"{indent}    ")
                lines += [f"{indent}  - {first.strip()}", *rest]
        else:
            said = ", ".join(map(clean, part)) if isinstance(part, list) else clean(rounded(part))
            lines.append(f"{indent}{name}: {said or '-'}")
    return lines


def rounded(value: object) -> object:
    """Figures to four digits: what a person compares."""
    if isinstance(value, float) and abs(value) < 1e6:
        return f"{value:.4g}"
    return "-" if value in ({}, []) else value
