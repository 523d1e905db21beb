"""The built-in world: prompts with a gold judge, simulated raters, and the figures they give."""
