// Asks for a reply, or for two to compare, and hands on what is written as it comes.
import { Refused, request } from "../api.js";

/**
 * Stream a chat completion of `asked`: messages, and sampling settings. `onText(index, text)` gets each piece. Answers how
 * it ended: `{comparison, version, finished}`, the last by index. Raises Refused, or AbortError when `signal` says stop.
 */
export async function stream(asked, { n = 1, signal, onText }) {
  const answer = await request(
    "POST",
    "/v1/chat/completions",
    { model: "tandem", ...asked, n, stream: true },
    { signal },
  );
  const end = { comparison: null, version: null, finished: [] };
  for await (const data of eventData(answer.body)) {
    if (data === "[DONE]") return end;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refused(502, chunk.error.message, chunk.error.code);
    end.comparison = chunk.comparison_id ?? end.comparison;
    end.version = chunk.system_fingerprint ?? end.version;
    for (const choice of chunk.choices) {
      if (choice.delta.content) onText(choice.index, choice.delta.content);
      if (choice.finish_reason) end.finished[choice.index] = choice.finish_reason;
    }
  }
  throw new Refused(0, "the connection was lost in the middle of it", "broken_stream");
}

/** The data of each server-sent event in a body. */
async function* eventData(body) {
  let pending = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await next(reader);
      if (done) return;
      pending += value;
      const events = pending.split("\n\n");
      pending = events.pop();
      for (const event of events) {
        if (event.startsWith("data: ")) yield event.slice(6);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** What comes next. A connection that went in the middle of it is an end, too; who waits for more finds it too early. */
async function next(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return { done: true };
  }
}
