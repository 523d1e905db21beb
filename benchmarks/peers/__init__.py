"""The peers that learning is measured beside: scripts that run in environments of their own, and share with us but the
clock.
"""
