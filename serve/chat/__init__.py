"""Chat completions: OpenAI's request in, one reply or a comparison out, every reply recorded."""
