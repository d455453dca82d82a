"""What the vision tower costs, and what is left of its features, when units that did not change are not encoded again."""
