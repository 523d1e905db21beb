"""The peers that learning is measured beside: scripts that run in environments of their own, and know nothing of us."""
