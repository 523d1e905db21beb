"""The vLLM engines behind the API process: one client each, a pool of slots, and changing what they serve."""
