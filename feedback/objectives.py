"""What votes are cast under, and the score that learns from all of them."""

OBJECTIVES = ("helpful", "harmless")
OVERALL = "overall"
