"""`tandem ratings`: how the versions compare by the votes, also controlled for length. On the record itself."""

from typing import TYPE_CHECKING

from deploy.command.options import Home, Json

if TYPE_CHECKING:
    from feedback.ratings import Rating


def ratings(json: Json = False, home: Home = None) -> None:
    """Show how the versions compare by the votes: on the Elo scale with 95 % intervals, under each objective.

    Beside each rating stands what is left of it where both replies are as long.
    """
    from deploy.command.output import print_json, print_table, say
    from deploy.command.record import open_record
    from feedback import length_controlled, ratings
    from feedback.schema import version_name

    with open_record(home, must_exist=True) as (store, _):
        plain, controlled = store.read(ratings.current), store.read(length_controlled.current)
    if json:
        print_json(
            {
                objective: {
                    "ratings": [rating.as_json() for rating in rated],
                    "length_controlled": controlled[objective].as_json(),
                }
                for objective, rated in plain.items()
            }
        )
        return
    rows = []
    for objective, rated in plain.items():
        beside = {rating.version: rating for rating in controlled[objective].ratings}
        rows += [
            (objective, version_name(one.version), *said(one), *said(beside.get(one.version)), one.votes)
            for one in rated
        ]
    if not rows:
        say("There is nothing to rate yet: it takes votes on pairs of two versions, such as after a promotion.")
        return
    print_table(("OBJECTIVE", "VERSION", "ELO", "INTERVAL", "AS LONG", "INTERVAL", "VOTES"), rows)
    for objective, found in controlled.items():
        if found.twice_as_long is not None and found.interval is not None:
            low, high = found.interval
            worth = f"{found.twice_as_long:+.0f} ({low:+.0f} to {high:+.0f})"
            say(f"Under {objective} it is worth {worth} Elo to be twice as long as the other reply.")


def said(rating: "Rating | None") -> tuple[str | None, str | None]:
    if rating is None or rating.elo is None or rating.low is None or rating.high is None:
        return None, None
    return f"{rating.elo:+.0f}", f"{rating.low:+.0f} to {rating.high:+.0f}"
