// The vote on two replies of a chat: the better one is what the conversation goes on with.
import { call, forgiveRefusal, get, Refused } from "../api.js";
import { Ballot } from "../ballot.js";

/**
 * The ballot on a `pair` that has been written, whose replies `finished` so. `onChosen(turn)` gets the one that goes on: the
 * first where nobody voted, which in an attack there is no way to.
 */
export function choice({ objective, pair, finished, comparison, optional, onChosen }) {
  const goOn = (side, { versions, vote } = {}) =>
    onChosen({
      role: "assistant",
      content: pair.texts[side],
      other: { content: pair.texts[1 - side], version: versions?.[1 - side] },
      version: versions?.[side],
      cut: finished[side] === "length",
      ...(vote && { vote, comparison }),
    });
  const ballot = new Ballot({
    objective,
    texts: () => pair.texts,
    onMark: (side) => pair.mark(side),
    skipLabel: "Go on with A",
    onSkip: optional ? () => goOn(0) : null,
    onCast: async (vote) => {
      try {
        await call("PUT", `/v1/comparisons/${comparison}/vote`, { objective, ...vote });
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        ballot.over = false;
        if (ballot.skipped) ballot.skip();
        else ballot.say(`Not stored: ${error.message}. Try again.`);
        return;
      }
      const { versions } = await get(`/v1/comparisons/${comparison}`).catch(forgiveRefusal);
      goOn(vote.preferred === 1 ? 1 : 0, { versions, vote });
    },
  });
  return ballot;
}
