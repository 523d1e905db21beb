"""The API process: chat, comparisons, votes, policies, the web page. Talks HTTP to vLLM."""
