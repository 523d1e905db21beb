// The vote on two replies of a chat: the better one is what the conversation goes on with.
import { call, forgiveRefusal, get, whyRefused } from "../api.js";
import { Ballot } from "../ballot.js";

/**
 * The ballot on a `pair` that has been written, whose replies `finished` so. `onChosen(turn)` gets the one that goes on: the
 * first where nobody voted, which in an attack there is no way to.
 */
export function choice({ objective, pair, finished, comparison, optional, onChosen }) {
  const goOn = (side, { versions, vote, unstored } = {}) =>
    onChosen({
      role: "assistant",
      content: pair.texts[side],
      other: { content: pair.texts[1 - side], version: versions?.[1 - side] },
      version: versions?.[side],
      cut: finished[side] === "length",
      ...(vote && { vote, comparison }),
      unstored,
    });
  const ballot = new Ballot({
    objective,
    texts: () => pair.texts,
    onMark: (side) => pair.mark(side),
    skipLabel: "Go on with A",
    onSkip: optional ? () => goOn(0) : null,
    onCast: async (vote) => {
      const better = vote.preferred === 1 ? 1 : 0;
      try {
        await call("PUT", `/v1/comparisons/${comparison}/vote`, { objective, ...vote });
      } catch (error) {
        const why = whyRefused(error);
        // The pair was erased: no later try can succeed.
        if (error.status === 409) return goOn(better, { unstored: why });
        ballot.over = false;
        if (ballot.skipped) ballot.skip();
        else ballot.say(`Not stored: ${why}. Try again.`);
        return null;
      }
      const { versions } = await get(`/v1/comparisons/${comparison}`).catch(forgiveRefusal);
      return goOn(better, { versions, vote });
    },
  });
  return ballot;
}
