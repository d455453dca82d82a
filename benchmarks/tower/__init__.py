"""What the vision tower costs, and what is left of its features, when units without change are not encoded."""
